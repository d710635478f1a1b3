"""What does a run look like on paper?  Charts of its packages by matplotlib: the front, progress, importances, anchors.

The screen's charts are `charts`; these say the same in print, where nothing answers to a pointer: what deserves a name has
it beside it. Each function returns a matplotlib figure; `ink.svg`, `ink.png` and `ink.save` turn it into a file.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from coreml_pareto.objectives import pareto
from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective
from coreml_pareto.objectives.reading import losses
from coreml_pareto.search.figures import SCALES, interval, mark, number
from coreml_pareto.search.limits import spell_limit
from coreml_pareto.search.relaxation import Limits
from coreml_pareto.search.report.charts import COLOURS, CROWD
from coreml_pareto.search.report.facts import Facts, known
from coreml_pareto.search.report.importance import Importances
from coreml_pareto.search.report.ink import BLUE, GREY, INK, ORANGE, plain_axes, printable, printed, sheet, shortened
from coreml_pareto.search.report.labels import name_points
from coreml_pareto.search.report.story import anchored
from coreml_pareto.search.report.volume import Growth
from coreml_pareto.search.run import Result

MARKERS: Final = {
    "fp32": "o", "fp16": "s", "int8": "D", "int4": "^", "palette": "p", "pruning": "v", "joint": "X", "mixed": "*",
    "w8a8": "P",
}  # fmt: skip
"""Shapes of the schemes, as `charts.SYMBOLS` has them for the screen."""
NAMED: Final = 12
"""Members of a front up to which each one's trial stands beside it."""
KNOBS: Final = 8
_OTHER: Final = "#E69F00"


@printed
def pareto_print(facts: Facts, row: Objective, height: float = 3.9) -> Figure:
    """Top-1 against one objective: front with intervals, dominated, over a limit, the recommended one ringed, limits.

    The horizontal axis is logarithmic; `height` is in inches.

    Raises:
        ValueError: no package has both readings.
    """
    front, dominated, over = (
        [result for result in group if plottable(result, row)] for group in (facts.front, facts.dominated, facts.over)
    )
    if not (front or dominated or over):
        raise ValueError(f"no package of {facts.run.folder} has a top-1 and {row.name}")
    drawn = sheet(height)
    axes = drawn.subplots()
    plain_axes(axes)
    axes.set_xscale("log")
    _muted(axes, dominated, row, filled=True)
    _muted(axes, over, row, filled=False)
    best = _best_within(front + dominated, row)
    axes.step(*_at(best, row), where="post", color=INK, linewidth=1.0, zorder=2.5, gid="best")
    _front(axes, front, row, {result.trial for result in best})
    if facts.chosen is not None and plottable(facts.chosen, row):
        axes.plot(*_at([facts.chosen], row), "o", ms=13, mfc="none", mec=INK, mew=1.6, zorder=6, gid="recommended")
    refused = _refused(axes, facts, row)
    _limits(axes, facts.run.limits, row)
    _axis_of(axes, [*front, *dominated, *over], row)
    entries = _entries(front, dominated, over, refused, facts.chosen is not None)
    drawn.legend(handles=entries, loc="outside lower center", ncols=6, handletextpad=0.4)
    _names(axes, facts, row)
    return drawn


@printed
def growth_print(growth: Growth, height: float = 2.2) -> Figure:
    """The share of the run's box that its front dominated, over the run's time or its trials."""
    drawn = sheet(height)
    axes = drawn.subplots()
    plain_axes(axes)
    times, shares = [time for time, _ in growth.points], [share for _, share in growth.points]
    unit, scale = "trials", 1.0
    if growth.by == "seconds":
        unit, scale = ("minutes", 60.0) if times[-1] < 3 * 3600 else ("hours", 3600.0)
    told = [time / scale for time in times]
    axes.step(told, shares, where="post", color=BLUE, linewidth=1.6)
    axes.plot(told[-1:], shares[-1:], "o", color=BLUE, ms=4)
    axes.annotate(
        f"{shares[-1]:.3f}", (told[-1], shares[-1]), (-2, 4), textcoords="offset points", ha="right", va="bottom"
    )
    axes.set_xlim(0, told[-1] * 1.02 or 1.0)
    axes.set_ylim(0, max(shares) * 1.2 or 1.0)
    last = "new front" if growth.by == "seconds" else "package"
    axes.set_xlabel(f"{unit} since the search began (dot: the last {last})")
    axes.set_ylabel("hypervolume, share of the box")
    return drawn


