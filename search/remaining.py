"""Which training still ends within the timeout?  Foretold from the seconds that the trainings so far took.

Seconds follow from effort (`effort.py`) by the pace of what was trained: of the same backbone where there is some, else of
all, the median. Gone is what the trials on record took, shared out among the workers. No clock enters: the same record
leads to the same choice, and where there is no timeout, no choice depends on seconds at all. Not on record, and not counted,
are reading, planning, and what a kill lost: so it is rather a training too many that is begun than one too few.

A guess to choose by, never shown.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, final

from coreml_pareto.search.config import Plan
from coreml_pareto.search.effort import SHARED
from coreml_pareto.search.history import Key
from coreml_pareto.search.outcome import Infeasible, Scored
from coreml_pareto.search.run import Result

TRAINED: Final = "training_seconds"
"""Where a package's provenance has the seconds of its training, over all its attempts."""


@final
class Remaining:
    """What is left of the timeout.

    Args:
        left: seconds; infinite without a timeout.
        paces: by backbone, for each of its trainings the seconds that a unit of effort took.
    """

    def __init__(self, left: float, paces: Mapping[str, Sequence[float]]) -> None:
        self.left = left
        self._own = {backbone: statistics.median(own) for backbone, own in paces.items()}
        every = [pace for own in paces.values() for pace in own]
        self._general = statistics.median(every) if every else 0.0

    def effort(self, backbone: str) -> float:
        """Return the effort for which there is time; infinite before anything is known."""
        pace = self._pace(backbone)
        return self.left / pace if pace else math.inf

    def slower(self, backbone: str, other: str) -> float:
        """Return how many times as long a unit of effort of one backbone takes as one of the other."""
        pace = self._pace(other)
        return self._pace(backbone) / pace if pace else 1.0

    def _pace(self, backbone: str) -> float:
        return self._own.get(backbone, self._general)

    def shared(self, time: float, student: float, teacher: float) -> float:
        """Return what a student bears of its teacher's training: a share for each that can still learn from it.

        Args:
            time: the effort for which there is time.
            student: the effort of one of them.
            teacher: that of the teacher's training.
        """
        return 1 / min(1 / SHARED, max(1.0, (time - teacher) / student))


def seconds_left(plan: Plan, results: Iterable[Result]) -> float:
    """Return the seconds of the timeout that the record leaves; of a study that machines share, nobody knows."""
    if plan.search.seconds is None or plan.storage is not None:
        return math.inf
    return plan.search.seconds - math.fsum(result.seconds for result in results) / (plan.search.workers or 1)


def seconds_of(results: Iterable[Result]) -> dict[Key, float]:
    """Return for how long each finished training was at work with all its packages.

    One that was interrupted took longer than its trials tell; one that was found in a store took no time here.
    """
    trials, trained = dict[Key, float](), dict[Key, float]()
    for result in results:
        key = result.candidate.training
        trials[key] = trials.get(key, 0.0) + result.seconds
        if isinstance(result.outcome, Scored):
            trained[key] = float(result.outcome.provenance.get(TRAINED, 0.0))
    return {key: max(seconds, trials[key]) for key, seconds in trained.items()}


def first_students(results: Iterable[Result]) -> dict[str, Key]:
    """Return the training for which each teacher was trained."""
    found: dict[str, Key] = {}
    for result in results:
        name = result.candidate.recipe.teacher
        if name is not None and not isinstance(result.outcome, Infeasible):
            found.setdefault(name, result.candidate.training)
    return found
