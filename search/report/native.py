"""Which charts on a slide can be edited?  PowerPoint's own, with their data in a workbook: XY scatter and bars.

Intervals are the charts' own error bars (ECMA-376 part 1, 21.2.2.55 `errBars`), which python-pptx does not write itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from lxml import etree  # type: ignore[import-untyped]  # pptx's own dependency
from pptx.chart.data import CategoryChartData, XyChartData
from pptx.enum.chart import (
    XL_CHART_TYPE,
    XL_LABEL_POSITION,
    XL_LEGEND_POSITION,
    XL_MARKER_STYLE,
    XL_TICK_LABEL_POSITION,
    XL_TICK_MARK,
)
from pptx.oxml.ns import qn
from pptx.util import Pt

from coreml_pareto.search.report.fitting import breadth, shorten
from coreml_pareto.search.report.ink import BLUE, GREY, INK, PALE, printable
from coreml_pareto.search.report.slides import BODY_LEAST, Frame, Page, colour_of

_FORMAT: Final = "General"
_MARKERS: Final = {
    "circle": XL_MARKER_STYLE.CIRCLE, "square": XL_MARKER_STYLE.SQUARE, "diamond": XL_MARKER_STYLE.DIAMOND,
    "triangle": XL_MARKER_STYLE.TRIANGLE, "cross": XL_MARKER_STYLE.X, "star": XL_MARKER_STYLE.STAR,
}  # fmt: skip

Ends = tuple[float, float]
"""Lengths of the bars below and above a value, not negative."""


@final
@dataclass(frozen=True)
class Series:
    """Points of one kind: their name in the legend, look, coordinates, and intervals where `x_ends`, `y_ends` have any."""

    name: str
    points: tuple[tuple[float, float], ...]
    colour: str
    marker: str = "circle"
    size: int = 7
    filled: bool = True
    x_ends: tuple[Ends, ...] = ()
    y_ends: tuple[Ends, ...] = ()


@final
@dataclass(frozen=True)
class Span:
    """An axis: its title and, where given, its ends."""

    title: str
    low: float | None = None
    high: float | None = None


def scatter(page: Page, series: Sequence[Series], x: Span, y: Span, frame: Frame, legend: float = 300.0) -> Any:
    """Draw an XY scatter with the legend at the right, `legend` points wide; return python-pptx's chart."""
    data: Any = XyChartData()  # type: ignore[no-untyped-call]
    for one in series:
        added = data.add_series(shorten(one.name, legend - 50, BODY_LEAST))
        for point in one.points:
            added.add_data_point(*point)
    chart = page.shapes.add_chart(XL_CHART_TYPE.XY_SCATTER, *frame.place, data).chart
    _plain(chart)
    chart.has_legend = True
    chart.legend.position, chart.legend.include_in_layout = XL_LEGEND_POSITION.RIGHT, False
    chart.legend.font.size = Pt(BODY_LEAST)
    _axis(chart.category_axis, x)
    _axis(chart.value_axis, y)
    for drawn, one in zip(chart.plots[0].series, series, strict=True):
        _mark(drawn, one)
        if one.y_ends:
            _error_bars(drawn, one.y_ends, one.colour, "y")
        if one.x_ends:
            _error_bars(drawn, one.x_ends, one.colour, "x")
    return chart


def bars(
    page: Page, values: Mapping[str, float], labels: Sequence[Sequence[str]], frame: Frame, *,
    strong: int | None = None, names: float = 0.0,
) -> Any:  # fmt: skip
    """Draw horizontal bars from 0, the first on top, each with its label; return python-pptx's chart.

    The plot takes the frame's whole height, so that each bar's row is an even share of it.

    Args:
        values: by category, not negative.
        labels: lines beside each bar.
        strong: the bar that is set off; all alike without one.
        names: points that the categories' names may be wide; 0 leaves them out, for a chart beside another one.
    """
    data: Any = CategoryChartData()  # type: ignore[no-untyped-call]
    data.categories = [shorten(name, (names or 400.0) - 12, BODY_LEAST) for name in values]
    data.add_series("value", list(values.values()))
    chart = page.shapes.add_chart(XL_CHART_TYPE.BAR_CLUSTERED, *frame.place, data).chart
    _plain(chart)
    _lay_out(chart, names / frame.width, 0.0, 1 - names / frame.width, 1.0)
    categories, axis = chart.category_axis, chart.value_axis
    categories.reverse_order, categories.tick_labels.font.size = True, Pt(BODY_LEAST)
    categories.format.line.color.rgb = colour_of(GREY)
    categories.major_tick_mark = XL_TICK_MARK.NONE
    if not names:
        categories.tick_label_position = XL_TICK_LABEL_POSITION.NONE
    axis.visible, axis.has_major_gridlines, axis.minimum_scale = False, False, 0.0
    room = max((breadth(line, BODY_LEAST) for lines in labels for line in lines), default=0.0) + 14
    axis.maximum_scale = (max(values.values(), default=0.0) or 1.0) / max(0.15, 1 - room / (frame.width - names))
    chart.plots[0].gap_width = 60
    (drawn,) = chart.plots[0].series
    for place, lines in enumerate(labels):
        point = drawn.points[place]
        point.format.fill.solid()
        point.format.fill.fore_color.rgb = colour_of(BLUE if strong in (None, place) else GREY)
        point.data_label.text_frame.word_wrap = False
        _write(point.data_label.text_frame, *lines)
        point.data_label.position = XL_LABEL_POSITION.OUTSIDE_END
    return chart


