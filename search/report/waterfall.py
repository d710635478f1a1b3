"""What did each method contribute, as a picture and in words?  The way from plain to full, and each method left out.

Colours are those of Okabe and Ito (Color Universal Design, 2008): blue for the better, vermilion for the worse, each with
its sign written beside it; grey for where the way begins and ends, and for what the seeds do not tell from no change.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich import box
from rich.table import Table
from rich.text import Text

from coreml_pareto.objectives.catalogue import Objective
from coreml_pareto.search.ablation import BASELINE, Ablation, Shift
from coreml_pareto.search.figures import ESTIMATE, SCALES, number
from coreml_pareto.search.report.words import candidate_name, many

BETTER: Final = "#0072B2"
WORSE: Final = "#D55E00"
LEVEL: Final = "#9A9A9A"
INK: Final = "#222222"
FULL: Final = "full recipe"
_SUBTITLE: Final = (
    "Above: one method at a time, from the plain baseline. Below: what each method changes in the full recipe (that minus the "
    "recipe without it).<br>Blue: better; vermilion: worse; grey: no change is within the interval. The axis of top-1 does not "
    "begin at 0."
)
_ROW, _HEAD, _COLUMN, _LABELS = 44, 150, 235, 140
"""Pixels of a bar with its room, of what is above and below the bars, of an axis, of the names on the left."""


def waterfall_figure(found: Ablation, name: str) -> go.Figure:
    """One column for each axis: above the steps from the baseline to the full recipe, below what each method left out tells.

    Args:
        found: the ablation.
        name: of the study, for the title.
    """
    axes, count = found.axes, len(found.design.methods)
    figure = make_subplots(
        rows=2, cols=len(axes), shared_yaxes=True, horizontal_spacing=0.025, vertical_spacing=0.12,
        row_heights=[count + 2, count], subplot_titles=[_head(found, axis) for axis in axes],
    )  # fmt: skip
    for column, axis in enumerate(axes, start=1):
        _way(figure, found, axis, column)
        _left_out(figure, found, axis, column)
    return _laid_out(figure, found, name)


def ablation_tables(found: Ablation) -> list[Table]:
    """Step by step, then what each method changes in the full recipe, as the last of all: that minus the recipe without it."""
    design, axes = found.design, found.axes
    way, out = _table("one method at a time", found), _table("last of all", found)
    way.add_row(BASELINE, Text(candidate_name(design.plain)), *(_level(found, axis, design.plain) for axis in axes))
    rows = zip(
        design.methods, zip(*map(found.steps, axes), strict=True), zip(*map(found.last, axes), strict=True), strict=True
    )
    for method, steps, last in rows:
        for table, shifts in ((way, steps), (out, last)):
            cells = (_cell(axis, shift) for axis, shift in zip(axes, shifts, strict=True))
            table.add_row(method, Text(design.form(method)), *cells)
    way.add_row(
        FULL, Text(candidate_name(design.full)), *(_level(found, axis, design.full) for axis in axes), style="bold"
    )
    return [way, out]


def caption(found: Ablation) -> str:
    """What the intervals cover, and that the order matters."""
    seeds = f"means over {many(len(found.seeds), 'seed')} ({', '.join(map(str, found.seeds))})"
    teacher = ", nor another training of the teacher" if "distillation" in found.design.methods else ""
    ends = (
        "95 % intervals over the seeds (Student's t; none where all seeds agree): neither the choice of images nor the error "
        f"of estimates{teacher}"
    )
    return (
        f"{seeds[0].upper()}{seeds[1:]}; {ends if len(found.seeds) > 1 else 'of one seed nothing is known of the spread'}; "
        f"{ESTIMATE} estimated. The methods were applied in this order: {', '.join(found.design.methods)}; in another order "
        "the steps would differ. Last of all: the full recipe minus the recipe without that method; "
        "where this is another amount than its step, methods overlap or help each other. All begin with initial weights of "
        "their own; a trial of a search may have inherited its weights and read differently."
    )


def as_data(found: Ablation) -> dict[str, Any]:
    """The ablation for machines: readings' units, means over the seeds with their intervals."""
    design, axes = found.design, found.axes

    def shifts(values: Sequence[Shift]) -> dict[str, Any]:
        pairs = zip(axes, values, strict=True)
        return {axis.reading: {"value": v.value, "low": v.low, "high": v.high} for axis, v in pairs}

    steps, last = (list(zip(*map(told, axes), strict=True)) for told in (found.steps, found.last))
    ends = {
        name: {"candidate": c.model_dump(mode="json"), **shifts([found.mean(c, axis) for axis in axes])}
        for name, c in ((BASELINE, design.plain), ("full", design.full))
    }
    return {
        "order": list(design.methods), "seeds": list(found.seeds), **ends,
        "steps": [
            {"method": method, "form": design.form(method), "change": shifts(step), "change_in_full_recipe": shifts(end)}
            for method, step, end in zip(design.methods, steps, last, strict=True)
        ],
    }  # fmt: skip


