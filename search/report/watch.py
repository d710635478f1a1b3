"""What does a search do at this moment, read from outside?  Its log and its record as one `Sight`, and that in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.events import Event, read_events, volumes
from coreml_pareto.search.lock import at_work
from coreml_pareto.search.outcome import COUNTED, Failed
from coreml_pareto.search.profile import Profile, profile
from coreml_pareto.search.report.progress import State, overview, time_left
from coreml_pareto.search.rows import row
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.standing import Standing
from coreml_pareto.search.study import glance

FAILURES = 3


@final
@dataclass(frozen=True)
class Doing:
    """A trial at work: what it is, its stage, seconds since that began, and the last epoch of a training."""

    trial: int
    name: str
    stage: str
    seconds: float
    epoch: Event | None

    def __str__(self) -> str:
        told = f"trial {self.trial}, {self.name}: {self.stage}, {spell_duration(self.seconds)}"
        if self.epoch is None:
            return told
        return f"{told}, epoch {self.epoch['epoch']} of {self.epoch['epochs']}, top-1 {self.epoch['top1']:.1%}"


@final
@dataclass(frozen=True)
class Sight:
    """A run as it is now.

    Attributes:
        run: as recorded; None where the record cannot be read now (`study.glance`).
        at_work: whether a search holds the folder.
        since, until: UTC of the last session's first and last sign; None without a log.
        state: counts, time, front, hypervolume.
        doing: the trials at work.
        ended: how the last session ended, in words; empty while it works, or where it was killed.
        failures: the last ones, (trial, stage and cause), the latest first.
        time: where it went.
    """

    folder: Path
    run: Run | None
    at_work: bool
    since: str | None
    until: str | None
    state: State
    doing: Sequence[Doing]
    ended: str
    failures: Sequence[tuple[int, str]]
    time: Profile


def look(folder: Path) -> Sight:
    """Look at a run folder; nothing is written, and a search at work in it is not disturbed.

    Raises:
        UserError: there is no run in this folder.
    """
    found, working = glance(folder), at_work(folder)
    events = list(read_events(folder))
    run, facts = found or (None, {})
    session = [event for event in events if event["session"] == events[-1]["session"]] if events else []
    now = session[-1]["clock"] if session else float(facts.get("seconds", 0.0))
    if session and working:
        now += _age(session[-1]["time"])
    return Sight(
        folder=folder,
        run=run,
        at_work=working,
        since=session[0]["time"] if session else None,
        until=session[-1]["time"] if session else None,
        state=_state(run, facts, events, now, working),
        doing=_doing(session, now) if working else (),
        ended=_ended(session),
        failures=_failures(run, events),
        time=profile(events, now if working else None),
    )


def _state(run: Run | None, facts: dict[str, Any], events: Sequence[Event], now: float, working: bool) -> State:
    """The record says what ended; the log says it where the record cannot be read."""
    started = next((event for event in reversed(events) if event["event"] == "started"), {})
    trials, timeout = started.get("trials"), started.get("timeout")
    curve = volumes(events)
    front: tuple[Result, ...] = ()
    trainings: int | None = None  # a line of the log does not tell which training a package is of
    if run is None:
        told = {
            event["trial"]: event["outcome"] for event in events if event["event"] == "told" and "repeats" not in event
        }
        counts = Counter(told.values())
    else:
        standing = Standing(run, facts.get("first"))
        counts, front, trainings = standing.counts, tuple(standing.front), standing.trainings
        curve = curve or ([(now, standing.hypervolume)] if front else [])
    counted = sum(count for name, count in counts.items() if name in COUNTED)
    left = time_left(now, counted, trials, timeout) if working else None
    return State(counts, counted, trials, now, left, front, curve, trainings)


def _doing(session: Sequence[Event], now: float) -> list[Doing]:
    """Trials that were asked and not told, by number."""
    at: dict[int, Doing] = {}
    for event in session:
        trial, what = event.get("trial"), event["event"]
        if trial is None:
            continue
        if what == "asked":
            at[trial] = Doing(trial, event["name"], "asked", now - event["clock"], None)
        elif what == "stage_begun" and trial in at:
            at[trial] = Doing(trial, at[trial].name, event["stage"], now - event["clock"], None)
        elif what == "epoch" and trial in at:
            at[trial] = Doing(trial, at[trial].name, at[trial].stage, at[trial].seconds, event)
        elif what == "told":
            at.pop(trial, None)
    return [at[trial] for trial in sorted(at)]


def _ended(session: Sequence[Event]) -> str:
    last = next((event for event in reversed(session) if event["event"] in ("finished", "stopped")), None)
    if last is None:
        return ""
    return "finished" if last["event"] == "finished" else f"stopped: {last['why']}"


def _failures(run: Run | None, events: Sequence[Event]) -> list[tuple[int, str]]:
    if run is None:
        told = [event for event in events if event["event"] == "told" and event["outcome"] == "failed"]
        found = [(event["trial"], f"{event['stage']}: {event['cause']}") for event in told]
    else:
        failed = [(result.trial, result.outcome) for result in run.results]
        found = [(trial, f"{o.stage}: {o.cause}") for trial, o in failed if isinstance(o, Failed)]
    return found[::-1][:FAILURES]


def heading(sight: Sight) -> str:
    """`runs/birds: a search is at work since 2026-11-25 07:04:03 UTC`."""
    if sight.at_work:
        return f"{sight.folder}: a search is at work" + (f" since {_clock(sight.since)}" if sight.since else "")
    ended = sight.ended or ("its last search was killed" if sight.since else "no log of it")
    return f"{sight.folder}: no search is at work; {ended}" + (f" ({_clock(sight.until)})" if sight.until else "")


def picture(sight: Sight) -> RenderableType:
    """All of it for people."""
    parts: list[RenderableType] = [Text(heading(sight), style="bold"), overview(sight.state)]
    if sight.run is None:
        parts.append(Text("The record cannot be read now: counts are the log's.", style="yellow"))
    parts += [Text(str(doing)) for doing in sight.doing]
    parts += [Text(f"trial {trial} failed in {cause}", style="red") for trial, cause in sight.failures]
    if sight.time.wall:
        parts.append(time_table(sight.time))
    return Group(*parts)


def time_table(time: Profile) -> Table:
    """Seconds by stage with their share of the wall-clock, then what is no stage."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    spent = {**time.stages, "outside of these": time.outside}
    for name, seconds in spent.items():
        if seconds:
            table.add_row(name, spell_duration(seconds), f"{seconds / time.wall:.0%}")
    between = ", ".join(f"{name} {spell_duration(seconds)}" for name, seconds in time.between.items() if seconds >= 0.5)
    if between:
        table.add_row("", "", f"({between})")
    return table


