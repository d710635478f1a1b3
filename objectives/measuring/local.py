"""What does a package take on this Mac, on given compute units?  Loads, latency, placement, memory, energy: one record.

The compiled model lies at one path for both loads, because Core ML keeps what it specialised for a path: the first load
specialises, the second finds it. Memory is what loads and first predictions of the compiled model add to this process;
`worker` gives every measurement a process of its own. Latency is read from coremltools' `MLModel`, whose clock stands
directly around Core ML's `predictionFromFeatures:`.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from coreml_pareto.objectives.measuring import placement, power, records
from coreml_pareto.objectives.measuring.conditions import Conditions, conditions
from coreml_pareto.objectives.measuring.footprint import Watch
from coreml_pareto.objectives.measuring.protocol import Protocol, run
from coreml_pareto.objectives.program import CoreMLRunner, ImageInput, Program, load
from coreml_pareto.objectives.program.coreml import as_feature, no_load
from coreml_pareto.spaces.errors import UserError

HARNESS: Final = "coremltools MLModel.predict from Python, one input at a time, back to back"
OTHER_WAYS: Final = (
    "a phone in hand is measured by the app that `coreml-pareto device-kit` writes, whose file "
    "`coreml-pareto import-measurements` reads"
)
_FIRST_PREDICTIONS: Final = 10


def require_macos(command: str, instead: str) -> None:
    """UserError off macOS, with what can be done there."""
    if platform.system() != "Darwin":
        raise UserError(
            f"`coreml-pareto {command}` runs Core ML, which only macOS has; this is {platform.system()}; run it on a Mac, "
            f"or {instead} here; {OTHER_WAYS}"
        )


def measure(path: Path, compute_units: str, protocol: Protocol, *, with_energy: bool = True) -> dict[str, Any]:
    """The record of one package on one choice of compute units.

    Raises:
        UserError: Core ML does not load or run it.
    """
    program = load(path)
    image, warnings = noise(program), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        found = _compiled(program, compute_units, image, Path(folder), warnings)
    runner = CoreMLRunner(path, compute_units)
    once = runner.clocked(image)
    before, series = conditions(), run(once, protocol)
    if not series.stable:
        warnings.append(
            f"the warm-up never settled: no {protocol.agreeing} of {series.warm_up} predictions in a row agree"
        )
    warnings += [f"a prediction failed and was repeated: {words}" for words in series.failures]
    found |= records.timings(series) | _conditions(before, conditions(), warnings)
    found |= {"energy": _energy(once, warnings) if with_energy else None}
    return records.record(
        path,
        compute_units,
        where=records.this_mac(),
        harness=HARNESS,
        protocol=protocol,
        found=found,
        warnings=warnings,
    )


def _conditions(before: Conditions | None, after: Conditions | None, warnings: list[str]) -> dict[str, Any]:
    """Thermal state and low-power mode around the series."""
    if any(one is not None and one.throttled for one in (before, after)):
        warnings.append("the device was hot or saving power: it is slower than it can be; measure again when it is not")
    told = {"before": before, "after": after}
    return {"conditions": {name: None if one is None else asdict(one) for name, one in told.items()}}


def noise(program: Program) -> np.ndarray[Any, Any]:
    """One input of random values: constant pictures may cost less."""
    feature, random = program.input, np.random.default_rng(0)
    if isinstance(feature, ImageInput):
        return random.integers(0, 256, (feature.height, feature.width, 3)).astype(np.uint8)
    shape = feature.type.shape[1:] if feature.type.shape[:1] == (1,) else feature.type.shape
    if feature.type.dtype.startswith("fp"):
        return random.normal(size=shape).astype(np.float32)
    return np.zeros(shape, np.int32)


def _compiled(
    program: Program, compute_units: str, image: np.ndarray[Any, Any], folder: Path, warnings: list[str]
) -> dict[str, Any]:
    """Two loads, memory and plan of the compiled model."""
    from coreml_pareto.objectives.program.quiet import coremltools

    units = getattr(coremltools.ComputeUnit, compute_units)
    data = {program.input.name: as_feature(program, image)}
    try:
        compiled = coremltools.models.utils.compile_model(str(program.path), str(folder / "model.mlmodelc"))
        watch = Watch()
        first, model = _timed(lambda: coremltools.models.CompiledMLModel(compiled, units))
        watch.look()
        del model
        second, model = _timed(lambda: coremltools.models.CompiledMLModel(compiled, units))
    except Exception as error:  # coremltools raises bare exceptions and RuntimeErrors of Core ML's text
        raise no_load(program.path, compute_units, error) from error
    memory = _memory(lambda: model.predict(data), watch, warnings)
    return {
        "first_load": {"unit": "ms", "value": first},
        "second_load": {"unit": "ms", "value": second},
        "peak_footprint": memory,
        "placement": records.placed(_plan(compiled, compute_units, warnings)),
    }


def _timed(load_it: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what was loaded."""
    started = time.perf_counter()
    model = load_it()
    return 1000 * (time.perf_counter() - started), model


def _memory(predict: Callable[[], Any], watch: Watch, warnings: list[str]) -> dict[str, Any] | None:
    """A failing prediction costs the memory's figure only: whether the package runs, the protocol finds out."""
    try:
        for _ in range(_FIRST_PREDICTIONS):
            predict()
            watch.look()
    except Exception as error:
        warnings.append(f"memory is not measured: {' '.join(str(error).split())}")
        return None
    rise = watch.rise()
    if rise is None:
        warnings.append("memory is not measured: the kernel's ledger of this process could not be read")
        return None
    return {"unit": "bytes", "value": rise, "above": "the process before the first load"}


def _plan(compiled: str, compute_units: str, warnings: list[str]) -> tuple[placement.Placed, ...] | None:
    try:
        found = placement.placement(compiled, compute_units)
    except Exception as error:  # before macOS 14.4 there is none
        warnings.append(f"no compute plan, which needs macOS 14.4: {' '.join(str(error).split())}")
        return None
    silent = sum(operation.preferred == placement.UNKNOWN for operation in found)
    if silent:
        warnings.append(f"the compute plan says no unit for {silent} of {len(found)} operations")
    return found


def _energy(predict: Callable[[], Any], warnings: list[str]) -> dict[str, Any] | None:
    try:
        found = power.energy(predict)
    except power.NoEnergy as reason:
        warnings.append(f"energy is not measured: {reason}")
        return None
    except Exception as error:  # a prediction that fails now has been timed before
        warnings.append(f"energy is not measured: {' '.join(str(error).split())}")
        return None
    return {
        "unit": "mJ", "median": found.median_mj, "low": found.low_mj, "high": found.high_mj, "idle_mw": found.idle_mw,
        "method": "powermetrics, CPU + GPU + Neural Engine above idle; the tool's own estimates",
    }  # fmt: skip
