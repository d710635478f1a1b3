"""What does the trade-off look like?  Top-1 against size, latency, memory or energy, as HTML or PNG.

Colours are those of Okabe and Ito (Color Universal Design, 2008), distinguishable with every kind of colour vision:
one per family; the marker's shape is the compression scheme. The line is the best top-1 known for each budget on that
panel's axis alone; full colour is the front on all objectives that were asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from coreml_pareto.objectives import pareto
from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.reading import losses
from coreml_pareto.search.figures import ESTIMATE, SCALES, figure, interval, mark
from coreml_pareto.search.limits import spell_limit
from coreml_pareto.search.relaxation import Limits, fits
from coreml_pareto.search.report import words
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.compression import describe
from coreml_pareto.spaces.errors import UserError

COLOURS: Final = {
    "mobilenet": "#0072B2", "efficientnet": "#D55E00", "squeezenet": "#009E73", "timm": "#CC79A7",
}  # fmt: skip
SYMBOLS: Final = {
    "fp32": "circle", "fp16": "square", "int8": "diamond", "int4": "triangle-up", "palette": "pentagon",
    "pruning": "triangle-down", "joint": "hourglass", "mixed": "star", "w8a8": "cross",
}  # fmt: skip
_OTHER_COLOUR: Final = "#E69F00"
_GREY: Final = "#9A9A9A"
_INK: Final = "#222222"
DEFAULT_PANELS: Final = ("size", "latency")
CROWD: Final = 30
_WAY_OUT: Final = "write FILE.html instead, or"


@final
@dataclass(frozen=True)
class Picture:
    """What is drawn: the front in colour, the recommended package, within which limits, against which objectives."""

    run: Run
    front: Sequence[Result]
    limits: Limits
    recommended: Result | None = None
    panels: Sequence[str] = DEFAULT_PANELS
    strict: bool = False

    def keeps(self, result: Result) -> bool:
        """Whether a package keeps the limits, at the worse ends where the picture or its run is strict."""
        return fits(result, self.limits, strict=self.strict or self.run.strict)


def pareto_figure(picture: Picture) -> go.Figure:
    """Top-1 against each panel's objective, side by side; UserError when no package has both readings."""
    panels = [name for name in picture.panels if any(_plottable(r, name) for r in picture.run.scored())]
    if not panels:
        raise UserError(f"a chart needs packages with a top-1 and another reading; {picture.run.folder} has none yet")
    figure = make_subplots(rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.04)
    for column, name in enumerate(panels, start=1):
        _panel(figure, picture, name, column)
    _legend(figure, [r for r in picture.run.scored() if any(_plottable(r, name) for name in panels)], picture)
    return _laid_out(figure, picture, panels)


def save_figure(figure: go.Figure, path: Path) -> None:
    """Write a self-contained `.html`, or a `.png` through kaleido and Chromium.

    Raises:
        UserError: another suffix, no such folder, kaleido or the browser is missing.
    """
    check_path(path)
    if path.suffix.lower() == ".html":
        figure.write_html(path, include_plotlyjs=True, full_html=True)
    else:
        _write_png(figure, path)


def check_path(path: Path) -> None:
    """Refuse, before anything is computed, a file that `save_figure` could not write."""
    if path.suffix.lower() not in (".html", ".png") or path.is_dir():
        raise UserError(f"a plot is written as .html or .png; got {path.name!r}; name the file so")
    if not path.parent.is_dir():
        raise UserError(f"a plot goes into a folder that exists; {path.parent} does not; create it")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"a plot goes where it can be written; {path} cannot; name another place")


def _write_png(figure: go.Figure, path: Path) -> None:
    if find_spec("kaleido") is None:  # the optional extra behind plotly's write_image
        raise UserError(f"PNG needs kaleido, which is not installed; {_WAY_OUT} pip install 'coreml-pareto[png]'")
    try:
        figure.write_image(path, format="png", scale=2)
    except Exception as error:  # kaleido and choreographer raise several types, by version, for a missing browser
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"PNG needs Chrome or Chromium, which kaleido could not run ({first}); {_WAY_OUT} install it (Debian: "
            "apt-get install chromium; elsewhere: plotly_get_chrome), and set BROWSER_PATH if it is not found"
        ) from error