def as_data(sight: Sight) -> dict[str, Any]:
    """All of it for machines."""
    state = sight.state
    return {
        "run": str(sight.folder.absolute()),
        "at_work": sight.at_work,
        "since": sight.since,
        "last_sign": sight.until,
        "ended": sight.ended or None,
        "record_read": sight.run is not None,
        "trials": dict(state.counts),
        "trainings": state.trainings,
        "counted": state.counted,
        "budget_trials": state.trials,
        "seconds": state.elapsed,
        "seconds_left": state.left,
        "front": [row(result, sight.run) for result in state.front] if sight.run else [],
        "hypervolume": [list(pair) for pair in state.volumes],
        "doing": [
            {"trial": d.trial, "name": d.name, "stage": d.stage, "seconds": d.seconds, "epoch": d.epoch and dict(d.epoch)}
            for d in sight.doing
        ],
        "failures": [{"trial": trial, "cause": cause} for trial, cause in sight.failures],
        "time": {
            "wall": sight.time.wall, "stages": dict(sight.time.stages), "between": dict(sight.time.between),
            "outside": sight.time.outside,
        },
    }  # fmt: skip


def _age(stamp: str) -> float:
    """Return the seconds since a time of the log; 0 where it lies ahead (a clock was set back)."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds())


def _clock(stamp: str | None) -> str:
    return "" if stamp is None else f"{stamp[:19].replace('T', ' ')} UTC"