@printed
def importance_print(importances: Importances) -> Figure:
    """How much a knob mattered for each objective: one panel per objective, the same knobs in each; at least one of both."""
    totals: dict[str, float] = {}
    for shares in importances.values():
        for knob, share in shares.items():
            totals[knob] = totals.get(knob, 0.0) + share
    knobs = sorted(totals, key=lambda knob: -totals[knob])[:KNOBS][::-1]
    drawn = sheet(0.75 + 0.23 * len(knobs))
    panels = drawn.subplots(1, len(importances), sharey=True, squeeze=False)[0]
    for axes, (objective, shares) in zip(panels, importances.items(), strict=True):
        values = [shares.get(knob, 0.0) for knob in knobs]
        axes.barh(range(len(knobs)), values, color=BLUE, height=0.66)
        for place, value in enumerate(values):
            axes.annotate(f"{value:.2f}", (value, place), (2, 0), textcoords="offset points", va="center", fontsize=7)
        axes.set_title(SCALES[objective].noun, loc="left")
        axes.set_xlim(0, 1.3)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks(range(len(knobs)), [shortened(knob, 28) for knob in knobs])
        axes.tick_params(axis="y", length=0)
        plain_axes(axes, "x")
    return drawn


@printed
def anchors_print(facts: Facts) -> Figure:
    """The anchors side by side: a panel per objective, a dot with its interval per package, the value below it."""
    anchors = anchored(facts)
    drawn = sheet(0.75 + 0.44 * len(anchors))
    panels = drawn.subplots(1, len(facts.objectives), sharey=True, squeeze=False)[0]
    places = range(len(anchors))[::-1]
    for axes, row in zip(panels, facts.objectives, strict=True):
        for place, (_, anchor) in zip(places, anchors, strict=True):
            _dot(axes, anchor.result, row, place)
        _dots_axis(axes, [anchor.result for _, anchor in anchors], row)
    panels[0].set_yticks(places, [f"{_two_lines(told)}\ntrial {anchor.result.trial}" for told, anchor in anchors])
    panels[0].set_ylim(-0.75, len(anchors) - 0.5)
    return drawn


def plottable(result: Result, row: Objective) -> bool:
    """Whether a package has a top-1 and a reading of this objective above zero, which a logarithm needs."""
    score = result.score
    return "top1" in score and row.reading in score and score[row.reading].value > 0


def _others(facts: Facts) -> tuple[Result, ...]:
    return (*facts.dominated, *facts.over)


def _at(results: Sequence[Result], row: Objective) -> tuple[list[float], list[float]]:
    """Coordinates in the units of the screen."""
    return (
        [SCALES[row.name].factor * result.score[row.reading].value for result in results],
        [100 * result.score["top1"].value for result in results],
    )


def _muted(axes: Axes, results: Sequence[Result], row: Objective, *, filled: bool) -> None:
    for scheme in dict.fromkeys(result.candidate.compression.scheme for result in results):
        alike = [result for result in results if result.candidate.compression.scheme == scheme]
        face = GREY if filled else "none"
        axes.scatter(
            *_at(alike, row), marker=MARKERS.get(scheme, "o"), s=13, facecolors=face, edgecolors=GREY, linewidths=0.8,
            alpha=0.55 if len(results) > CROWD else 0.9, zorder=2, gid=f"{'dominated' if filled else 'over'} {scheme}",
        )  # fmt: skip


