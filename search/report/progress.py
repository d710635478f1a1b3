"""What is seen of a run that is not over: trials by outcome, time, the front in numbers, hypervolume over time.

The live screen of `search`, its plain summary lines and `status` say the same by these functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from rich.table import Table
from rich.text import Text

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.reading import losses
from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.figures import figure
from coreml_pareto.search.report.words import many
from coreml_pareto.search.run import Result

BARS: Final = "▁▂▃▄▅▆▇█"
COLUMNS: Final = 32
_EXTREMES: Final = {
    "accuracy": "best top-1", "size": "smallest", "latency": "fastest", "memory": "least memory", "energy": "least energy",
}  # fmt: skip
_SHOWN: Final = ("accuracy", "size", "latency")


@final
@dataclass(frozen=True)
class State:
    """A run at one moment.

    Attributes:
        counts: trials by outcome.
        counted: trials that count for the budget.
        trials: the budget, None without one.
        elapsed, left: seconds of the run's clock; `left` is None where nothing says it.
        front: packages that nothing beats, within the limits.
        volumes: (seconds on the run's clock, hypervolume), whenever the front changed.
        trainings: networks that were trained for the packages; None where nothing says it.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    counted: int = 0
    trials: int | None = None
    elapsed: float = 0.0
    left: float | None = None
    front: Sequence[Result] = ()
    volumes: Sequence[tuple[float, float]] = ()
    trainings: int | None = None


def overview(state: State) -> Table:
    """Four lines: trials, time, front, hypervolume; those that have nothing to say are left out."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, told in (
        ("trials", trials(state)),
        ("time", clock(state)),
        ("front", front(state.front)),
        ("hypervolume", volume(state)),
    ):
        if told:
            table.add_row(name, Text(told))
    return table


def summary(state: State) -> str:
    """The same on one plain line."""
    now = f"hypervolume {state.volumes[-1][1]:.3f}" if state.volumes else ""
    packages = f"front: {front(state.front)}" if state.front else ""
    return "; ".join(part for part in (trials(state), clock(state), packages, now) if part)


def trials(state: State) -> str:
    """`12 scored from 3 trainings, 1 failed (12 of 26)`."""
    behind = {"scored": f" from {many(state.trainings, 'training')}"} if state.trainings else {}
    told = [f"{count} {name}{behind.get(name, '')}" for name, count in state.counts.items() if count]
    shown = ", ".join(told) or "none yet"
    return f"{shown} ({state.counted} of {state.trials})" if state.trials else shown


def clock(state: State) -> str:
    """`4 min 10 s, about 5 min 00 s left`."""
    left = "" if state.left is None else f", about {spell_duration(state.left)} left"
    return f"{spell_duration(state.elapsed)}{left}"


def time_left(elapsed: float, counted: int, trials: int | None, timeout: float | None) -> float | None:
    """Return the seconds until a run ends: by its timeout, or by its trials at the pace so far; what comes first."""
    ends = [] if timeout is None else [max(0.0, timeout - elapsed)]
    if trials is not None and counted:
        ends.append(max(0, trials - counted) * elapsed / counted)
    return min(ends, default=None)


def front(results: Sequence[Result]) -> str:
    """How many packages, and those that are best on one axis, by trial."""
    parts = [many(len(results), "package")] if results else []
    for name in _SHOWN:
        row = OBJECTIVES[name]
        known = [result for result in results if row.reading in result.score]
        if known:
            best = min(known, key=lambda result: losses(result.score, [row]))
            parts.append(f"{_EXTREMES[name]} {figure(name, best.score[row.reading])} (trial {best.trial})")
    return " · ".join(parts)


def volume(state: State) -> str:
    """The hypervolume now, and over the run's time as bars; empty before the first package."""
    if not state.volumes:
        return ""
    return f"{state.volumes[-1][1]:.3f} {sparkline(state.volumes, state.elapsed)}"


def sparkline(values: Sequence[tuple[float, float]], until: float, columns: int = COLUMNS) -> str:
    """Bars of a quantity that keeps its value until it changes, over the time from 0; as tall as it grows, from 0 on.

    Args:
        values: (second, value), in order of time, values not negative.
        until: the last bar's second.
        columns: number of bars.
    """
    most = max((value for _, value in values), default=0.0)
    until = max(until, values[-1][0] if values else 0.0)
    bars = []
    for column in range(1, columns + 1):
        known = [value for second, value in values if second <= until * column / columns]
        share = known[-1] / most if known and most else 0.0
        bars.append(BARS[min(len(BARS) - 1, round(share * (len(BARS) - 1)))] if known else " ")
    return "".join(bars)
