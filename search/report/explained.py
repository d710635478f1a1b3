"""Why this package, in terms of methods?  What each one gave on this run, for the priority that was asked.

The rule of thumb is: accuracy first, distillation; size first, quantization. Here the run's own pairs answer it
(`search/methods.py`), and what the run did not try is said, not assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.choose import BALANCED, RunnerUp
from coreml_pareto.search.figures import ESTIMATE, SCALES, mark, number
from coreml_pareto.search.methods import Change, Effect, Kind, Methods, parts
from coreml_pareto.search.report.words import many
from coreml_pareto.search.run import Result

RULES: Final[Mapping[str, Kind]] = {"accuracy": "distillation", "size": "quantization"}
"""The rule of thumb that a priority is held against."""
SHOWN: Final = ("accuracy", "latency", "size")
"""Columns of the table; the other axes stand in `--json`."""
ROWS: Final = 2
"""Of each method, beside the chosen package's own."""


def explained(found: Methods, chosen: Result, priority: str) -> RenderableType | None:
    """The sentences and the table below a recommendation; no table where the run has no pair at all."""
    lines = list(sentences(found, priority))
    if not found.effects:
        return Text("\n".join(lines)) if lines else None
    head = Text("\nWhat each method gave on this run: pairs of packages that differ in nothing else", style="bold")
    legend = Text(
        "Means over n comparisons of trainings; top-1 with 95 % intervals (images and comparisons drawn anew), the others as "
        f"share saved (−) or added; {ESTIMATE} estimated; • in the chosen package.",
        style="dim",
    )
    return Group(head, _table(_rows(found, chosen, priority), chosen), legend, Text("\n".join(lines)))


def sentences(found: Methods, priority: str) -> Iterator[str]:
    """What served the priority most, how the rule of thumb did, and what was not tried; of `balanced`, size and accuracy."""
    for axis in ("accuracy", "size") if priority == BALANCED else (priority,):
        yield from _answer(found, axis)
    if found.untried:
        yield f"Not tried on this run: {', '.join(found.untried)}."
    if found.unpaired:
        yield f"Tried, but without a counterpart that differs in nothing else: {', '.join(found.unpaired)}."
    if other := [effect for effect in found.effects if effect.other_start]:
        begun = ", ".join(
            f"{effect.kind} {effect.what} ({effect.other_start} of {effect.comparisons})" for effect in other
        )
        yield f"Part of the difference may be that trainings began with other weights: {begun}; `ablate` trains them alike."


def as_data(found: Methods) -> dict[str, Any]:
    """The effects for machines: changes in the readings' units, with ends, and the trials that were compared."""
    return {
        "effects": [_plain(effect) for effect in found.effects],
        "not_tried": list(found.untried),
        "without_counterpart": list(found.unpaired),
    }


def trade_offs(other: RunnerUp) -> dict[str, dict[str, Any]]:
    """What taking a runner-up instead would change, for machines: by reading, minus the chosen one's; 95 % ends of top-1."""
    return {
        difference.objective.reading: {
            "change": difference.change,
            "low": difference.low,
            "high": difference.high,
            "better": difference.better,
            "distinguishable": bool(difference.change) and not difference.overlap,
        }
        for difference in other.differences
    }


def _plain(effect: Effect) -> dict[str, Any]:
    changes = {
        change.objective.reading: {
            "change": change.value, "low": change.low, "high": change.high, "ratio": change.ratio,
            "ends": "95 % interval" if change.ratio is None else "range over the pairs",
        }
        for change in effect.changes.values()
    }  # fmt: skip
    pairs = [[before.trial, after.trial] for before, after in effect.pairs]
    return {
        "method": effect.kind, "what": effect.what, "comparisons": effect.comparisons,
        "other_initial_weights": effect.other_start, "pairs": pairs, "changes": changes,
    }  # fmt: skip


def _answer(found: Methods, axis: str) -> Iterator[str]:
    """What did most for an axis; and what the rule of thumb names, where that is another method."""
    noun, best = (
        SCALES[axis].noun,
        _best([_toward(effect, axis) for effect in found.effects if axis in effect.changes], axis),
    )
    ruled = _best(
        [effect for effect in found.effects if effect.kind == RULES.get(axis) and axis in effect.changes], axis
    )
    if best is None:
        yield f"For {noun} no method can be compared: no two packages of this run differ in one method alone."
    elif best.changes[axis].gain <= 0:
        yield f"For {noun} no method that was compared gained anything."
    else:
        unsure = "" if best.changes[axis].shown else ", no difference shown"
        as_ruled = ", as the rule of thumb says" if best is ruled else ""
        yield f"For {noun} most was gained by {best.kind} {best.what}{as_ruled}: {_told(best, axis)}{unsure}."
    if ruled is not None and ruled is not best:
        yield f"The rule of thumb for {noun}, {ruled.kind}, {_verdict(ruled.changes[axis])}: {ruled.what}, {_told(ruled, axis)}."


