"""Does Core ML answer as the executor does?  Scores, logits, top-1, and the first operation that differs.

Every accuracy of this project is the executor's, so where Core ML computes something else, on any compute units, the
accuracies do not hold there. Scores and top-1 come from the package as it is; logits from a twin that lets them out;
the first operation that differs from a twin that lets every value out, run on the image whose logits differ most. An
operation differs where the signal-to-noise ratio of its value, the executor's taken as the signal, falls below a limit.
Core ML computes in half precision, the executor in single: healthy values lie at 40 dB and above.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.accuracy import hits
from coreml_pareto.objectives.program import CoreMLRunner, Executor, Program
from coreml_pareto.objectives.program.twin import visible, with_outputs
from coreml_pareto.spaces.errors import UserError

LEAST_DB: Final = 30.0
MOST_DB: Final = 999.0
"""Stands for no difference at all, and with a minus for values that are no numbers."""
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Expected:
    """What the executor answers to n inputs, and the right classes."""

    inputs: Array
    targets: NDArray[np.int64]
    scores: Array
    logits: Array


@dataclass(frozen=True)
class First:
    """The first operation whose value differs: its kind, the value's name, and how far it is off."""

    kind: str
    value: str
    db: float
    checked: int
    unseen: int


@dataclass(frozen=True)
class Agreement:
    """Core ML against the executor on one choice of compute units; `same_top1` and accuracies are shares of images."""

    compute_units: str
    images: int
    same_top1: float
    top1: float
    executor_top1: float
    scores_off: float
    logits_off: float | None
    logits_db: float | None
    first: First | None
    notes: tuple[str, ...]


def expected(program: Program, inputs: Array, targets: NDArray[np.int64]) -> Expected:
    """Run the executor.

    Raises:
        UserError: no scores for classes, or an operation that the executor does not know.
    """
    scores = program.scores
    if scores is None:
        raise UserError(
            f"top-1 needs one score per class; {program.path.name} has none; convert it with a classifier head"
        )
    logits = program.logits or scores
    found = Executor(program).run(inputs, fetch=(scores, logits))
    rows = {name: np.asarray(found[name], np.float64).reshape(len(inputs), -1) for name in (scores, logits)}
    return Expected(inputs, targets, rows[scores], rows[logits])


def compare(program: Program, reference: Expected, compute_units: str, least_db: float = LEAST_DB) -> Agreement:
    """Run Core ML on the same inputs.

    Raises:
        UserError: Core ML does not load or run the package as it is; where only a twin fails, a note says so.
    """
    with tempfile.TemporaryDirectory() as folder:
        answers = _answers(CoreMLRunner(program.path, compute_units), reference.inputs)
        scores = np.asarray(answers[_output(program)], np.float64).reshape(reference.scores.shape)
        logits, notes = _logits(program, reference, compute_units, Path(folder))
        db = None if logits is None else ratio_db(reference.logits, logits)
        first = None
        if logits is not None and db is not None and db < least_db:
            worst = int(np.argmax(np.abs(np.nan_to_num(reference.logits - logits, nan=np.inf)).max(axis=1)))
            first = _first(program, reference.inputs[worst : worst + 1], compute_units, least_db, Path(folder))
    ours, theirs = reference.scores.argmax(axis=1), np.nan_to_num(scores, nan=-np.inf).argmax(axis=1)
    return Agreement(
        compute_units=compute_units,
        images=len(ours),
        same_top1=float((ours == theirs).mean()),
        top1=float((theirs == reference.targets).mean()),
        executor_top1=float(hits(reference.scores, reference.targets).top1.mean()),
        scores_off=_largest(reference.scores, scores),
        logits_off=None if logits is None else _largest(reference.logits, logits),
        logits_db=db,
        first=first,
        notes=tuple(notes),
    )


def ratio_db(signal: Array, value: Array) -> float:
    """10 log10 of the signal's power over that of the difference, within ±999."""
    noise = float(((signal - value) ** 2).sum())
    power = float((signal**2).sum())
    if not math.isfinite(noise):
        return -MOST_DB
    if noise == 0:
        return MOST_DB
    return max(-MOST_DB, min(MOST_DB, 10 * math.log10(power / noise))) if power else -MOST_DB


def _largest(signal: Array, value: Array) -> float:
    """The largest difference; numbers that JSON has no word for become the largest float."""
    return float(np.nan_to_num(np.abs(signal - value), nan=np.inf).max().clip(max=np.finfo(np.float64).max))


def _output(program: Program) -> str:
    """Where the package itself gives its scores: a classifier names them anew."""
    if program.scores in program.output or program.classifier is None:
        return str(program.scores)
    return next(name for name, kind in program.classifier.outputs if kind.dtype == "dictionary")


def _answers(runner: CoreMLRunner, inputs: Array) -> Mapping[str, Any]:
    try:
        return runner.run(inputs)
    except UserError:
        raise
    except Exception as error:  # coremltools raises bare exceptions and RuntimeErrors of Core ML's text
        raise UserError(
            f"Core ML must run a package to be compared; {runner.program.path.name} failed: {' '.join(str(error).split())}; "
            "try other --compute-units"
        ) from error


def _logits(
    program: Program, reference: Expected, compute_units: str, folder: Path
) -> tuple[Array | None, tuple[str, ...]]:
    """The logits that Core ML computes, or a note of why they cannot be had."""
    name = program.logits or str(program.scores)
    try:
        found = _values(program, (name,), reference.inputs, compute_units, folder / "logits.mlpackage")[name]
    except UserError as error:
        return None, (f"logits could not be read: {error}",)
    return np.asarray(found, np.float64).reshape(reference.logits.shape), ()


def _values(program: Program, names: Sequence[str], inputs: Array, compute_units: str, twin: Path) -> Mapping[str, Any]:
    return _answers(CoreMLRunner(with_outputs(program, names, twin), compute_units), inputs)


def _first(program: Program, image: Array, compute_units: str, least_db: float, folder: Path) -> First | None:
    """Values are compared in program order, so that everything which the first differing one reads agrees."""
    names = visible(program)
    theirs = _halved(program, names, image, compute_units, folder)
    seen = [name for name in names if name in theirs]
    ours = Executor(program).run(image, fetch=seen)
    for checked, name in enumerate(seen, start=1):
        db = ratio_db(np.asarray(ours[name], np.float64).ravel(), np.asarray(theirs[name], np.float64).ravel())
        if db < least_db:
            return First(program.producers[name].kind, name, db, checked, len(names) - len(seen))
    return None


def _halved(program: Program, names: Sequence[str], image: Array, compute_units: str, folder: Path) -> dict[str, Any]:
    """As many of the values as Core ML lets out: where it refuses, each half is tried by itself."""
    twin = folder / f"{names[0]}-{len(names)}.mlpackage"
    try:
        return dict(_values(program, names, image, compute_units, twin))
    except UserError:
        if len(names) == 1:
            return {}
    middle = len(names) // 2
    halves = (names[:middle], names[middle:])
    return {
        key: value for half in halves for key, value in _halved(program, half, image, compute_units, folder).items()
    }
