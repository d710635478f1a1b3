"""How far is a run?  Trials by outcome, trainings, the front so far, and the volume that it dominates.

The hypervolume is shown as a share of a box that a run keeps from its first package on: errors from 0 to 1, and on every
other axis, in log, from a hundredth of the first package's reading up to ten times it. Points below the box count as on
its edge, points above add nothing, so the share only grows while results come in. It shows how a run goes; shares of two
runs are comparable only where their first package is the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from coreml_pareto.objectives.catalogue import Objective
from coreml_pareto.objectives.pareto import hypervolume
from coreml_pareto.objectives.reading import Score, losses
from coreml_pareto.search import choose
from coreml_pareto.search.outcome import kind
from coreml_pareto.search.run import Result, Run

ABOVE, BELOW = (10.0, 100.0)
"""The box: this many times the first package's reading, and this part of it."""

DIGITS = 9
"""Of a share: below these the order of the points decides."""


@final
@dataclass(frozen=True)
class Volume:
    """The box of a run; `first` are the values of its first package by the reading's name."""

    objectives: tuple[Objective, ...]
    first: Mapping[str, float]

    @classmethod
    def of(cls, objectives: Iterable[Objective], score: Score) -> Volume:
        """Return the box around a run's first package; an axis without a reading there is left out."""
        axes = tuple(row for row in objectives if row.reading in score)
        return cls(axes, {row.reading: score[row.reading].value for row in axes})

    def share(self, scores: Iterable[Score]) -> float:
        """Return which share of the box these packages dominate, 0 to 1."""
        axes = tuple(row for row in self.objectives if row.reading in self.first)
        points = [[self._place(row, loss) for row, loss in zip(axes, losses(s, axes), strict=True)] for s in scores]
        return round(hypervolume(points, [1.0] * len(axes)), DIGITS) if axes else 0.0

    def _place(self, row: Objective, loss: float) -> float:
        """Return where a loss lies in the box, 0 (best) to 1 and above."""
        if row.scale == "odds":
            return max(0.0, loss + 1.0)  # a share that is maximised: its loss is -share
        below = math.log(loss * BELOW / self.first[row.reading]) if loss > 0 else 0.0
        return max(0.0, below / math.log(ABOVE * BELOW))


@final
class Standing:
    """A run's counts, trainings, front and volume, fed with one result after the other.

    Args:
        run: what is known so far.
        first: the first package's readings, if they are on record; else those of the lowest trial.
    """

    def __init__(self, run: Run, first: Mapping[str, float] | None = None) -> None:
        self.counts = Counter(kind(result.outcome) for result in run.results)
        self.front: Sequence[Result] = choose.front(run)
        self.volume = Volume(run.objectives, first) if first else None
        self._run = replace(run, results=())
        self._trained = {result.candidate.training for result in run.scored()}
        for result in run.scored()[:1]:
            self._found(result)

    def add(self, result: Result) -> bool:
        """Count a result; return whether the front is another one now."""
        self.counts[kind(result.outcome)] += 1
        if not result.score:
            return False
        self._trained.add(result.candidate.training)
        self._found(result)
        before = [kept.trial for kept in self.front]
        self.front = choose.front(replace(self._run, results=(*self.front, result)))
        return [kept.trial for kept in self.front] != before

    @property
    def trainings(self) -> int:
        """How many networks were trained for the packages."""
        return len(self._trained)

    @property
    def hypervolume(self) -> float:
        """Share of the box that the front dominates; 0 without a package within the limits."""
        return self.volume.share(result.score for result in self.front) if self.volume else 0.0

    def _found(self, result: Result) -> None:
        if self.volume is None:
            self.volume = Volume.of(self._run.objectives, result.score)
