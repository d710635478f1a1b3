"""What does a slide's chart of packages show?  Greys, the front, each anchor on its own, and round axes around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.ticker import MaxNLocator

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective
from coreml_pareto.search.figures import SCALES
from coreml_pareto.search.report import story
from coreml_pareto.search.report.charts import CROWD
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.ink import BLUE, GREY, INK
from coreml_pareto.search.report.native import Ends, Series, Span
from coreml_pareto.search.report.prints import plottable
from coreml_pareto.search.run import Result

_ACCURACY: Final = OBJECTIVES["accuracy"]
_COLOURS: Final = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_SHAPES: Final = ("square", "diamond", "triangle", "square", "diamond")
CLOUD: Final = 300
"""Grey points of one kind that a slide bears; LibreOffice draws them above the front, PowerPoint below."""
LEAST_SPAN: Final = 0.1
"""What an axis shows at least, as a share of its largest value."""


def scatter_series(facts: Facts, row: Objective) -> list[Series]:
    """What is drawn against an objective: greys, the rest of the front, and each anchor on its own with its intervals."""
    anchors = [(told, anchor.result) for told, anchor in story.anchored(facts) if plottable(anchor.result, row)]
    named = {result.trial for _, result in anchors}
    rest = [result for result in facts.front if result.trial not in named]
    drawn = [*_cloud("dominated", facts.dominated, row, "circle"), *_cloud("breaks a limit", facts.over, row, "cross")]
    drawn += (
        [Series("front", _points(shown, row), BLUE, size=8 if len(rest) <= CROWD else 6)]
        if (shown := [r for r in rest if plottable(r, row)])
        else []
    )
    drawn.sort(
        key=lambda one: -len(one.points)
    )  # LibreOffice leaves out a first series that is shorter than another one
    for place, (told, result) in enumerate(anchors):
        best = facts.chosen is not None and result.trial == facts.chosen.trial
        drawn.append(
            Series(
                f"{result.trial}: {'take this' if best else _first(told)}", _points([result], row),
                INK if best else _COLOURS[place % len(_COLOURS)], "circle" if best else _SHAPES[place % len(_SHAPES)],
                13 if best else 10, True, _ends([result], row), _ends([result], _ACCURACY),
            )
        )  # fmt: skip
    return drawn


def _cloud(name: str, results: Sequence[Result], row: Objective, marker: str) -> list[Series]:
    """Packages that are no answer, in grey; of very many an even share of CLOUD, which the legend says."""
    every = [result for result in results if plottable(result, row)]
    if not every:
        return []
    step = -(-len(every) // CLOUD)
    shown = every[::step]
    told = name if step == 1 else f"{name} (1 in {step})"
    return [Series(told, _points(shown, row), GREY, marker, 5, marker == "circle")]


def _first(told: str) -> str:
    """`fastest +1` for `fastest, smallest`: a legend is narrow."""
    first, *more = told.split(", ")
    return f"{first} +{len(more)}" if more else first


def span(row: Objective, values: Sequence[float], ends: Sequence[Sequence[Ends]]) -> Span:
    """An axis with round ends around all values and all intervals; `ends` lie around the last values."""
    flat = [pair for pairs in ends for pair in pairs]
    around = values[len(values) - len(flat) :]
    lows = [value - below for value, (below, _) in zip(around, flat, strict=True)]
    highs = [value + above for value, (_, above) in zip(around, flat, strict=True)]
    low, high = min([*values, *lows]), max([*values, *highs])
    room = max(0.0, LEAST_SPAN * high - (high - low)) / 2  # one package alone has no extent
    ticks = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low - room, high + room)
    return Span(f"{SCALES[row.name].noun}, {SCALES[row.name].unit}", float(ticks[0]), float(ticks[-1]))


def shown_value(result: Result, row: Objective) -> float:
    """The length of a bar, in the screen's unit; 0 for what is not known, which its label says."""
    return SCALES[row.name].factor * result.score[row.reading].value if row.reading in result.score else 0.0


def _points(results: Sequence[Result], row: Objective) -> tuple[tuple[float, float], ...]:
    return tuple((shown_value(result, row), shown_value(result, _ACCURACY)) for result in results)


def _ends(results: Sequence[Result], row: Objective) -> tuple[Ends, ...]:
    factor, readings = SCALES[row.name].factor, [result.score[row.reading] for result in results]
    return tuple(
        (factor * (reading.value - reading.low), factor * (reading.high - reading.value)) for reading in readings
    )