def _way(figure: go.Figure, found: Ablation, axis: Objective, column: int) -> None:
    """Floating bars from level to level."""
    start = found.mean(found.design.plain, axis)
    end = found.mean(found.design.full, axis)
    levels = [start.value]
    for shift in found.steps(axis):
        levels.append(levels[-1] + shift.value)
    names = [BASELINE, *found.design.methods, FULL]
    shifts = [start, *found.steps(axis), end]
    bases = [0.0, *levels[:-1], 0.0]
    texts = [_absolute(axis, start), *(_signed(axis, s.value) for s in found.steps(axis)), _absolute(axis, end)]
    colours = [LEVEL, *(_colour(axis, s) for s in found.steps(axis)), LEVEL]
    _bars(figure, found, axis, (names, shifts, bases, texts, colours), (1, column))
    for place, level in enumerate(levels):
        line = {"color": INK, "width": 1, "dash": "dot"}
        x = [level * SCALES[axis.name].factor] * 2
        figure.add_trace(
            go.Scatter(x=x, y=[names[place], names[place + 1]], mode="lines", line=line, showlegend=False, hoverinfo="skip"),
            row=1, col=column,
        )  # fmt: skip
    drawn = [base + end for base, s in zip(bases, shifts, strict=True) for end in (s.value, s.high) if end is not None]
    figure.update_xaxes(range=_range(axis, levels, max(drawn)), row=1, col=column)


def _left_out(figure: go.Figure, found: Ablation, axis: Objective, column: int) -> None:
    """What each method changes in the full recipe."""
    shifts = found.last(axis)
    texts, colours = [_signed(axis, s.value) for s in shifts], [_colour(axis, s) for s in shifts]
    _bars(
        figure,
        found,
        axis,
        (list(found.design.methods), list(shifts), [0.0] * len(shifts), texts, colours),
        (2, column),
    )
    ends = [end * SCALES[axis.name].factor for s in shifts for end in (s.value, s.low, s.high, 0.0) if end is not None]
    room = 0.45 * (max(ends) - min(ends)) or 1.0
    figure.update_xaxes(range=[min(ends) - room, max(ends) + room], row=2, col=column)
    figure.add_vline(x=0, line={"color": INK, "width": 1}, row=2, col=column)


def _bars(figure: go.Figure, found: Ablation, axis: Objective, told: Any, place: tuple[int, int]) -> None:
    names, shifts, bases, texts, colours = told
    factor = SCALES[axis.name].factor
    errors = [0.0 if s.high is None else (s.high - s.value) * factor for s in shifts]
    figure.add_trace(
        go.Bar(
            y=names, x=[s.value * factor for s in shifts], base=[base * factor for base in bases], orientation="h",
            marker={"color": colours}, showlegend=False, customdata=texts,
            hovertemplate="%{y}: %{customdata}<extra></extra>",
            error_x={"type": "data", "array": errors, "color": INK, "thickness": 1.2, "width": 4, "visible": any(errors)},
        ),
        row=place[0], col=place[1],
    )  # fmt: skip
    ends = [
        max(base * factor, (base + s.value) * factor + error)
        for base, s, error in zip(bases, shifts, errors, strict=True)
    ]
    figure.add_trace(
        go.Scatter(
            x=ends, y=names, mode="text", text=[f" {text}" for text in texts], textposition="middle right",
            textfont={"color": INK, "size": 11}, showlegend=False, hoverinfo="skip", cliponaxis=False,
        ),
        row=place[0], col=place[1],
    )  # fmt: skip


