"""A finished or running search as data: its plan and one `Result` per trial, read from the run folder.

`study.py` writes these records into the Optuna study and reads them back; what people look at (`front`, `best`,
charts, tables) starts from a `Run` and never from Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import final

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective, select
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.reading import Reading, may_exceed, violation
from coreml_pareto.search.outcome import Outcome, Scored
from coreml_pareto.search.seeds import mean_top1
from coreml_pareto.search.tested import Look
from coreml_pareto.spaces.candidate import Candidate


@final
@dataclass(frozen=True)
class Result:
    """One trial: its number, what was tried, how it ended.

    `test_top1` is there for packages of the final front only: it is shown, never ranked or filtered by.
    `seconds` is the wall-clock of the trial, `parent` the key of the training whose weights its training began with.
    `repeated` has, by seed, the top-1 of packages that were made in the same way with other seeds.
    """

    trial: int
    candidate: Candidate
    outcome: Outcome
    test_top1: Reading | None = None
    seconds: float = 0.0
    parent: str | None = None
    repeated: Mapping[int, Reading] = field(default_factory=dict)

    @cached_property
    def mean_top1(self) -> Reading | None:
        """Mean over the other seeds; None where it was not trained again."""
        return mean_top1(self.repeated)

    @property
    def score(self) -> Mapping[str, Reading]:
        """The readings of a scored trial; empty for all others."""
        return self.outcome.score if isinstance(self.outcome, Scored) else {}


@final
@dataclass(frozen=True)
class Run:
    """A run folder's content.

    Attributes:
        folder: where it lies.
        study: the study's name.
        objectives: those that the search optimised.
        limits: bound by objective name, in the unit of the objective's reading.
        target: device, system and compute units of all estimates.
        classes: the labels.
        results: by trial number.
        strict: whether limits hold for the worse end of each interval.
        looks: when the test split was read, and after how many trials.
    """

    folder: Path
    study: str
    objectives: tuple[Objective, ...]
    limits: Mapping[str, float]
    target: Target
    classes: tuple[str, ...]
    results: tuple[Result, ...]
    strict: bool = False
    looks: tuple[Look, ...] = ()

    def scored(self) -> tuple[Result, ...]:
        """The trials that ended with a package."""
        return tuple(result for result in self.results if isinstance(result.outcome, Scored))

    @property
    def trainings(self) -> int:
        """How many networks were trained for the packages."""
        return len({result.candidate.training for result in self.scored()})


def broken(score: Mapping[str, Reading], limits: Mapping[str, float], *, strict: bool = False) -> tuple[str, ...]:
    """Return the objectives whose reading is known and breaks its limit; `strict` tests the interval's worse end."""
    rows = [OBJECTIVES[name] for name in limits]
    return tuple(
        row.name
        for row in rows
        if row.reading in score and violation(score[row.reading], row, limits[row.name], strict=strict) > 0
    )


def straddling(score: Mapping[str, Reading], limits: Mapping[str, float]) -> tuple[str, ...]:
    """Return the objectives whose value keeps its limit while its interval crosses it: "may exceed"."""
    rows = select(limits) if limits else ()
    return tuple(
        row.name for row in rows if row.reading in score and may_exceed(score[row.reading], row, limits[row.name])
    )