def _panel(figure: go.Figure, picture: Picture, name: str, column: int) -> None:
    shown = [result for result in picture.run.scored() if _plottable(result, name)]
    on_front = {result.trial for result in picture.front}
    kept = {result.trial for result in shown if picture.keeps(result)}
    for inside in (False, True):
        muted = [r for r in shown if r.trial not in on_front and (r.trial in kept) is inside]
        if muted:
            figure.add_trace(_points(muted, name, "dominated" if inside else "breaks a limit"), row=1, col=column)
    figure.add_trace(_staircase([r for r in shown if r.trial in kept], name), row=1, col=column)
    for family in dict.fromkeys(r.candidate.network.family for r in shown):
        chosen = [r for r in shown if r.trial in on_front and r.candidate.network.family == family]
        if chosen:
            figure.add_trace(_points(chosen, name, family, bars=not _crowded(picture)), row=1, col=column)
    best = picture.recommended
    if best is not None and _plottable(best, name):
        figure.add_trace(_ring(best, name), row=1, col=column)
    _limit_lines(figure, picture.limits, name, column)


def _points(results: Sequence[Result], name: str, group: str, *, bars: bool = False) -> go.Scatter:
    muted = group in ("dominated", "breaks a limit")
    suffix = "-open" if group == "breaks a limit" else ""
    x, y = _values(results, name), _values(results, "accuracy")
    return go.Scatter(
        x=x,
        y=y,
        mode="markers",
        legendgroup=group,
        showlegend=False,
        name=group,
        hovertemplate="%{text}<extra></extra>",
        text=[_hover(result) for result in results],
        marker={
            "symbol": [SYMBOLS.get(r.candidate.compression.scheme, "circle") + suffix for r in results],
            "color": _GREY if muted else _colour(group),
            "size": 6 if muted else 10,
            "opacity": 0.45 if muted else 1.0,
            "line": {"width": 0.8, "color": _GREY if muted else "white"},
        },
        error_x=_bars(results, name, x, _colour(group)) if bars else None,
        error_y=_bars(results, "accuracy", y, _colour(group)) if bars else None,
    )


def _bars(results: Sequence[Result], name: str, values: Sequence[float], colour: str) -> dict[str, Any]:
    factor = SCALES[name].factor
    readings = [result.score[OBJECTIVES[name].reading] for result in results]
    return {
        "type": "data",
        "symmetric": False,
        "array": [factor * reading.high - value for reading, value in zip(readings, values, strict=True)],
        "arrayminus": [value - factor * reading.low for reading, value in zip(readings, values, strict=True)],
        "thickness": 0.8,
        "width": 0,
        "color": _faded(colour),
    }


def _staircase(results: Sequence[Result], name: str) -> go.Scatter:
    """The best top-1 known for each budget of one objective."""
    rows = [OBJECTIVES["accuracy"], OBJECTIVES[name]]
    kept = pareto.front([losses(result.score, rows) for result in results])
    line = sorted((results[i] for i in kept), key=lambda r: r.score[OBJECTIVES[name].reading].value)
    return go.Scatter(
        x=_values(line, name), y=_values(line, "accuracy"), mode="lines", hoverinfo="skip", legendgroup="line",
        showlegend=False, line={"shape": "hv", "width": 1.4, "color": _INK},
    )  # fmt: skip


def _ring(result: Result, name: str) -> go.Scatter:
    return go.Scatter(
        x=_values([result], name), y=_values([result], "accuracy"), mode="markers", hoverinfo="skip",
        legendgroup="recommended", showlegend=False,
        marker={"symbol": "circle-open", "size": 22, "color": _INK, "line": {"width": 2.4}},
    )  # fmt: skip