def _best_within(results: Sequence[Result], row: Objective) -> list[Result]:
    """Packages with the best top-1 known for their budget of this objective alone, the smallest budget first."""
    rows = [OBJECTIVES["accuracy"], row]
    kept = [results[i] for i in pareto.front([losses(result.score, rows) for result in results])] if results else []
    return sorted(kept, key=lambda result: result.score[row.reading].value)


def _front(axes: Axes, results: Sequence[Result], row: Objective, best: Collection[int]) -> None:
    """Large and with intervals while they are few; of many those that are best within a budget stand out."""
    few = len(results) <= CROWD
    for result in results:
        colour = COLOURS.get(result.candidate.network.family, _OTHER)
        (x,), (y,) = _at([result], row)
        if few:
            axes.errorbar(
                x, y, xerr=_ends(result, row), yerr=_ends(result, OBJECTIVES["accuracy"]), ecolor=colour, elinewidth=0.7,
                fmt="none", alpha=0.45, zorder=3,
            )  # fmt: skip
        marker, large = MARKERS.get(result.candidate.compression.scheme, "o"), few or result.trial in best
        axes.plot(
            x, y, marker, ms=6.5 if large else 4, color=colour, mec="white", mew=0.6, zorder=5 if large else 4,
            gid=f"front {result.trial}",
        )  # fmt: skip


def _ends(result: Result, row: Objective) -> list[list[float]]:
    """Lengths of the bars below and above the value, in the units of the screen."""
    reading, factor = result.score[row.reading], SCALES[row.name].factor
    return [[factor * (reading.value - reading.low)], [factor * (reading.high - reading.value)]]


def _refused(axes: Axes, facts: Facts, row: Objective) -> int:
    """Marks at the lower edge for what was refused before training, whose top-1 nobody knows; return how many."""
    values = [SCALES[row.name].factor * reading.value for _, reading in known(facts.refused, row)]
    place = axes.get_xaxis_transform()
    axes.plot(values, [0.012] * len(values), "|", color=GREY, ms=7, mew=0.8, transform=place, gid="refused")
    return len(values)


def _limits(axes: Axes, limits: Limits, row: Objective) -> None:
    style: dict[str, Any] = {"color": ORANGE, "linewidth": 1.0, "linestyle": (0, (2, 2)), "zorder": 2}
    note: dict[str, Any] = {"fontsize": 7, "color": ORANGE, "textcoords": "offset points"}
    if row.name in limits:
        x = limits[row.name] * SCALES[row.name].factor
        axes.axvline(x, **style)
        place: Any = axes.get_xaxis_transform()
        text = f"limit {spell_limit(row.name, limits[row.name])}"
        axes.annotate(text, (x, 0), (-3, 3), xycoords=place, rotation=90, ha="right", va="bottom", **note)
    if "accuracy" in limits:
        y = limits["accuracy"] * 100
        axes.axhline(y, **style)
        place = axes.get_yaxis_transform()
        text = f"limit {spell_limit('accuracy', limits['accuracy'])}"
        axes.annotate(text, (1, y), (-2, 2), xycoords=place, ha="right", va="bottom", **note)


def _axis_of(axes: Axes, results: Sequence[Result], row: Objective) -> None:
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set_xlabel(f"{SCALES[row.name].noun}, {SCALES[row.name].unit}{_origin(results, row)} (logarithmic)")
    axes.set_ylabel("top-1 on validation, %")
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, -4.0), min(top, 104.0))