def _best(effects: Sequence[Effect], axis: str) -> Effect | None:
    return max(effects, key=lambda effect: effect.changes[axis].gain, default=None)


def _verdict(change: Change) -> str:
    if not change.shown:
        return "shows no difference here"
    return "gained less" if change.gain > 0 else "cost here"


def _told(effect: Effect, axis: str) -> str:
    """`−0.41 MB (−65 %), for −1.5 points of top-1 (95 %: −2.8 to −0.4), 4 comparisons`."""
    parts = [_amount(effect, axis)]
    if axis != "accuracy" and "accuracy" in effect.changes:
        parts.append(f"with {_amount(effect, 'accuracy')}")
    return f"{', '.join(parts)}, {many(effect.comparisons, 'comparison')}"


def _amount(effect: Effect, name: str) -> str:
    change = effect.changes[name]
    shown = f"{_mark(effect, name)}{_signed(name, change.value)} {SCALES[name].difference}"
    if change.ratio is not None:
        return f"{shown} ({_percent(change.ratio)})"
    if change.low is None or change.high is None:
        return shown
    return f"{shown} (95 %: {_signed(name, change.low)} to {_signed(name, change.high)})"


def _mark(effect: Effect, name: str) -> str:
    """A tilde where any of the readings behind a change is an estimate."""
    reading = OBJECTIVES[name].reading
    return next((told for pair in effect.pairs for one in pair if (told := mark(one.score[reading]))), "")


def _signed(objective: str, value: float) -> str:
    shown = number(objective, abs(value))
    sign = "" if not float(shown) else "+" if value > 0 else "−"
    return f"{sign}{shown}"


def _percent(ratio: float) -> str:
    shown = f"{abs(100 * (ratio - 1)):.0f}"
    return f"{'' if shown == '0' else '+' if ratio > 1 else '−'}{shown} %"


def _toward(effect: Effect, axis: str) -> Effect:
    """Steps between sizes and backbones can be gone either way: the one that helps an axis."""
    both_ways = effect.kind in ("resolution", "width", "architecture")
    return effect.reversed if both_ways and effect.changes[axis].gain < 0 else effect


def _rows(found: Methods, chosen: Result, priority: str) -> Iterator[Effect]:
    """Of each method the forms that served the priority most, and the chosen package's own."""
    axis = "accuracy" if priority == BALANCED else priority
    for kind in dict.fromkeys(effect.kind for effect in found.effects):
        told = [_to(effect, chosen) for effect in found.of(kind)]
        if kind == "architecture":
            told = [effect for effect in told if _in(effect, chosen)]
        told.sort(key=lambda effect: -effect.changes[axis].gain if axis in effect.changes else 0.0)
        yield from (effect for place, effect in enumerate(told) if place < ROWS or _in(effect, chosen))


def _to(effect: Effect, chosen: Result) -> Effect:
    """Backbones are compared with the chosen one where it takes part."""
    first, _, _ = effect.what.partition(" → ")
    return effect.reversed if effect.kind == "architecture" and first == chosen.candidate.network.backbone else effect


def _in(effect: Effect, chosen: Result) -> bool:
    """Whether the chosen package has this form of a method."""
    candidate = chosen.candidate
    _, _, after = effect.what.partition(" → ")
    match effect.kind:
        case "distillation":
            return effect.what == candidate.recipe.teacher
        case "quantization":
            return parts(effect.pairs[0][1].candidate.compression)[0] == parts(candidate.compression)[0]
        case "pruning":
            return parts(effect.pairs[0][1].candidate.compression)[1] == parts(candidate.compression)[1]
        case "resolution":
            return after == f"{candidate.network.resolution:g}"
        case "width":
            return after == f"{candidate.network.width:g}"
        case "architecture":
            return after == candidate.network.backbone


def _table(rows: Iterator[Effect] | Sequence[Effect], chosen: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", width=1)
    table.add_column("method", no_wrap=True)
    table.add_column("form", ratio=1, overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    for name in SHOWN:
        table.add_column(
            {"accuracy": "points of top-1"}.get(name, f"{name} {SCALES[name].unit}"), justify="right", no_wrap=True
        )
    before = ""
    for effect in rows:
        kind, before = ("" if effect.kind == before else effect.kind), effect.kind
        cells = (_cell(effect, name) for name in SHOWN)
        table.add_row("•" if _in(effect, chosen) else "", kind, Text(effect.what), str(effect.comparisons), *cells)
    return table


def _cell(effect: Effect, name: str) -> str:
    change = effect.changes.get(name)
    if change is None:
        return "–"
    if change.ratio is not None:
        return f"{_mark(effect, name)}{_signed(name, change.value)} ({_percent(change.ratio)})"
    ends = (
        ""
        if change.low is None or change.high is None
        else f" ({_signed(name, change.low)} to {_signed(name, change.high)})"
    )
    return f"{_signed(name, change.value)}{ends}"
