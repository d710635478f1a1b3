"""What does Core ML itself answer?  The executor's interface on top of `coremltools.models.MLModel`, macOS only.

Written against the signatures of coremltools 9.0 (`MLModel(path, compute_units=...)`, `predict({name: PIL image or
array})`); it has never been run by the project's own tests, which run on Linux.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coreml_pareto.objectives.program.loader import load
from coreml_pareto.objectives.program.program import ImageInput
from coreml_pareto.spaces.errors import UserError

_COMPUTE_UNITS = ("ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")


class CoreMLRunner:
    """Runs a package on this Mac, image by image."""

    def __init__(self, path: Path, compute_units: str = "ALL") -> None:
        """Compile and load the package; UserError off macOS and for unknown compute units."""
        if compute_units not in _COMPUTE_UNITS:
            raise UserError(f"compute units are {', '.join(_COMPUTE_UNITS)}; came '{compute_units}'")
        if platform.system() != "Darwin":
            raise UserError("Core ML runs on macOS only; use Executor, which runs the same package on any system")
        from coreml_pareto.objectives.program.quiet import coremltools

        self.program = load(path)
        self._model = coremltools.models.MLModel(
            str(path), compute_units=getattr(coremltools.ComputeUnit, compute_units)
        )

    def run(self, images: np.ndarray[Any, Any] | torch.Tensor, fetch: Sequence[str] = ()) -> dict[str, torch.Tensor]:
        """As `Executor.run`; Core ML shows no inner values, so `fetch` must be empty."""
        hidden = set(fetch) - set(self.program.output)
        if hidden:
            raise UserError(f"Core ML returns outputs only; use Executor to see {', '.join(sorted(hidden))}")
        feature = self.program.input
        rows = [self._model.predict({feature.name: self._feature(image)}) for image in np.asarray(images)]
        return {name: torch.stack([self._tensor(name, row) for row in rows]) for name in self.program.output}

    def seconds(self, image: np.ndarray[Any, Any], predictions: int) -> list[float]:
        """Wall-clock seconds of each of so many predictions of one image [height, width, 3], back to back."""
        data, found = {self.program.input.name: self._feature(image)}, []
        for _ in range(predictions):
            started = time.perf_counter()
            self._model.predict(data)
            found.append(time.perf_counter() - started)
        return found

    def _feature(self, image: np.ndarray[Any, Any]) -> Any:
        feature = self.program.input
        if not isinstance(feature, ImageInput):
            leading = feature.type.shape[:1] == (1,)
            return image[None] if leading else image
        from PIL import Image

        picture = Image.fromarray(image)
        # A BGR feature takes an RGB picture too: Core ML orders the channels itself.
        return picture.convert("L") if feature.color_layout.startswith("GRAYSCALE") else picture

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
