"""The charts, as data and as files."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from PIL import Image

from coreml_pareto.objectives.catalogue import select
from coreml_pareto.objectives.reading import losses
from coreml_pareto.search.choose import Recommendation, front, recommend
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report.charts import COLOURS, CROWD, SYMBOLS, Picture, pareto_figure, save_figure
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.candidate import Scheme
from coreml_pareto.spaces.compression import SCHEMES
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import FAMILIES, TIMM


def picture(run: Run, **changes: Any) -> Picture:
    answer = recommend(run)
    chosen = answer.chosen if isinstance(answer, Recommendation) else None
    return Picture(run, front(run), run.limits, chosen, **changes)


def markers(figure: go.Figure) -> list[go.Scatter]:
    """Traces of real points, without the legend's own."""
    return [trace for trace in figure.data if trace.text is not None]


@pytest.mark.parametrize("count", [1, 12, 500])
def test_every_package_is_drawn_once_per_panel(draw_run: Callable[..., Run], count: int) -> None:
    run = draw_run(count, limits={"size": 2e6})
    figure = pareto_figure(picture(run))
    for axis in ("x", "x2"):
        assert sum(len(trace.x) for trace in markers(figure) if (trace.xaxis or "x") == axis) == count
    bars = any(trace.error_y.array is not None for trace in markers(figure))
    assert bars == (len(front(run)) <= CROWD)
    assert figure.layout.xaxis.type == figure.layout.xaxis2.type == "log"


def test_points_sit_at_their_readings(draw_run: Callable[..., Run]) -> None:
    run = draw_run(12)
    figure = pareto_figure(picture(run))
    drawn = {
        (x, y)
        for trace in markers(figure)
        if (trace.xaxis or "x") == "x"
        for x, y in zip(trace.x, trace.y, strict=True)
    }
    assert drawn == {(r.score["size_bytes"].value * 1e-6, r.score["top1"].value * 100) for r in run.scored()}


def test_error_bars_end_at_the_interval(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> None:
    run = run_of((result_at(0, (0.9, 0.5, 1e6, 1e6, 1)),))
    (trace,) = [t for t in markers(pareto_figure(picture(run))) if t.xaxis == "x2"]
    assert trace.x[0] + trace.error_x.array[0] == 1.0
    assert trace.x[0] - trace.error_x.arrayminus[0] == 0.25


def test_the_line_is_the_panels_own_front(draw_run: Callable[..., Run]) -> None:
    run = draw_run(60)
    (line,) = [t for t in pareto_figure(picture(run, panels=("size",))).data if t.mode == "lines"]
    rows = select(["accuracy", "size"])
    mine = [losses(r.score, rows) for r in run.scored()]
    kept = [p for p in mine if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in mine)]
    assert list(line.x) == sorted(p[1] * 1e-6 for p in kept)
    assert list(line.y) == sorted(-100 * p[0] for p in kept)


def test_muted_points_and_their_legend(draw_run: Callable[..., Run]) -> None:
    run = draw_run(60, limits={"size": 5e5})
    figure = pareto_figure(picture(run))
    groups = {trace.legendgroup for trace in markers(figure)}
    assert {"dominated", "breaks a limit"} <= groups
    names = {trace.name for trace in figure.data if trace.x == (None,)}
    assert {"dominated", "breaks a limit", "recommended"} <= names
    open_symbols = [s for t in markers(figure) if t.legendgroup == "breaks a limit" for s in t.marker.symbol]
    assert open_symbols and all(symbol.endswith("-open") for symbol in open_symbols)
    (note,) = [a for a in figure.layout.annotations if a.text == "limit 500KB"]
    assert math.isclose(note.x, math.log10(0.5))


def test_the_hover_names_the_candidate(draw_run: Callable[..., Run]) -> None:
    run = draw_run(3)
    text = "".join(t for trace in markers(pareto_figure(picture(run))) for t in trace.text)
    for result in run.scored():
        assert result.candidate.network.label in text
    assert "estimated" in text and "measured" in text and "exact" in text


def test_a_name_is_no_markup(draw_run: Callable[..., Run]) -> None:
    run = draw_run(3)
    first = run.results[0]
    recipe = first.candidate.recipe.model_copy(update={"teacher": "<b>x</b>&<br>"})
    named = replace(first, candidate=first.candidate.model_copy(update={"recipe": recipe}))
    figure = pareto_figure(picture(replace(run, study="<sup>s", results=(named, *run.results[1:]))))
    text = "".join(t for trace in markers(figure) for t in trace.text)
    assert "&lt;b&gt;x&lt;/b&gt;&amp;&lt;br&gt;" in text and figure.layout.title.text.startswith("&lt;sup&gt;s")


