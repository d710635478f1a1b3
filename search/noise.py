"""Which packages would be on the front, had the dice fallen otherwise?  Each package's share of drawn fronts.

Top-1 on a validation split is a sample of images, estimates have errors. In each draw the images are drawn anew with
replacement (B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979), the same ones
for all packages, so that images that all find hard decide nothing; and what estimates do not share is drawn by
`objectives.errors`. A package that breaks a limit in a draw is not on that draw's front. Every package of the run takes
part in every draw; none is left out beforehand, so the shares are those of the draws, exactly.

Packages recorded before readings kept which images were right have no shares, nor has any package of their run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives import pareto
from coreml_pareto.objectives.accuracy import right_of
from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective, select
from coreml_pareto.objectives.errors import Errors, Subject, errors
from coreml_pareto.objectives.reading import Reading, as_loss
from coreml_pareto.search.choose import packages
from coreml_pareto.search.relaxation import Limits, tested_end
from coreml_pareto.search.run import Result, Run

DRAWS: Final = 1000
"""A share is known to 1.6 points (standard error) at most."""
SEED: Final = 0
_AT_ONCE: Final = 100, 500
"""Draws and packages whose images are summed together."""

Shares = Mapping[int, float]
"""Share of the draws in which a package is on the front, 0 to 1, by trial."""


@final
@dataclass(frozen=True, eq=False)
class _Drawn:
    """One objective of all packages: what its limit is held against, and each draw's values.

    Attributes:
        told: values [packages]; the worst infinity for a reading that does not exist.
        ends: what limits are held against [packages], the worse ends under `strict`.
        known: which packages have the reading.
        top1: drawn values [draws, packages] where the objective is accuracy.
        errors: of the readings that exist, in their order.
    """

    objective: Objective
    told: NDArray[np.float64]
    ends: NDArray[np.float64]
    known: NDArray[np.bool_]
    top1: NDArray[np.float64] | None
    errors: Errors | None

    def losses(self, draw: int) -> NDArray[np.float64]:
        """Of all packages in a draw."""
        if self.top1 is not None:
            return np.asarray(as_loss(self.top1[draw], self.objective))
        return np.asarray(as_loss(self._moved(self.told, draw, "between"), self.objective))

    def keeps(self, draw: int, bound: float) -> NDArray[np.bool_]:
        """Which packages keep a limit in a draw; a reading that does not exist keeps none."""
        moved = self._moved(self.ends, draw, "own")
        values = moved if self.top1 is None else self.top1[draw] + (self.ends - self.told)
        kept: NDArray[np.bool_] = as_loss(values, self.objective) <= as_loss(bound, self.objective)
        return kept & self.known

    def _moved(self, values: NDArray[np.float64], draw: int, which: str) -> NDArray[np.float64]:
        if self.errors is None:
            return values
        moved = values.copy()
        moved[self.known] *= np.exp(getattr(self.errors, which)[draw])
        return moved


def shares(
    run: Run,
    objectives: Sequence[str] | None = None,
    limits: Limits | None = None,
    strict: bool = False,
    draws: int = DRAWS,
) -> Shares:
    """Every package's share of the drawn fronts; empty where some package does not tell which images it got right.

    Args:
        run: what was found.
        objectives: names, any subset; the run's own by default.
        limits: bound by objective name; the run's own by default.
        strict: hold limits against the interval's worse end, moved as the value is.
        draws: how many; their random numbers are always the same.
    """
    results = packages(run)
    axes = run.objectives if objectives is None else select(objectives)
    bounds = run.limits if limits is None else limits
    needed = [row for row in OBJECTIVES.values() if row in axes or row.name in bounds]
    images = _images(results) if OBJECTIVES["accuracy"] in needed else ()
    if not results or images is None:
        return {}
    drawn = {row.name: _draw(row, results, run, images, strict or run.strict, draws) for row in needed}
    found = np.zeros(len(results))
    for draw in range(draws):
        kept = np.ones(len(results), bool)
        for name, bound in bounds.items():
            kept &= drawn[name].keeps(draw, bound)
        inside = np.flatnonzero(kept)
        if len(inside):
            points = np.column_stack([drawn[row.name].losses(draw)[inside] for row in axes])
            found[inside[pareto.front(points)]] += 1
    return {result.trial: float(count / draws) for result, count in zip(results, found, strict=True)}


def _images(results: Sequence[Result]) -> tuple[NDArray[np.bool_], ...] | None:
    """Which images each package got right; None where one of them does not tell, or tells of other images."""
    known = [right_of(result.score["top1"]) for result in results if "top1" in result.score]
    told = tuple(right for right in known if right is not None)
    return None if len(told) < len(results) or len({len(right) for right in told}) > 1 else told


def _draw(
    row: Objective, results: Sequence[Result], run: Run, images: Sequence[NDArray[np.bool_]], strict: bool, draws: int
) -> _Drawn:
    readings = [result.score.get(row.reading) for result in results]
    known = np.array([reading is not None for reading in readings])
    worst = float(as_loss(np.inf, row))
    told = np.array([worst if reading is None else reading.value for reading in readings], float)
    ends = np.array(
        [worst if reading is None else tested_end(row.name, reading, strict) for reading in readings], float
    )
    if row.name == "accuracy":
        return _Drawn(row, told, ends, known, top1(images, draws), None)
    existing: list[Reading] = [reading for reading in readings if reading is not None]
    with_reading = [result for result in results if row.reading in result.score]
    subjects = [Subject(result.candidate.network.digest, result.candidate.digest) for result in with_reading]
    found = errors(row.name, existing, subjects, run.target, draws) if existing else None
    return _Drawn(row, told, ends, known, None, found)


def top1(right: Sequence[NDArray[np.bool_]], draws: int = DRAWS) -> NDArray[np.float64]:
    """Top-1 of each package on images drawn with replacement, the same for all, [draws, packages]."""
    images, (_, together) = len(right[0]), _AT_ONCE
    found = np.empty((draws, len(right)))
    for rows, counts in _counts(images, draws):
        for start in range(0, len(right), together):
            part = np.stack(right[start : start + together], axis=1).astype(np.float32)
            found[rows, start : start + together] = counts @ part  # whole numbers, exact in single precision
    return found / images


def _counts(images: int, draws: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """How often each image is drawn, [draws, images], some draws at a time."""
    random, (together, _) = np.random.default_rng(SEED), _AT_ONCE
    for start in range(0, draws, together):
        rows = slice(start, min(draws, start + together))
        size = rows.stop - rows.start
        drawn = random.integers(images, size=(together, images))[:size] + images * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * images)
        yield rows, counts.reshape(size, images).astype(np.float32)
