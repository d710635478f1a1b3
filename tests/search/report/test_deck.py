"""The slides, read back by python-pptx: messages, native charts, and that everything stays within its frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pptx import Presentation
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Pt

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.choose import Recommendation, RunnerUp, differences
from coreml_pareto.search.diagnosis.finding import Check, Diagnosis, Evidence, Finding
from coreml_pareto.search.inspection import Bytes, Inspection, Row
from coreml_pareto.search.outcome import Pruned, Scored
from coreml_pareto.search.report.deck import LEAST, MOST, _instead, _trade, write_deck
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.fitting import needed
from coreml_pareto.search.report.gathering import gather
from coreml_pareto.search.report.ink import printable
from coreml_pareto.search.report.scatters import CLOUD, scatter_series
from coreml_pareto.search.report.slides import BODY_LEAST, FOOT_LEAST, HEIGHT, TITLE_LEAST, WIDTH
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.errors import UserError

Written = Callable[[Facts], Any]


@pytest.fixture(name="written")
def written_fixture(tmp_path: Path) -> Written:
    """The slides of these facts, read back from the file."""

    def write(facts: Facts) -> Any:
        write_deck(facts, tmp_path / "report.pptx")
        return Presentation(str(tmp_path / "report.pptx"))

    return write


def charts(deck: Any, kind: Any) -> list[Any]:
    found = [shape.chart for slide in deck.slides for shape in slide.shapes if shape.has_chart]
    return [chart for chart in found if chart.chart_type == kind]


def titles(deck: Any) -> list[str]:
    return [slide.shapes.title.text_frame.text for slide in deck.slides]


def notes(slide: Any) -> str:
    return str(slide.notes_slide.notes_text_frame.text)


def frames(slide: Any) -> Iterator[tuple[Any, Any]]:
    """Shapes that hold text, with it."""
    return ((shape, shape.text_frame) for shape in slide.shapes if shape.has_text_frame)


def check_layout(deck: Any) -> None:
    """No text runs over its frame, no shape over another one or the slide's edge, no letter is small."""
    for place, slide in enumerate(deck.slides, start=1):
        boxes = [(s.left / Pt(1), s.top / Pt(1), s.width / Pt(1), s.height / Pt(1)) for s in slide.shapes]
        for left, top, width, height in boxes:
            assert left >= 0 and top >= 0 and left + width <= WIDTH + 0.1 and top + height <= HEIGHT + 0.1
        for a, b in combinations(boxes, 2):
            apart = a[0] + a[2] <= b[0] + 0.1 or b[0] + b[2] <= a[0] + 0.1
            assert apart or a[1] + a[3] <= b[1] + 0.1 or b[1] + b[3] <= a[1] + 0.1, (place, a, b)
        for shape, frame in frames(slide):
            runs = [run for paragraph in frame.paragraphs for run in paragraph.runs]
            sizes = {run.font.size.pt for run in runs}
            assert len(sizes) == 1 and shape.text_frame.word_wrap
            (size,) = sizes
            foot = shape.top / Pt(1) > 490
            assert size >= (TITLE_LEAST if shape == slide.shapes.title else FOOT_LEAST if foot else BODY_LEAST)
            told = [paragraph.text for paragraph in frame.paragraphs]
            bold = any(run.font.bold for run in runs)
            assert needed(told, shape.width / Pt(1) + 0.01, int(size), bold=bold) <= shape.height / Pt(1) + 0.1, told


@pytest.mark.parametrize(
    ("count", "limits", "classes"),
    [(0, None, 0), (1, None, 2), (12, {"size": 2e6, "accuracy": 0.8}, 10), (12, {"size": 1e4}, 0), (150, None, 1000)],
)
def test_six_to_ten_slides_with_everything_in_its_frame(
    draw_facts: Callable[..., Facts], written: Written, count: int, limits: dict[str, float] | None, classes: int
) -> None:
    facts = draw_facts(count, limits, [f"class {i} with a rather long name, as they are" for i in range(classes)])
    deck = written(facts)
    assert LEAST <= len(deck.slides) <= MOST
    check_layout(deck)
    assert sum(len(charts(deck, kind)) for kind in (XL_CHART_TYPE.XY_SCATTER, XL_CHART_TYPE.BAR_CLUSTERED)) >= (
        2 if count else 1
    )
    assert all(titles(deck))


