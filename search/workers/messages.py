"""What do a search and its workers say to each other?  Small frozen records, pickled through a pipe.

A worker that says `Told`, `Packaged` or `Waiting` waits for the verdict, as in the search's own process; all else is said
without an answer. This module and what it imports are light: a worker begins with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from coreml_pareto.search.outcome import Outcome

if TYPE_CHECKING:  # torch takes seconds to import
    from coreml_pareto.objectives.reading import Score
    from coreml_pareto.search.stages.train import Step
    from coreml_pareto.search.stages.trained import Trained


@final
@dataclass(frozen=True)
class Opening:
    """The first thing that a worker hears.

    Attributes:
        opener: what opens its laboratory, `module:function`; it is called with the order and the worker's `Talk`.
        order: what the opener reads, pickled: nothing is imported for it before its time.
    """

    opener: str
    order: bytes


@final
@dataclass(frozen=True)
class Ready:
    """The laboratory is open; what follows concerns a job."""


@final
@dataclass(frozen=True)
class Refused:
    """No worker can open a laboratory from this order, and why, for people."""

    why: str


@final
@dataclass(frozen=True)
class Note:
    """What is being done now; above all a sign of life."""

    doing: str


@final
@dataclass(frozen=True)
class Stage:
    """A stage begins, or has ended after so many seconds."""

    name: str
    seconds: float | None


@final
@dataclass(frozen=True)
class Told:
    """Where a training stands."""

    step: Step


@final
@dataclass(frozen=True)
class Packaged:
    """The readings of a package whose accuracy is about to be measured."""

    known: Score


@final
@dataclass(frozen=True)
class Waiting:
    """Another process makes what is needed."""


@final
@dataclass(frozen=True)
class Announced:
    """A teacher that the candidate learns from."""

    teacher: Trained


@final
@dataclass(frozen=True)
class Ended:
    """How the job ended; None: the study's time did first."""

    outcome: Outcome | None


FromWorker = Ready | Refused | Note | Stage | Told | Packaged | Waiting | Announced | Ended
