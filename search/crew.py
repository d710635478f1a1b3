"""Who evaluates candidates?  A crew: it takes jobs while it has room and hands back how each ended.

`Alone` is the search's own process, one job at a time; `workers.pool` are processes of their own. The session asks, tells
and shows; whoever evaluates sees no study.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, final

from coreml_pareto.objectives.reading import Score
from coreml_pareto.search.outcome import Outcome, OutOfTime, Stopped
from coreml_pareto.spaces.candidate import Candidate

if TYPE_CHECKING:  # torch takes seconds to import, and a worker begins with this module
    from coreml_pareto.search.stages.train import Step
    from coreml_pareto.search.trial import Laboratory


@final
@dataclass(frozen=True)
class Job:
    """A trial's number and candidate, and the key of the training that its network inherits from."""

    number: int
    candidate: Candidate
    parent: str | None = None


@final
@dataclass(frozen=True)
class Finished:
    """How a job ended and its wall-clock seconds; `outcome` is None where the study's time ended first."""

    job: Job
    outcome: Outcome | None
    seconds: float


Verdict = Stopped | OutOfTime | None
"""Why a training stops here, if it does."""


class Watcher(Protocol):
    """Sees what goes on in a job, and may end its training."""

    def note(self, job: Job, doing: str) -> None:
        """What is being done now."""

    def stage(self, job: Job, name: str, seconds: float | None) -> None:
        """A stage begins, or has ended after so many seconds."""

    def step(self, job: Job, step: Step) -> Verdict:
        """Where a training stands; a verdict ends it, its checkpoint stays."""

    def packaged(self, job: Job, known: Score) -> Verdict:
        """The readings of a package whose accuracy is about to be measured; a verdict spares the measurement."""


class Crew(Protocol):
    """Takes jobs and ends them, in whatever order."""

    @property
    def room(self) -> int:
        """How many jobs may be assigned now."""

    def assign(self, job: Job) -> None:
        """Begin a job; there must be room."""

    def wait(self) -> Finished:
        """Wait until some job ends, and return it."""

    def close(self) -> None:
        """End whatever is still at work; nothing that is finished is lost."""


@final
class Alone:
    """The search's own process."""

    def __init__(self, laboratory: Laboratory, watcher: Watcher, clock: Callable[[], float] = time.monotonic) -> None:
        self.laboratory, self.watcher, self.clock = laboratory, watcher, clock
        self._job: Job | None = None

    @property
    def room(self) -> int:
        """One, or none while a job waits to be evaluated."""
        return 0 if self._job else 1

    def assign(self, job: Job) -> None:
        """Keep the job for `wait`."""
        self._job = job

    def wait(self) -> Finished:
        """Evaluate the job."""
        job, self._job = self._job, None
        if job is None:
            raise RuntimeError("nobody is at work")
        started = self.clock()
        outcome: Outcome | None
        try:
            outcome = self.laboratory.evaluate(job.candidate, _Reporter(job, self.watcher), job.parent)
        except OutOfTime:
            outcome = None
        return Finished(job, outcome, self.clock() - started)

    def close(self) -> None:
        """Nothing is left at work between two jobs."""


@final
@dataclass(frozen=True)
class _Reporter:
    """A `Witness` that asks a watcher in the same process and raises its verdict."""

    job: Job
    watcher: Watcher

    def note(self, doing: str) -> None:
        self.watcher.note(self.job, doing)

    def stage(self, name: str, seconds: float | None) -> None:
        self.watcher.stage(self.job, name, seconds)

    def step(self, step: Step) -> None:
        if verdict := self.watcher.step(self.job, step):
            raise verdict

    def packaged(self, known: Score) -> None:
        if verdict := self.watcher.packaged(self.job, known):
            raise verdict
