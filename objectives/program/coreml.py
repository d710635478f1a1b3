"""What does Core ML itself answer?  The executor's interface on top of `coremltools.models.MLModel`, macOS only.

Written against the signatures of coremltools 9.0 (`MLModel(path, compute_units=...)`, `predict({name: PIL image or
array})`, `last_predict_duration_in_nano_seconds`); the project's own tests run on Linux, with a stand-in for the
native part. A load that fails does not raise there: `MLModel` warns and has no compiled model.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coreml_pareto.objectives.program.loader import load
from coreml_pareto.objectives.program.program import ImageInput, Program
from coreml_pareto.spaces.errors import UserError

COMPUTE_UNITS = ("ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")


@dataclass(frozen=True)
class Clocked:
    """Milliseconds of one prediction: as Python saw it, and as Core ML's own clock did (None where it is silent)."""

    wall_ms: float
    coreml_ms: float | None


class CoreMLRunner:
    """Runs a package on this Mac, image by image."""

    def __init__(self, path: Path, compute_units: str = "ALL") -> None:
        """Compile and load the package; UserError off macOS and for unknown compute units."""
        if compute_units not in COMPUTE_UNITS:
            raise UserError(f"compute units are {', '.join(COMPUTE_UNITS)}; came '{compute_units}'")
        if platform.system() != "Darwin":
            raise UserError("Core ML runs on macOS only; use Executor, which runs the same package on any system")
        self.program = load(path)
        self._model = _loaded(path, compute_units)

    def run(self, images: np.ndarray[Any, Any] | torch.Tensor, fetch: Sequence[str] = ()) -> dict[str, torch.Tensor]:
        """As `Executor.run`; Core ML shows no inner values, so `fetch` must be empty."""
        hidden = set(fetch) - set(self.program.output)
        if hidden:
            raise UserError(f"Core ML returns outputs only; use Executor to see {', '.join(sorted(hidden))}")
        feature = self.program.input
        rows = [self._model.predict({feature.name: as_feature(self.program, image)}) for image in np.asarray(images)]
        return {name: torch.stack([self._tensor(name, row) for row in rows]) for name in self.program.output}

    def clocked(self, image: np.ndarray[Any, Any]) -> Callable[[], Clocked]:
        """A function that predicts this image once and says how long that took; the input is prepared here, once."""
        data = {self.program.input.name: as_feature(self.program, image)}

        def once() -> Clocked:
            started = time.perf_counter()
            self._model.predict(data)
            wall = time.perf_counter() - started
            own = self._model.last_predict_duration_in_nano_seconds
            return Clocked(1000 * wall, None if own is None else own / 1e6)

        return once

    def _tensor(self, name: str, row: dict[str, Any]) -> torch.Tensor:
        value, labels = row[name], self.program.labels
        if labels is not None and isinstance(value, dict):
            texts = {str(label): probability for label, probability in value.items()}
            return torch.tensor([texts[label] for label in labels], dtype=torch.float32)
        if labels is not None and str(value) in labels:
            return torch.tensor(labels.index(str(value)))
        kind = self.program.types[name]
        array = torch.as_tensor(np.asarray(value))
        return array[0] if kind.shape[:1] == (1,) else array


def as_feature(program: Program, image: np.ndarray[Any, Any]) -> Any:
    """One input as `MLModel.predict` takes it: uint8 [height, width, 3] for an image, else a tensor without its batch."""
    feature = program.input
    if not isinstance(feature, ImageInput):
        leading = feature.type.shape[:1] == (1,)
        return image[None] if leading else image
    from PIL import Image

    picture = Image.fromarray(image)
    # A BGR feature takes an RGB picture too: Core ML orders the channels itself.
    return picture.convert("L") if feature.color_layout.startswith("GRAYSCALE") else picture


def _loaded(path: Path, compute_units: str) -> Any:
    """An `MLModel` that Core ML has really loaded.

    Raises:
        UserError: Core ML refused it; coremltools only warns of that.
    """
    from coreml_pareto.objectives.program.quiet import coremltools, quiet

    with quiet(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = coremltools.models.MLModel(str(path), compute_units=getattr(coremltools.ComputeUnit, compute_units))
        try:
            model.get_compiled_model_path()
        except Exception as error:  # coremltools raises bare exceptions
            said = " ".join(str(warning.message) for warning in told) or str(error)
            raise no_load(path, compute_units, said.rpartition("Underlying exception message was: ")[2]) from error
    return model


def no_load(path: Path, compute_units: str, said: object) -> UserError:
    """Core ML did not load the package; `said` are its own words."""
    return UserError(
        f"Core ML must load a package before it runs; {path.name} on {compute_units}: {' '.join(str(said).split())}; try "
        "other --compute-units, or convert for an older system"
    )