@pytest.mark.parametrize("name", ["size", "latency"])
def test_the_scatters_data_are_the_packages(draw_facts: Callable[..., Facts], written: Written, name: str) -> None:
    facts = draw_facts(24, {"size": 2e6})
    deck = written(facts)
    chart = charts(deck, XL_CHART_TYPE.XY_SCATTER)[["size", "latency"].index(name)]
    points = [point for series in chart.plots[0].series for point in _points(series)]
    row, factor = OBJECTIVES[name], {"size": 1e-6, "latency": 1.0}[name]
    packages = sorted((factor * r.score[row.reading].value, 100 * r.score["top1"].value) for r in facts.scored)
    assert np.allclose(sorted(points), packages, rtol=1e-12)
    assert facts.chosen is not None
    (mine,) = [series for series in chart.plots[0].series if series.name == f"{facts.chosen.trial}: take this"]
    assert np.allclose(_points(mine), [(factor * facts.score[row.reading].value, 100 * facts.score["top1"].value)])
    reading = facts.score[row.reading]
    lengths = _error_bars(mine, "x")
    assert lengths == pytest.approx((factor * (reading.value - reading.low), factor * (reading.high - reading.value)))
    axis = chart.category_axis
    assert axis.minimum_scale <= min(x for x, _ in points) and max(x for x, _ in points) <= axis.maximum_scale