def _lay_out(chart: Any, left: float, top: float, width: float, height: float) -> None:
    """Where the bars stand, shares of the chart's frame (ECMA-376 part 1, 21.2.2.95 `manualLayout`)."""
    area = chart._chartSpace.chart.plotArea
    layout = area.find(qn("c:layout"))
    if layout is None:
        layout = etree.Element(qn("c:layout"))
        area.insert(0, layout)
    manual = etree.SubElement(layout, qn("c:manualLayout"))
    _child(manual, "layoutTarget", "inner")
    for name in ("xMode", "yMode"):
        _child(manual, name, "edge")
    for name, share in (("x", left), ("y", top), ("w", width), ("h", height)):
        _child(manual, name, f"{share:.5f}")


def _plain(chart: Any) -> None:
    chart.has_legend = False
    chart.has_title = False
    chart.font.size = Pt(BODY_LEAST)
    chart.font.color.rgb = colour_of(INK)


def _axis(axis: Any, span: Span) -> None:
    axis.has_title = True
    _write(axis.axis_title.text_frame, span.title)
    axis.has_major_gridlines = True
    axis.major_gridlines.format.line.color.rgb = colour_of(PALE)
    axis.format.line.color.rgb = colour_of(GREY)
    axis.tick_labels.font.size = Pt(BODY_LEAST)
    axis.tick_labels.number_format, axis.tick_labels.number_format_is_linked = _FORMAT, False
    if span.low is not None:
        axis.minimum_scale = span.low
    if span.high is not None:
        axis.maximum_scale = span.high


def _write(frame: Any, *lines: str) -> None:
    for place, line in enumerate(lines):
        paragraph = frame.paragraphs[0] if place == 0 else frame.add_paragraph()
        run = paragraph.add_run()
        run.text, run.font.size, run.font.bold = printable(line), Pt(BODY_LEAST), False
        run.font.color.rgb = colour_of(INK)


def _mark(drawn: Any, one: Series) -> None:
    drawn.format.line.fill.background()
    drawn.marker.style, drawn.marker.size = _MARKERS[one.marker], one.size
    fill = drawn.marker.format.fill
    if one.filled:
        fill.solid()
        fill.fore_color.rgb = colour_of(one.colour)
    else:
        fill.background()
    drawn.marker.format.line.color.rgb = colour_of(one.colour)


def _error_bars(drawn: Any, ends: Sequence[Ends], colour: str, direction: str | None = None) -> None:
    """Put an `errBars` element where the schema wants it: before the values."""
    element = etree.Element(qn("c:errBars"))
    if direction is not None:
        _child(element, "errDir", direction)
    _child(element, "errBarType", "both")
    _child(element, "errValType", "cust")
    _child(element, "noEndCap", "1")
    for name, side in (("plus", 1), ("minus", 0)):
        numbers = etree.SubElement(etree.SubElement(element, qn(f"c:{name}")), qn("c:numLit"))
        etree.SubElement(numbers, qn("c:formatCode")).text = _FORMAT
        _child(numbers, "ptCount", str(len(ends)))
        for place, pair in enumerate(ends):
            point = etree.SubElement(numbers, qn("c:pt"), idx=str(place))
            etree.SubElement(point, qn("c:v")).text = repr(float(pair[side]))
    line = etree.SubElement(etree.SubElement(element, qn("c:spPr")), qn("a:ln"), w=str(int(Pt(1.5))))
    etree.SubElement(etree.SubElement(line, qn("a:solidFill")), qn("a:srgbClr"), val=colour.removeprefix("#"))
    series = drawn._element
    values = next(child for child in series if child.tag in (qn("c:cat"), qn("c:val"), qn("c:xVal"), qn("c:yVal")))
    values.addprevious(element)


def _child(parent: Any, name: str, value: str) -> None:
    etree.SubElement(parent, qn(f"c:{name}"), val=value)