def test_every_family_and_scheme_has_its_mark() -> None:
    assert set(COLOURS) == {*FAMILIES, TIMM} and len(set(COLOURS.values())) == len(COLOURS)
    schemes: set[Scheme] = {cell.scheme for cell in SCHEMES}
    assert set(SYMBOLS) == schemes and len(set(SYMBOLS.values())) == len(SYMBOLS)


def test_a_panel_without_readings_is_left_out(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> None:
    run = run_of((result_at(0, (0.9, 0.5, 1e6, 1e6, 1), lacking=("latency_ms",)),))
    assert "xaxis2" not in pareto_figure(picture(run)).layout.to_plotly_json()
    with pytest.raises(UserError, match="a chart needs"):
        pareto_figure(picture(run, panels=("latency",)))


def test_html_is_self_contained(draw_run: Callable[..., Run], tmp_path: Path) -> None:
    save_figure(pareto_figure(picture(draw_run(3))), tmp_path / "front.html")
    text = (tmp_path / "front.html").read_text(encoding="utf-8")
    assert len(text) > 1_000_000 and '<script src="http' not in text and "mobilenetv2" in text


def test_png(draw_run: Callable[..., Run], tmp_path: Path, browser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kaleido", reason="PNG is the optional extra 'png'")
    monkeypatch.setenv("BROWSER_PATH", browser)
    figure = pareto_figure(picture(draw_run(12)))
    save_figure(figure, tmp_path / "front.png")
    with Image.open(tmp_path / "front.png") as image:
        assert image.size == (2 * figure.layout.width, 2 * figure.layout.height)
        colours = {colour for _, colour in image.convert("RGB").getcolors(maxcolors=1 << 24) or []}
        assert (0x00, 0x72, 0xB2) in colours  # the blue of the MobileNets


@pytest.mark.parametrize("name", ["front.pdf", "front", "nowhere/front.html"])
def test_other_files_are_refused(draw_run: Callable[..., Run], tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="a plot"):
        save_figure(pareto_figure(picture(draw_run(1))), tmp_path / name)


def test_missing_kaleido_names_the_way_out(
    draw_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)  # type: ignore[arg-type]  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'coreml-pareto\[png\]'"):
        save_figure(pareto_figure(picture(draw_run(1))), tmp_path / "front.png")


def test_missing_browser_names_the_way_out(
    draw_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("kaleido", reason="PNG is the optional extra 'png'")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-browser"))
    with pytest.raises(UserError, match="apt-get install chromium"):
        save_figure(pareto_figure(picture(draw_run(1))), tmp_path / "front.png")


def test_strict_limits_mute_what_may_exceed(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> None:
    run = run_of((result_at(0, (0.9, 0.6, 1e6, 1e6, 1)), result_at(1, (0.8, 0.3, 1e6, 1e6, 1))), {"latency": 1.0})

    def muted(run: Run, strict: bool) -> bool:
        found = front(run, strict=strict)
        drawn = pareto_figure(Picture(run, found, run.limits, strict=strict))
        return "breaks a limit" in {trace.legendgroup for trace in markers(drawn)}

    assert muted(run, strict=True) and not muted(run, strict=False)
    assert muted(replace(run, strict=True), strict=False)


def test_an_axis_says_how_its_readings_were_obtained(
    result_at: Callable[..., Result], run_of: Callable[..., Run]
) -> None:
    first, second = result_at(0, (0.9, 0.6, 1e6, 1e6, 1)), result_at(1, (0.8, 0.3, 5e5, 1e6, 1))
    assert isinstance(first.outcome, Scored)
    timed = dict(first.score) | {"latency_ms": replace(first.score["latency_ms"], how="measured")}
    measured = replace(first, outcome=replace(first.outcome, score=timed))

    def title(*results: Result) -> str:
        figure = pareto_figure(picture(run_of(results), panels=("latency",)))
        return str(figure.layout.xaxis.title.text)

    assert title(first, second) == "latency, ms, estimated (log)"
    assert title(measured) == "latency, ms, measured (log)"
    assert title(measured, second) == "latency, ms, estimated or measured (log)"
