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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from coreml_pareto.objectives.devices.measurements import Details, Record
from coreml_pareto.objectives.measuring import placement, power, records
from coreml_pareto.objectives.measuring.conditions import Conditions, conditions, require_full_speed
from coreml_pareto.objectives.measuring.footprint import Watch
from coreml_pareto.objectives.measuring.protocol import Protocol, Series, run
from coreml_pareto.objectives.program import CoreMLRunner, ImageInput, Program, content_digest, load
from coreml_pareto.objectives.program.coreml import as_feature, no_load
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.objectives.devices.catalogue import ComputeUnits

HARNESS: Final = "coreml-pareto measure 1"
"""This stopwatch: Core ML's own clock around coremltools' `MLModel.predict`, one input at a time, back to back."""
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


def measure(path: Path, compute_units: str, protocol: Protocol, *, with_energy: bool = True) -> Record:
    """The record of one package on one choice of compute units.

    Raises:
        UserError: Core ML does not load or run it, or the machine was hot or saving power.
    """
    require_full_speed(conditions())
    program = load(path)
    image, warnings = noise(program), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        seen = _compiled(program, compute_units, image, Path(folder), warnings)
    once = CoreMLRunner(path, compute_units).clocked(image)
    series, after = run(once, protocol), conditions()
    require_full_speed(after)
    warnings += _unusual(series, protocol)
    energy = _energy(once, warnings) if with_energy else None
    return Record(
        digest=content_digest(program),
        **records.this_mac(),
        harness=HARNESS if series.by_core_ml else f"{HARNESS}, Python's clock",
        compute_units=cast("ComputeUnits", compute_units),
        **records.timings(series, protocol),
        load1_ms=seen.load1_ms,
        load2_ms=seen.load2_ms,
        **_conditions(after),
        operations=records.placement_of(seen.plan),
        measured_at=records.now(),
        details=Details(
            **records.rounds(series),
            footprint_bytes=seen.footprint_bytes,
            energy=energy,
            plan=seen.plan,
            warnings=tuple(warnings),
            tools=records.tool_versions(),
        ),
    )


def _unusual(series: Series, protocol: Protocol) -> Iterator[str]:
    if not series.stable:
        yield f"the warm-up never settled: no {protocol.agreeing} of {series.warm_up} predictions in a row agree"
    for words in series.failures:
        yield f"a prediction failed and was repeated: {words}"


def _conditions(after: Conditions | None) -> dict[str, Any]:
    """Thermal state and low-power mode, null where the system does not tell."""
    thermal = after.thermal if after is not None and after.thermal in ("nominal", "fair") else None
    return {"thermal": thermal, "low_power": None if after is None else after.low_power}


def noise(program: Program) -> np.ndarray[Any, Any]:
    """One input of random values: constant pictures may cost less."""
    feature, random = program.input, np.random.default_rng(0)
    if isinstance(feature, ImageInput):
        return random.integers(0, 256, (feature.height, feature.width, 3)).astype(np.uint8)
    shape = feature.type.shape[1:] if feature.type.shape[:1] == (1,) else feature.type.shape
    if feature.type.dtype.startswith("fp"):
        return random.normal(size=shape).astype(np.float32)
    return np.zeros(shape, np.int32)


@dataclass(frozen=True)
class _Seen:
    """What the compiled model tells: two loads, the rise of the footprint, the compute plan (empty without one)."""

    load1_ms: float
    load2_ms: float
    footprint_bytes: int | None
    plan: tuple[placement.Placed, ...]


def _compiled(
    program: Program, compute_units: str, image: np.ndarray[Any, Any], folder: Path, warnings: list[str]
) -> _Seen:
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
    return _Seen(first, second, memory, _plan(compiled, compute_units, warnings))


def _timed(load_it: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what was loaded."""
    started = time.perf_counter()
    model = load_it()
    return 1000 * (time.perf_counter() - started), model


def _memory(predict: Callable[[], Any], watch: Watch, warnings: list[str]) -> int | None:
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
    return rise


def _plan(compiled: str, compute_units: str, warnings: list[str]) -> tuple[placement.Placed, ...]:
    try:
        found = placement.placement(compiled, compute_units)
    except Exception as error:  # before macOS 14.4 there is none
        warnings.append(f"no compute plan, which needs macOS 14.4: {' '.join(str(error).split())}")
        return ()
    silent = sum(operation.preferred == placement.UNKNOWN for operation in found)
    if silent:
        warnings.append(f"the compute plan says no unit for {silent} of {len(found)} operations")
    return found


def _energy(predict: Callable[[], Any], warnings: list[str]) -> power.Energy | None:
    try:
        return power.energy(predict)
    except power.NoEnergy as reason:
        warnings.append(f"energy is not measured: {reason}")
    except Exception as error:  # a prediction that fails now has been timed before
        warnings.append(f"energy is not measured: {' '.join(str(error).split())}")
    return None