def _limit_lines(figure: go.Figure, limits: Limits, name: str, column: int) -> None:
    place: dict[str, Any] = {"row": 1, "col": column}
    style = {"line_dash": "dot", "line_width": 1.2, "line_color": _GREY, **place}
    label = {"showarrow": False, "font": {"size": 12, "color": _GREY}, "bgcolor": "rgba(255,255,255,0.7)", **place}
    if name in limits:
        x = limits[name] * SCALES[name].factor
        figure.add_vline(x=x, **style)
        # Annotations on a logarithmic axis are placed by the exponent, lines by the value.
        text = f"limit {spell_limit(name, limits[name])}"
        figure.add_annotation(x=np.log10(x), y=0, yref="y domain", xanchor="left", yanchor="bottom", text=text, **label)
    if "accuracy" in limits:
        y = limits["accuracy"] * SCALES["accuracy"].factor
        figure.add_hline(y=y, **style)
        text = f"limit {spell_limit('accuracy', limits['accuracy'])}"
        figure.add_annotation(x=1, xref="x domain", y=y, xanchor="right", yanchor="bottom", text=text, **label)


def _legend(figure: go.Figure, results: Sequence[Result], picture: Picture) -> None:
    """Entries without points: families by colour, schemes by shape, then what line, ring and greys mean."""
    families = dict.fromkeys(r.candidate.network.family for r in results)
    schemes = {r.candidate.compression.scheme for r in results}
    on_front = {result.trial for result in picture.front}
    muted = {picture.keeps(r) for r in results if r.trial not in on_front}
    for family in families:
        _entry(figure, family, {"color": _colour(family), "size": 11, "symbol": "circle"})
    for scheme in (scheme for scheme in SYMBOLS if scheme in schemes):
        _entry(figure, scheme, {"color": _INK, "size": 9, "symbol": SYMBOLS[scheme]})
    if True in muted:
        _entry(figure, "dominated", {"color": _GREY, "size": 8, "symbol": "circle", "opacity": 0.5})
    if False in muted:
        _entry(figure, "breaks a limit", {"color": _GREY, "size": 8, "symbol": "circle-open"})
    if picture.recommended is not None:
        ring = {"symbol": "circle-open", "size": 14, "color": _INK, "line": {"width": 2.4}}
        _entry(figure, "recommended", ring)


def _entry(figure: go.Figure, name: str, marker: Mapping[str, Any]) -> None:
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=name, legendgroup=name, marker=dict(marker)))


def _laid_out(figure: go.Figure, picture: Picture, panels: Sequence[str]) -> go.Figure:
    run = picture.run
    heading = f"{escape(run.study, quote=False)}: {words.many(len(picture.front), 'package')} on the front"
    heading += f" of {len(run.scored())} scored"
    lines = _note(picture)
    note = "".join(f"<br><sup>{escape(line, quote=False)}</sup>" for line in lines)
    figure.update_layout(
        template="plotly_white",
        width=max(760, 560 * len(panels)),
        height=590 + 25 * len(lines),
        font={"family": "Helvetica, Arial, DejaVu Sans, sans-serif", "size": 14, "color": _INK},
        title={"text": f"{heading}{note}", "x": 0.01, "y": 1, "yanchor": "top", "pad": {"t": 24}},
        margin={"l": 70, "r": 30, "t": 75 + 25 * len(lines), "b": 150},
        legend={"orientation": "h", "yanchor": "top", "y": -0.16, "xanchor": "left", "x": 0, "itemsizing": "trace"},
        hoverlabel={"align": "left", "bgcolor": "white"},
    )
    figure.update_yaxes(title_text="top-1 on validation, %", col=1)
    figure.update_yaxes(range=_accuracy_range(picture), ticks="outside")
    for column, name in enumerate(panels, start=1):
        estimated = "" if name == "size" else f", {' or '.join(_origins(run, name))}"
        figure.update_xaxes(
            title_text=f"{name}, {SCALES[name].unit}{estimated} (log)", ticks="outside", col=column, type="log",
            minor={"showgrid": False}, **_ticks(_extent(picture, name)),
        )  # fmt: skip
    return figure