def _ticks(low: float, high: float) -> list[float]:
    """Numbers of 1, 2, 5 × 10^n between the ends; three of even ratio where less than two such lie between."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [step * 10.0**n for n in decades for step in steps if low <= step * 10.0**n <= high]
    return marks if len(marks) > 1 else [float(f"{value:.2g}") for value in np.geomspace(low, high, 5)[1:-1]]


def _origin(results: Sequence[Result], row: Objective) -> str:
    """How the horizontal axis was obtained, for its title; nothing where it was counted."""
    readings = [result.score[row.reading] for result in results]
    said = sorted({"estimated" if mark(reading) else reading.how for reading in readings} - {"exact"})
    return f", {' or '.join(said)}" if said else ""


def _entries(
    front: Sequence[Result], dominated: Sequence[Result], over: Sequence[Result], refused: int, recommended: bool
) -> list[Line2D]:
    """What colours, shapes, line, ring and greys mean."""
    schemes = {result.candidate.compression.scheme for result in (*front, *dominated, *over)}
    families = dict.fromkeys(result.candidate.network.family for result in front)
    entries = [_entry(printable(family), "o", color=COLOURS.get(family, _OTHER)) for family in families]
    entries += [_entry(scheme, MARKERS[scheme], color=INK) for scheme in MARKERS if scheme in schemes]
    entries += [_entry("dominated", "o", color=GREY, ms=4)] if dominated else []
    entries += [_entry("breaks a limit", "o", mfc="none", mec=GREY, ms=4)] if over else []
    entries += [_entry(f"refused, untrained ({refused:,})", "|", color=GREY)] if refused else []
    entries += [Line2D([], [], color=INK, linewidth=1.0, label="best within a budget")] if front else []
    entries += [_entry("recommended", "o", mfc="none", mec=INK, mew=1.4, ms=9)] if recommended else []
    return entries


def _entry(label: str, marker: str, **style: Any) -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, label=label, **{"ms": 6, **style})


def _names(axes: Axes, facts: Facts, row: Objective) -> None:
    """Names of the anchors; of a small front also the trial of each other member."""
    said = {anchor.result.trial: f"{anchor.result.trial}: {told}" for told, anchor in anchored(facts)}
    if len(facts.front) <= NAMED:
        said = {result.trial: str(result.trial) for result in facts.front} | said
    named = [result for result in facts.front if result.trial in said and plottable(result, row)]
    places = [(x, y, shortened(said[r.trial], 60)) for r, x, y in zip(named, *_at(named, row), strict=True)]
    strong, weak = ([result for result in group if plottable(result, row)] for group in (facts.front, _others(facts)))
    name_points(axes, places, np.array(_at(strong, row)).T, np.array(_at(weak, row)).T)


def _dot(axes: Axes, result: Result, row: Objective, place: int) -> None:
    reading, factor = result.score.get(row.reading), SCALES[row.name].factor
    beside: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "fontsize": 6.5}
    if reading is None:
        axes.annotate("not known", (0, place), (1, -6), va="top", color=GREY, **beside)
        return
    axes.plot([factor * reading.low, factor * reading.high], [place, place], color=BLUE, linewidth=1.2, alpha=0.5)
    axes.plot([factor * reading.value], [place], "o", color=BLUE, ms=5)
    ends = interval(row.name, reading, 2)
    text = f"{mark(reading)}{number(row.name, reading.value)}{f' ({ends})' if ends else ''}"
    axes.annotate(text, (0, place), (1, -6), va="top", **beside)


def _dots_axis(axes: Axes, results: Sequence[Result], row: Objective) -> None:
    plain_axes(axes, "x")
    axes.margins(x=0.12)
    highs = [SCALES[row.name].factor * r.score[row.reading].high for r in results if row.reading in r.score]
    if highs and row.name != "accuracy":
        axes.set_xlim(0, 1.12 * max(highs))
    axes.set_title(f"{SCALES[row.name].noun}, {SCALES[row.name].unit}", loc="left")
    axes.tick_params(axis="y", length=0)


def _two_lines(told: str) -> str:
    """The names of an anchor, broken after the second of several."""
    parts = told.split(", ")
    return ",\n".join(filter(None, (", ".join(parts[:2]), ", ".join(parts[2:]))))
