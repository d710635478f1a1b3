"""How a candidate ended: one of four small records, and nothing else.

`Scored` and `Infeasible` teach the sampler; `Pruned` was stopped before its training was complete; `Failed` names the
stage and the cause. They are matched exhaustively where they are told to the study (`study.py`) and shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from coreml_pareto.objectives.reading import Reading


@final
@dataclass(frozen=True)
class Scored:
    """A saved package with all its readings; `package` is its folder in the store."""

    score: Mapping[str, Reading]
    package: Path
    provenance: Mapping[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Infeasible:
    """A candidate that breaks limits for certain, found before it was trained.

    `score` holds the readings known by then; `limits` names the broken objectives.
    """

    limits: tuple[str, ...]
    score: Mapping[str, Reading]


@final
@dataclass(frozen=True)
class Pruned:
    """A candidate that was stopped early, and why.

    `score` holds what was known. `curve` is the top-1 of the torch network after each epoch: what the sampler learns is
    its end, which is no reading of a package.
    """

    reason: str
    score: Mapping[str, Reading]
    curve: tuple[float, ...] = ()


@final
@dataclass(frozen=True)
class Failed:
    """A candidate that could not be finished: the stage and the cause, for people."""

    stage: str
    cause: str


Outcome = Scored | Infeasible | Pruned | Failed


class OutOfTime(Exception):
    """The study's time is over in the middle of a trial; its checkpoint stays, the trial is asked again on resume."""


class Stopped(Exception):
    """A candidate need not go on; its checkpoint stays, in case it has to after all."""

    def __init__(self, pruned: Pruned) -> None:
        super().__init__(pruned)  # whole: a worker's verdict travels through a pipe
        self.pruned = pruned


COUNTED = frozenset({"scored", "infeasible"})
"""The kinds of outcome that count for `--trials`: what is stopped early yields no package, nor does a failure."""


def kind(outcome: Outcome) -> str:
    """Return the word for how a candidate ended: `scored`, `infeasible`, `pruned` or `failed`."""
    return type(outcome).__name__.lower()