def _range(axis: Objective, levels: Sequence[float], high: float) -> list[float]:
    """From 0, but for top-1, whose differences would vanish: from below the lowest level. To beyond the ends of intervals.

    Where an interval ends, its amount is written: what lies outside of an axis is not drawn.
    """
    factor = SCALES[axis.name].factor
    low = min(levels)
    first = max(0.0, low - 0.6 * (max(levels) - low) - 0.01) if axis.name == "accuracy" else 0.0
    return [first * factor, (high + 0.42 * (high - first)) * factor]


def _laid_out(figure: go.Figure, found: Ablation, name: str) -> go.Figure:
    count = len(found.design.methods)
    figure.update_yaxes(autorange="reversed", ticks="", showline=False)
    figure.update_yaxes(categoryorder="array", categoryarray=[BASELINE, *found.design.methods, FULL], row=1)
    figure.update_xaxes(showgrid=True, gridcolor="#E4E4E4", zeroline=False, nticks=4)
    title = f"<b>{_plain(name)}</b>: {_plain(candidate_name(found.design.full))}"
    figure.update_layout(
        template="plotly_white", font={"color": INK, "size": 12}, bargap=0.35, showlegend=False,
        width=_LABELS + _COLUMN * len(found.axes), height=_HEAD + _ROW * (2 * count + 2) + 150,
        margin={"l": _LABELS, "r": 20, "t": 130, "b": 120},
        title={"text": f"{title}<br><sup>{_SUBTITLE}</sup>", "x": 0.01, "xanchor": "left"},
    )  # fmt: skip
    figure.add_annotation(
        text="<br>".join(textwrap.wrap(_plain(caption(found)), 190)), x=0, xref="paper", xanchor="left", y=0, yref="paper",
        yanchor="top", yshift=-42, showarrow=False, align="left", font={"size": 10},
    )  # fmt: skip
    return figure


def _plain(text: str) -> str:
    """Plotly reads a little HTML in its texts: names may hold anything."""
    return html.escape(" ".join(text.split()), quote=False)


def _table(head: str, found: Ablation) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(head, no_wrap=True)
    table.add_column("", ratio=1, overflow="fold")
    for axis in found.axes:
        table.add_column(_head(found, axis).replace(" ", "\n", 1), justify="right", no_wrap=True)
    return table


def _head(found: Ablation, axis: Objective) -> str:
    scale = SCALES[axis.name]
    return f"{scale.noun} {ESTIMATE if found.estimated(axis) else ''}{scale.unit}"


def _level(found: Ablation, axis: Objective, candidate: Any) -> str:
    shift = found.mean(candidate, axis)
    return f"{number(axis.name, shift.value)}{_ends(axis, shift, number)}"


def _cell(axis: Objective, shift: Shift) -> str:
    return f"{_signed(axis, shift.value)}{_ends(axis, shift, lambda name, value: _signed(axis, value))}"


def _ends(axis: Objective, shift: Shift, say: Any) -> str:
    """The interval on a second line; none where all seeds agree, which says nothing of others."""
    if shift.low is None or shift.high is None or math.isclose(shift.low, shift.high, abs_tol=1e-12):
        return ""
    return f"\n{say(axis.name, shift.low)} to {say(axis.name, shift.high)}"


def _absolute(axis: Objective, shift: Shift) -> str:
    return f"{number(axis.name, shift.value)} {SCALES[axis.name].unit}"


def _signed(axis: Objective, value: float) -> str:
    shown = number(axis.name, abs(value))
    return f"{'' if not float(shown) else '+' if value > 0 else '−'}{shown}"


def _colour(axis: Objective, shift: Shift) -> str:
    held = [end for end in (shift.low, shift.value, shift.high) if end is not None]
    if min(held) <= 0 <= max(held):
        return LEVEL
    return BETTER if (shift.value > 0) == (axis.direction == "maximize") else WORSE
