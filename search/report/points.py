"""What do the charts of the page need of a run?  One table by columns, so that thousands of trials stay a small file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from coreml_pareto.objectives.catalogue import Objective
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.figures import SCALES, mark, number
from coreml_pareto.search.limits import spell_limit
from coreml_pareto.search.outcome import Infeasible
from coreml_pareto.search.report.charts import COLOURS, SYMBOLS
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.compression import describe

OTHER_COLOUR: Final = "#E69F00"
DIGITS: Final = 5
"""Significant digits of a drawn point: a thousandth of a screen."""
_GROUPS: Final = ("front", "dominated", "over a limit", "not trained")


def chart_data(facts: Facts) -> dict[str, Any]:
    """Everything that the page's script draws, as JSON-able values; texts are as they are, the script escapes them.

    Readings are in the screen's units; what is unknown is null. Names that repeat are written once and counted.
    """
    return {
        "objectives": [_axis(facts, row) for row in facts.objectives],
        "points": _table(facts),
        "recommended": None if facts.chosen is None else facts.chosen.trial,
        "growth": None if facts.growth is None else {"by": facts.growth.by, "points": facts.growth.points},
        "colours": dict(COLOURS),
        "other": OTHER_COLOUR,
        "symbols": dict(SYMBOLS),
    }


def _axis(facts: Facts, row: Objective) -> dict[str, Any]:
    """One objective: how it is said, which way is better, its limit in the screen's unit."""
    scale, bound = SCALES[row.name], facts.run.limits.get(row.name)
    readings = [result.score[row.reading] for result in facts.scored if row.reading in result.score]
    return {
        "name": row.name,
        "noun": scale.noun,
        "unit": scale.unit,
        "how": " or ".join(sorted({"estimated" if mark(reading) else reading.how for reading in readings})),
        "log": row.scale == "ratio",
        "higher": row.direction == "maximize",
        "limit": None if bound is None else bound * scale.factor,
        "limit_text": None if bound is None else spell_limit(row.name, bound),
    }


def _table(facts: Facts) -> dict[str, Any]:
    """One column for each property, one place for each result."""
    groups = (facts.front, facts.dominated, facts.over, facts.refused)
    results = [result for group in groups for result in group]
    networks, compressions, recipes = (
        _indexed(say(result) for result in results)
        for say in (
            lambda r: r.candidate.network.label,
            lambda r: describe(r.candidate.compression),
            lambda r: r.candidate.recipe.label,
        )
    )
    columns = [_readings(results, row) for row in facts.objectives]
    return {
        "groups": _GROUPS,
        "group": [place for place, group in enumerate(groups) for _ in group],
        "trial": [result.trial for result in results],
        "network": networks,
        "compression": compressions,
        "recipe": recipes,
        "family": _indexed(result.candidate.network.family for result in results),
        "scheme": _indexed(result.candidate.compression.scheme for result in results),
        "test": [None if r.test_top1 is None else number("accuracy", r.test_top1.value) for r in results],
        "share": [None if (share := facts.share(r)) is None else round(share, 3) for r in results],
        "value": [[None if r is None else _short(r.value * f) for r in column] for column, f in columns],
        "low": [[None if r is None else _short(r.low * f) for r in column] for column, f in columns],
        "high": [[None if r is None else _short(r.high * f) for r in column] for column, f in columns],
        "how": _indexed(("" if r is None else r.how for column, _ in columns for r in column)),
    }


def _readings(results: Sequence[Result], row: Objective) -> tuple[list[Reading | None], float]:
    """An axis' readings, those of untrained candidates included, and the factor to the screen's unit."""
    scores = (result.outcome.score if isinstance(result.outcome, Infeasible) else result.score for result in results)
    return [score.get(row.reading) for score in scores], SCALES[row.name].factor


def _indexed(texts: Iterable[str]) -> dict[str, Any]:
    """A column of texts: each of them once, and which one stands where."""
    told = list(texts)
    names = list(dict.fromkeys(told))
    place = {name: index for index, name in enumerate(names)}
    return {"names": names, "at": [place[text] for text in told]}


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