def test_of_very_many_packages_an_even_share_of_the_dominated_is_drawn(draw_facts: Callable[..., Facts]) -> None:
    facts = draw_facts(700)
    series = {one.name.split(" (")[0]: one for one in scatter_series(facts, OBJECTIVES["size"])}
    grey = series["dominated"]
    step = -(-len(facts.dominated) // CLOUD)
    assert step > 1 and grey.name == f"dominated (1 in {step})" and len(grey.points) == -(-len(facts.dominated) // step)
    assert set(grey.points) <= {
        (r.score["size_bytes"].value * 1e-6, 100 * r.score["top1"].value) for r in facts.dominated
    }
    anchors = {anchor.result.trial for anchor in facts.anchors}
    assert len(series["front"].points) == len([r for r in facts.front if r.trial not in anchors])


def test_the_first_series_is_the_longest(draw_facts: Callable[..., Facts]) -> None:
    for limits in (None, {"size": 2e5}, {"size": 1e4}):
        lengths = [len(one.points) for one in scatter_series(draw_facts(30, limits), OBJECTIVES["size"])]
        assert lengths[0] == max(lengths)


def _points(series: Any) -> list[tuple[float, float]]:
    numbers = [
        [float(v.text) for v in series._element.findall(f".//{{*}}{tag}//{{*}}pt/{{*}}v")] for tag in ("xVal", "yVal")
    ]
    return list(zip(*numbers, strict=True))


def _error_bars(series: Any, direction: str) -> tuple[float, float]:
    """Lengths below and above of a series of one point."""
    bars = series._element.findall("{*}errBars")
    (found,) = [bar for bar in bars if bar.find("{*}errDir").get("val") == direction]
    below, above = (float(found.find(f"{{*}}{side}//{{*}}v").text) for side in ("minus", "plus"))
    return below, above


def test_error_bars_stand_where_the_schema_has_them(draw_facts: Callable[..., Facts], written: Written) -> None:
    """ECMA-376 part 1, CT_ScatterSer: idx, order, tx, spPr, marker, dPt, dLbls, trendline, errBars, xVal, yVal, smooth."""
    order = ["idx", "order", "tx", "spPr", "marker", "dPt", "dLbls", "trendline", "errBars", "xVal", "yVal", "smooth"]
    for chart in charts(written(draw_facts(12)), XL_CHART_TYPE.XY_SCATTER):
        for series in chart.plots[0].series:
            places = [order.index(child.tag.split("}")[1]) for child in series._element]
            assert places == sorted(places)


def test_the_anchors_bars_are_their_readings(draw_facts: Callable[..., Facts], written: Written) -> None:
    facts = draw_facts(24)
    trials = list(dict.fromkeys(anchor.result.trial for anchor in facts.anchors))
    results = {result.trial: result for result in facts.scored}
    shown = charts(written(facts), XL_CHART_TYPE.BAR_CLUSTERED)[:3]
    for chart, name, factor in zip(shown, ("accuracy", "size", "latency"), (100, 1e-6, 1), strict=True):
        (plot,) = chart.plots
        assert list(plot.categories) == [f"trial {trial}" for trial in trials]
        values = [factor * results[trial].score[OBJECTIVES[name].reading].value for trial in trials]
        assert list(plot.series[0].values) == pytest.approx(values)
        assert chart.value_axis.minimum_scale == 0


def test_slides_with_estimates_say_whose(draw_facts: Callable[..., Facts], written: Written) -> None:
    deck = written(draw_facts(12, classes=list("abc")))
    marked = 0
    for slide in list(deck.slides)[1:]:
        told = " ".join(frame.text for _, frame in frames(slide))
        told += " ".join(cell.text for s in slide.shapes if s.has_table for row in s.table.rows for cell in row.cells)
        if "~" in told.replace("~ estimated", ""):
            marked += 1
            assert "~ estimated for iPhone 15 Pro / iOS 17 / ALL, 80 % intervals" in told
    assert marked == 3  # the answer, the latency, the alternatives; bars have their labels in the chart
    bars = [s for s in deck.slides if sum(x.has_chart for x in s.shapes) == 3]
    assert all("~ estimated for" in " ".join(frame.text for _, frame in frames(slide)) for slide in bars) and bars
    assert all("Conditions:" in notes(slide) for slide in deck.slides)


def test_titles_state_the_message_with_its_numbers(draw_facts: Callable[..., Facts], written: Written) -> None:
    facts = draw_facts(12)
    told = titles(written(facts))
    top1, size = 100 * facts.score["top1"].value, facts.score["size_bytes"].value / 1e6
    assert f"{top1:.1f} % top-1" in told[1] and f"{size:.3g}" in told[1] and told[1].startswith("Take ")
    assert told[2].startswith(f"{top1:.1f} % top-1 at ") and any("instead" in title for title in told)


@pytest.mark.parametrize(
    ("latency", "said"),
    [(1.2, ", latency not told apart"), (9.0, " for 8.00 ms more"), (1.0, " at the same latency")],
)
def test_estimates_that_overlap_are_no_cost(
    run_of: Callable[..., Run], result_at: Callable[..., Result], latency: float, said: str
) -> None:
    """A difference of two estimates is told as one only where their intervals are apart; of equals the cheaper one."""
    first, second = (0.9, 1.0, 1e5, 1e6, 0.1), (0.9 + 18 / 270, latency, 3e6, 1e6, 0.1)
    dearer = result_at(3, (0.9 + 18 / 270, 20.0, 2e6, 1e6, 0.1))
    facts = gather(run_of((result_at(1, first), result_at(2, second), dearer)), date="2026-11-30")
    assert isinstance(facts.answer, Recommendation)
    mine = replace(facts, answer=replace(facts.answer, chosen=facts.run.results[0]))
    title = _trade(mine, OBJECTIVES["latency"])
    assert title.replace(" (not certain)", "").endswith(f"+6.7 points{said}")
    assert _trade(mine, OBJECTIVES["size"]).endswith("for 1.90 MB more")


def test_a_recommended_package_without_a_reading_is_not_called_over_the_limits(
    run_of: Callable[..., Run], result_at: Callable[..., Result]
) -> None:
    results = [result_at(n, (0.9, 1.0, 1e5, 1e6, 0.1), lacking=("latency_ms",) * (n == 1)) for n in (1, 2)]
    facts = gather(run_of(tuple(results)), date="2026-11-30")
    assert isinstance(facts.answer, Recommendation)
    mine = replace(facts, answer=replace(facts.answer, chosen=results[0]))
    title = _trade(mine, OBJECTIVES["latency"])
    assert title == "Top-1 against latency: of the recommended package it is not known"


def test_a_run_without_latency_says_nothing_of_it(run_of: Callable[..., Run], result_at: Callable[..., Result]) -> None:
    axes = (OBJECTIVES["accuracy"], OBJECTIVES["size"], OBJECTIVES["energy"])
    run = replace(run_of((result_at(1, (0.9, 1.0, 1e5, 1e6, 0.1)),)), objectives=axes)
    other = RunnerUp(run.results[0], differences(run.results[0], run.results[0], axes))
    assert _instead(other) == "Trial 1 instead is not told apart in top-1, size"


def test_trials_that_were_all_stopped_early_are_told(
    run_of: Callable[..., Run], draw_run: Callable[..., Run], written: Written
) -> None:
    stopped = replace(draw_run(1).results[0], outcome=Pruned("behind", {}))
    deck = written(gather(run_of((stopped,)), date="2026-11-30"))
    told = " ".join(frame.text for _, frame in frames(deck.slides[1]))
    assert "1 stopped early" in told
    assert titles(deck)[-2] == "What to do next: search on"


def test_of_many_classes_each_has_its_own_rank(draw_facts: Callable[..., Facts], written: Written) -> None:
    deck = written(draw_facts(12, classes=[f"class {i}" for i in range(40)]))
    place = next(place for place, title in enumerate(titles(deck)) if title.startswith("Worst class"))
    (chart,) = [shape.chart for shape in deck.slides[place].shapes if shape.has_chart]
    ranks = [int(category.split(".")[0]) for category in chart.plots[0].categories]
    assert ranks == [1, 2, 3, 4, 5, 36, 37, 38, 39, 40]


def test_many_forms_of_storage_leave_no_bytes_out(draw_facts: Callable[..., Facts], written: Written) -> None:
    row = Row("w", (4, 4), 16, None, "int8", 8.0, 16, None, "", True, True)
    rows = tuple(replace(row, applied=f"form {n}") for n in range(7))
    deck = written(replace(draw_facts(12), inspection=Inspection(rows, Bytes(112, 0, 8, 900, 0, 0, 0), None, "", ())))
    place = next(place for place, title in enumerate(titles(deck)) if "layers compressed" in title)
    (chart,) = [shape.chart for shape in deck.slides[place].shapes if shape.has_chart]
    assert sum(chart.plots[0].series[0].values) == pytest.approx(1.020)
    assert "3 more (3)" in list(chart.plots[0].categories)


def test_the_answer_says_of_which_split_its_top1_is(draw_facts: Callable[..., Facts], written: Written) -> None:
    facts = draw_facts(12)
    assert isinstance(facts.answer, Recommendation)
    result = facts.answer.chosen
    score = dict(result.score)
    seen = replace(score["top1"], conditions={**score["top1"].conditions, "split": "validation"})
    assert isinstance(result.outcome, Scored)
    outcome = replace(result.outcome, score=score | {"top1": seen})
    chosen = replace(result, outcome=outcome, test_top1=replace(seen, value=0.5, low=0.4, high=0.6))
    deck = written(replace(facts, answer=replace(facts.answer, chosen=chosen)))
    told = [frame.text for _, frame in frames(deck.slides[1])]
    assert "validation top-1" in told
    assert any(
        "On test pictures, by which the search chose nothing: 50.0 % top-1 (40.0–60.0)." in text for text in told
    )


def test_nothing_fits_is_the_message(draw_facts: Callable[..., Facts], written: Written) -> None:
    told = titles(written(draw_facts(12, {"size": 1e4})))
    assert told[1] == "No package keeps size ≤ 10KB." and not any(title.startswith("Take") for title in told)


def test_hostile_names_arrive_and_what_is_cut_stands_in_the_notes(
    draw_facts: Callable[..., Facts], written: Written, hostile_names: tuple[str, ...]
) -> None:
    title = " | ".join(hostile_names)
    facts = draw_facts(12, classes=hostile_names, title=title, client='Ünïcode "&" <b>')
    deck = written(facts)
    check_layout(deck)
    assert titles(deck)[0].endswith("…") and printable(title) in notes(deck.slides[0])
    assert any('for Ünïcode "&" <b>' in frame.text for _, frame in frames(deck.slides[0]))
    pictures = next(slide for slide in deck.slides if any(shape.shape_type == 13 for shape in slide.shapes))
    said = notes(pictures) + " ".join(frame.text for _, frame in frames(pictures))
    assert facts.pictures is not None
    right = [shot for shot in facts.pictures.samples if shot.right][:6]
    assert len({shot.truth for shot in right}) > 3 and all(printable(shot.truth) in said for shot in right)


def test_a_short_title_is_whole(draw_facts: Callable[..., Facts], written: Written) -> None:
    deck = written(draw_facts(3, title='<b>"Report"</b> & שלום'))
    assert titles(deck)[0] == '<b>"Report"</b> & שלום' == deck.core_properties.title


def test_what_compression_did_adds_up(draw_facts: Callable[..., Facts], written: Written) -> None:
    row = Row("w", (4, 4), 16, "int8", "int8", 8.5, 17, 40.0, "", True, True)
    found = Inspection((row,), Bytes(17, 0, 11, 900, 40, 0, 0), "int8", "", ())
    deck = written(replace(draw_facts(12), inspection=found))
    (place,) = [
        place for place, title in enumerate(titles(deck)) if title == "1 of 1 layer compressed: 8.5 bits per weight"
    ]
    (chart,) = [shape.chart for shape in deck.slides[place].shapes if shape.has_chart]
    assert sum(chart.plots[0].series[0].values) == pytest.approx(0.968)


def test_findings_have_a_slide_and_their_evidence_stands_in_its_notes(
    draw_facts: Callable[..., Facts], written: Written
) -> None:
    evidence = Evidence("drop", 8.4, "points", "measured, paired, 95 %", 5.9, 10.9)
    found = [
        Finding("excessive quantization", f"cause {n}", "severe", f"trial {n}", (n,), f"What {n}.", (evidence,),
                f"Remedy {n}.", f"coreml-pareto search --set {n}")
        for n in range(5)
    ]  # fmt: skip
    check = Check("improper distillation", "a weak teacher", "unknown", "nothing was distilled")
    row = Row("w", (4, 4), 16, "int8", "int8", 8.5, 17, 40.0, "", True, True)
    whole = replace(
        draw_facts(24, classes=list("abc")),
        inspection=Inspection((row,), Bytes(17, 0, 11, 900, 40, 0, 0), "int8", "", ()),
        diagnosis=Diagnosis(tuple(found), (check,)),
    )
    deck = written(whole)
    check_layout(deck)
    assert len(deck.slides) == MOST and not any(title.startswith("Worst class") for title in titles(deck))
    place = titles(deck).index("Excessive quantization: cause 0; 4 other findings")
    slide = deck.slides[place]
    shown = "\n".join(frame.text for _, frame in frames(slide))
    assert all(f"Severe: What {n}. Remedy {n}." in shown for n in range(3)) and "And 2 more findings" in shown
    assert all(f"coreml-pareto search --set {n}" in notes(slide) for n in range(5))
    assert "drop 8.4 points (5.9 to 10.9; measured, paired, 95 %)" in notes(slide)
    assert "not checked: improper distillation, a weak teacher: nothing was distilled" in notes(slide)


def test_a_healthy_run_says_so_among_the_cautions(draw_facts: Callable[..., Facts], written: Written) -> None:
    check = Check("improper distillation", "a weak teacher", "healthy", "the teacher leads by 4 points")
    deck = written(replace(draw_facts(12), diagnosis=Diagnosis((), (check,))))
    last = " ".join(frame.text for _, frame in frames(deck.slides[len(deck.slides) - 1]))
    assert "Diagnosis: Nothing found in 1 check." in last and not any("quantization" in title for title in titles(deck))


def test_a_file_that_cannot_be_written_is_said(draw_facts: Callable[..., Facts], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name another place"):
        write_deck(draw_facts(0), tmp_path / "no" / "report.pptx")
