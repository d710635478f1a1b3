"""Where did the time of a run go?  Sums by stage, read from its log (`events.py`).

`stages` are seconds of work: with several workers at once their sum exceeds the wall-clock. `outside` are those seconds
of the wall-clock in which nobody was in any stage: reading pictures and planning, asking, telling, the test at the end,
and whatever has no name. A stage that a kill or the end of time cut short counts up to the last sign of its session.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from coreml_pareto.search.events import Event

STAGES = ("probe", "teacher", "training", "package", "fine-tuning", "score")
"""Of a trial: training and evaluation, packaging included."""
BETWEEN = {"started": "preparation", "asked": "asking", "told": "telling", "finished": "test"}
"""Events that say how many seconds of no stage were spent, and on what."""


@final
@dataclass(frozen=True)
class Profile:
    """Seconds of all sessions: of the wall-clock, by stage, by what is no stage, and with nobody in a stage."""

    wall: float
    stages: Mapping[str, float]
    between: Mapping[str, float]
    outside: float

    @property
    def share_outside(self) -> float:
        """Share of the wall-clock outside of training and evaluation, 0 to 1."""
        return self.outside / self.wall if self.wall else 0.0


def profile(events: Iterable[Event], now: float | None = None) -> Profile:
    """Sum up a log; `now` is the run's clock where its last session is still at work."""
    sessions: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        sessions[event["session"]].append(event)
    wall = outside = 0.0
    stages, between = dict.fromkeys(STAGES, 0.0), dict.fromkeys(BETWEEN.values(), 0.0)
    latest = next(reversed(sessions), None)
    for name, session in sessions.items():
        first = session[0]["clock"] - session[0].get("seconds", 0.0)
        last = max(event["clock"] for event in session)
        last = max(last, now or last) if name == latest else last
        spans = list(_spans(session, last))
        for stage, begun, ended in spans:
            stages[stage] = stages.get(stage, 0.0) + ended - begun
        for event in session:
            if event["event"] in BETWEEN:
                between[BETWEEN[event["event"]]] += event.get("seconds", 0.0)
        wall += last - first
        outside += last - first - covered([(begun, ended) for _, begun, ended in spans])
    return Profile(wall, stages, between, outside)


def _spans(session: Iterable[Event], last: float) -> Iterable[tuple[str, float, float]]:
    """Yield stage, begin and end on the run's clock; what never ended ends with the session, or with its trial."""
    begun: dict[int, tuple[str, float]] = {}
    for event in session:
        kind, trial = event["event"], event.get("trial")
        if kind in ("stage_begun", "stage_ended", "told") and trial in begun:
            stage, since = begun.pop(trial)
            yield stage, since, event["clock"]
        if kind == "stage_begun" and trial is not None:
            begun[trial] = event["stage"], event["clock"]
    for stage, since in begun.values():
        yield stage, since, last


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    ends = sorted((end, step) for begun, ended in spans for end, step in ((begun, 1), (ended, -1)))
    depth, length = 0, 0.0
    for (at, step), (after, _) in pairwise(ends):
        depth += step
        length += after - at if depth else 0.0
    return length
