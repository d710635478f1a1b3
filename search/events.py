"""What happened in a run, and when?  RUN/events.jsonl: one JSON object per line and event.

Every line has `schema`, `time` (UTC, ISO 8601), `clock` (seconds of the run, see `screen.Clock`), `session` (one `search`
from start to end) and `event`; the rest depends on the event:

| event         | when, and with what                                                                                      |
|---------------|----------------------------------------------------------------------------------------------------------|
| `started`     | a session begins: its budget, results so far, seconds spent on reading and planning                      |
| `planned`     | nothing is left open: what the space holds                                                               |
| `terms`       | the run goes on with other limits, objectives or another device: what changed, trials told again by kind |
| `asked`       | a trial: candidate in words, seconds of the asking                                                       |
| `stage_begun`, `stage_ended` | of a trial: `probe`, `teacher`, `training`, `package`, `fine-tuning`, `score`; seconds    |
|               | of a finalist: `repetition`                                                                              |
| `epoch`       | of a training, a teacher's included: loss and top-1 at a glance                                          |
| `told`        | a trial's outcome, the values of its readings or its cause, seconds of the trial and of the telling      |
| `heard`       | a trial was told on another machine of the study: its outcome, as in `told`                               |
| `front`       | the front changed: its trials, and the hypervolume (`standing.Volume`)                                   |
| `finalists`   | repetitions begin: of which trials, how many trainings, seconds expected and allowed                     |
| `repeated`    | a finalist with another seed: its top-1                                                                  |
| `stopped`     | the session ended before its budget was spent, and why                                                   |
| `finished`    | the session ended, seconds of the test                                                                   |

One write appends one line, so that lines of several writers never mix and a kill can only cut the last one short; the
next line begins below it, and the reader passes it over. The log tells; the record of a run is `study.db`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final
from uuid import uuid4

from coreml_pareto.search.outcome import Failed, Infeasible, Outcome, Pruned, Scored

EVENTS = "events.jsonl"
SCHEMA = 1
LONGEST = 2000
"""Characters of a text in the log: a cause may hold a whole traceback of another tool."""

Event = Mapping[str, Any]


@final
class Log:
    """Appends the events of one session; `clock` gives the run's seconds.

    What cannot be written (a full disk) ends no search: the next line that can be tells how many were `lost`.
    """

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.path, self.clock, self.session = folder / EVENTS, clock, uuid4().hex[:8]
        self.lost = 0
        self._whole = _ends_whole(self.path)

    def write(self, event: str, **facts: object) -> None:
        """Append one event."""
        lost = {"lost": self.lost} if self.lost else {}
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = {"schema": SCHEMA, "time": now, "clock": round(self.clock(), 3), "session": self.session}
        line = json.dumps({**head, "event": event, **_short(facts), **lost}, ensure_ascii=False, allow_nan=False)
        text = f"{line}\n" if self._whole else f"\n{line}\n"
        try:
            written = _append(self.path, text.encode())
        except OSError:
            written = 0
        self._whole = written == len(text.encode()) or (written == 0 and self._whole)
        self.lost = 0 if written == len(text.encode()) else self.lost + 1


def read_events(folder: Path) -> Iterator[Event]:
    """Yield the events of a run folder, the oldest first; none without a log. Lines that a kill cut short are left out."""
    path = folder / EVENTS
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("schema") == SCHEMA:
                yield event


def volumes(events: Iterable[Event]) -> list[tuple[float, float]]:
    """Return (clock, hypervolume) of each new front; those on earlier terms cannot be compared, and are left out."""
    found: list[tuple[float, float]] = []
    for event in events:
        if event["event"] == "terms":
            found.clear()
        elif event["event"] == "front":
            found.append((event["clock"], event["hypervolume"]))
    return found


def _append(path: Path, line: bytes) -> int:
    """Return how many bytes one write at the file's end took."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        return os.write(handle, line)
    finally:
        os.close(handle)


def _ends_whole(path: Path) -> bool:
    """Whether the last line has its end."""
    if not path.is_file() or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _short(facts: Mapping[str, object]) -> dict[str, object]:
    return {name: value[:LONGEST] if isinstance(value, str) else value for name, value in facts.items()}


def facts_of(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome for the log: the values of its readings, or why there is none."""
    match outcome:
        case Failed(stage, cause):
            return {"stage": stage, "cause": cause}
        case Pruned(reason, score, _):
            why: dict[str, Any] = {"reason": reason}
        case Infeasible(limits, score):
            why = {"limits": list(limits)}
        case Scored(score, _, _):
            why = {}
    return why | {"readings": {name: reading.value for name, reading in score.items()}}