def _ticks(extent: tuple[float, float]) -> dict[str, Any]:
    """Range with a margin, and ticks at 1, 2, 5 × 10^n as plain numbers."""
    low, high = extent
    margin = max(0.04 * np.log10(high / low), 0.08)
    span = [np.log10(low) - margin, np.log10(high) + margin]
    decades = range(int(np.floor(span[0])) - 1, int(np.ceil(span[1])) + 1)
    steps = (1, 2, 5) if span[1] - span[0] < 2.5 else (1,)
    marks = [step * 10.0**n for n in decades for step in steps if span[0] <= np.log10(step * 10.0**n) <= span[1]]
    if len(marks) < 2:
        marks = list(np.geomspace(low, high, 3)) if high > low else [low]
    return {"range": span, "tickvals": marks, "ticktext": [f"{mark:.3g}" for mark in marks]}


def _extent(picture: Picture, name: str) -> tuple[float, float]:
    """Smallest and largest number to be seen on an axis: all points, the front's intervals."""
    factor, reading = SCALES[name].factor, OBJECTIVES[name].reading
    scored = [result.score[reading] for result in picture.run.scored() if _plottable(result, name)]
    front = [result.score[reading] for result in picture.front if _plottable(result, name)]
    ends = [r.value for r in scored] + [end for r in front for end in (r.low, r.high)]
    return factor * min(ends), factor * max(ends)


def _accuracy_range(picture: Picture) -> list[float]:
    low, high = _extent(picture, "accuracy")
    margin = max(0.04 * (high - low), 1.0)
    return [max(-2.0, low - margin), min(102.0, high + margin)]


def _note(picture: Picture) -> list[str]:
    """Whose figures these are, line by line."""
    target, scores = picture.run.target, [result.score for result in picture.front]
    latencies = [*words.timed(scores), *words.corrected(scores)] if "latency" in picture.panels else []
    counted = [*latencies, *words.counted(scores), words.EXACT]
    bars = "intervals of so many packages are left out" if _crowded(picture) else "bars: intervals"
    guessed = any("estimated" in _origins(picture.run, name) for name in picture.panels)
    shown = [line.removeprefix(f"{ESTIMATE} ") for line in words.estimated(target, scores) if guessed]
    return [*shown, "; ".join(counted), f"{bars}; line: the best top-1 within each budget"]


def _crowded(picture: Picture) -> bool:
    """Whether intervals would hide the points."""
    return len(picture.front) > CROWD


def _hover(result: Result) -> str:
    candidate = result.candidate
    lines = [
        f"<b>trial {result.trial} · {escape(candidate.network.label, quote=False)}</b>",
        f"{describe(candidate.compression)} · {escape(candidate.recipe.label, quote=False)}",
    ]
    for name, row in OBJECTIVES.items():
        if (reading := result.score.get(row.reading)) is not None:
            ends = interval(name, reading)
            lines.append(f"{SCALES[name].noun} {figure(name, reading)}{f' ({ends})' if ends else ''} {reading.how}")
    if result.test_top1 is not None:
        lines.append(f"test top-1 {figure('accuracy', result.test_top1)}")
    return "<br>".join(lines)


def _values(results: Sequence[Result], name: str) -> list[float]:
    return [SCALES[name].factor * result.score[OBJECTIVES[name].reading].value for result in results]


def _plottable(result: Result, name: str) -> bool:
    return all(OBJECTIVES[axis].reading in result.score for axis in ("accuracy", name))


def _origins(run: Run, name: str) -> list[str]:
    """How an objective's readings were obtained: estimated, measured, or some of each."""
    readings = (result.score.get(OBJECTIVES[name].reading) for result in run.scored())
    return sorted({"estimated" if mark(reading) else reading.how for reading in readings if reading is not None})


def _colour(family: str) -> str:
    return COLOURS.get(family, _OTHER_COLOUR)


def _faded(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.4)"
