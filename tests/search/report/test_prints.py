"""The charts on paper: where points lie, what is named, and that nothing is drawn over something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.report.class_prints import BARS, BEST, PAIRS, class_print, confusion_print, extremes
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.ink import svg
from coreml_pareto.search.report.labels import name_box
from coreml_pareto.search.report.pictures import ClassAccuracy, Pictures
from coreml_pareto.search.report.prints import anchors_print, growth_print, importance_print, pareto_print, plottable
from coreml_pareto.search.report.volume import Growth
from coreml_pareto.search.run import Result, Run

SIZE, LATENCY, ENERGY = (OBJECTIVES[name] for name in ("size", "latency", "energy"))


def lines(figure: Figure, gid: str) -> list[tuple[float, float]]:
    (axes,) = figure.axes
    found = [line for line in axes.lines if str(line.get_gid() or "").startswith(gid)]
    return [(float(x), float(y)) for line in found for x, y in zip(*line.get_data(), strict=True)]


def greys(figure: Figure, gid: str) -> list[tuple[float, float]]:
    (axes,) = figure.axes
    found = [drawn for drawn in axes.collections if str(drawn.get_gid() or "").startswith(gid)]
    return [(float(x), float(y)) for drawn in found for x, y in np.asarray(drawn.get_offsets())]


def names(figure: Figure) -> list[Annotation]:
    (axes,) = figure.axes
    return [text for text in axes.texts if isinstance(text, Annotation) and text.get_gid() == "name"]


def at(results: tuple[Result, ...]) -> list[tuple[float, float]]:
    return sorted((r.score["size_bytes"].value * 1e-6, 100 * r.score["top1"].value) for r in results)


@pytest.mark.parametrize(("count", "bound"), [(1, 1e9), (12, 2e6), (150, 5e5), (12, 1.0)])
def test_every_package_stands_once_at_its_readings(draw_facts: Callable[..., Facts], count: int, bound: float) -> None:
    facts = draw_facts(count, {"size": bound})
    figure = pareto_print(facts, SIZE)
    assert sorted(lines(figure, "front")) == at(facts.front)
    assert sorted(greys(figure, "dominated")) == at(facts.dominated)
    assert sorted(greys(figure, "over")) == at(facts.over)
    assert lines(figure, "recommended") == (at((facts.chosen,)) if facts.chosen is not None else [])
    assert len(facts.front) + len(facts.dominated) + len(facts.over) == count


def test_the_line_is_the_best_within_each_budget(draw_facts: Callable[..., Facts]) -> None:
    facts = draw_facts(60)
    points = at(facts.scored)
    kept = [p for p in points if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)]
    assert lines(pareto_print(facts, SIZE), "best") == kept


def test_what_was_refused_is_marked_without_a_top1(draw_facts: Callable[..., Facts]) -> None:
    figure = pareto_print(draw_facts(5), SIZE)
    assert [x for x, _ in lines(figure, "refused")] == [20.0]
    assert any("refused, untrained (1)" in text.get_text() for text in figure.legends[0].get_texts())


@pytest.mark.parametrize("seed", range(4))
def test_names_cover_neither_each_other_nor_the_front(draw_facts: Callable[..., Facts], seed: int) -> None:
    facts = draw_facts(12, seed=seed)
    figure = pareto_print(facts, LATENCY)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [name_box(text) for text in names(figure)]
    assert len(boxes) == len(facts.front)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    shown = [r for r in facts.front if plottable(r, LATENCY)]
    points = axes.transData.transform([(r.score["latency_ms"].value, 100 * r.score["top1"].value) for r in shown])
    assert not any(box.contains(x, y) for box in boxes for x, y in points)
    page = axes.get_window_extent()
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)


def test_of_a_long_front_the_anchors_alone_are_named(draw_facts: Callable[..., Facts]) -> None:
    facts = draw_facts(200)
    assert len(facts.front) > 12
    told = {int(text.get_text().split(":")[0]) for text in names(pareto_print(facts, ENERGY))}
    assert told <= {anchor.result.trial for anchor in facts.anchors} and facts.chosen is not None
    assert facts.chosen.trial in told


def test_limits_and_estimates_are_told(draw_facts: Callable[..., Facts]) -> None:
    facts = draw_facts(12, {"size": 2e6, "accuracy": 0.8})
    size, latency = pareto_print(facts, SIZE), pareto_print(facts, LATENCY)
    assert {"limit 2MB", "limit 80%"} <= {text.get_text() for text in size.axes[0].texts}
    assert "estimated" in latency.axes[0].get_xlabel() and "estimated" not in size.axes[0].get_xlabel()


def test_without_packages_there_is_no_chart(draw_facts: Callable[..., Facts]) -> None:
    with pytest.raises(ValueError, match="no package"):
        pareto_print(draw_facts(0), SIZE)


def test_thousands_of_packages_stay_a_small_file(
    draw_run: Callable[..., Run], draw_facts: Callable[..., Facts]
) -> None:
    facts = replace(draw_facts(3), run=draw_run(2000))  # the front of three; all others are dominated
    assert len(svg(pareto_print(facts, SIZE))) < 1.5e6


def test_anchors_show_value_and_interval_of_each_package_once(draw_facts: Callable[..., Facts]) -> None:
    facts = draw_facts(12)
    trials = dict.fromkeys(anchor.result.trial for anchor in facts.anchors)
    figure = anchors_print(facts)
    assert len(figure.axes) == len(facts.objectives)
    latency = figure.axes[[row.name for row in facts.objectives].index("latency")]
    values = {round(float(line.get_xdata()[0]), 9) for line in latency.lines if len(line.get_xdata()) == 1}
    shown = {round(r.score["latency_ms"].value, 9) for r in facts.scored if r.trial in trials}
    assert values == shown and all("~" in text.get_text() and "–" in text.get_text() for text in latency.texts)
    assert [label.get_text().split("trial ")[-1] for label in figure.axes[0].get_yticklabels()] == [
        str(t) for t in trials
    ]


def test_growth_is_a_step_in_the_unit_that_it_was_told_in() -> None:
    by_time = growth_print(Growth(((60.0, 0.2), (300.0, 0.5)), "seconds"))
    by_trial = growth_print(Growth(((1.0, 0.2), (40.0, 0.5)), "trials"))
    assert [float(x) for x in by_time.axes[0].lines[0].get_xdata()] == [1.0, 5.0]
    assert "minutes" in by_time.axes[0].get_xlabel() and "trials" in by_trial.axes[0].get_xlabel()


def test_importances_are_bars_of_their_shares() -> None:
    figure = importance_print({"accuracy": {"width": 0.7, "epochs": 0.3}, "latency": {"width": 1.0}})
    widths = [[round(bar.get_width(), 9) for bar in axes.patches] for axes in figure.axes]  # type: ignore[attr-defined]
    assert widths == [[0.3, 0.7], [0.0, 1.0]]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["epochs", "width"]


def test_the_matrix_is_in_percent_of_each_class(draw_facts: Callable[..., Facts]) -> None:
    pictures = draw_facts(1, classes=list("abcd")).pictures
    assert pictures is not None
    (axes,) = confusion_print(pictures).axes
    image = np.asarray(axes.images[0].get_array())
    assert np.allclose(image.sum(axis=1), 100)
    assert np.allclose(image * pictures.confusion.sum(axis=1, keepdims=True) / 100, pictures.confusion)


def test_of_a_thousand_classes_the_worst_pairs_and_the_extremes_are_shown(draw_facts: Callable[..., Facts]) -> None:
    pictures = draw_facts(1, classes=[f"n{i:08} a long name of a class" for i in range(1000)]).pictures
    assert pictures is not None
    assert len(confusion_print(pictures).axes[0].patches) == PAIRS
    figure = class_print(pictures)
    assert len(figure.axes[0].get_yticks()) == BARS
    assert max(figure.get_size_inches()) < 9
    worst, best = extremes(pictures.by_class)
    assert max(one.value for one in worst) <= min(one.value for one in best) and len(best) == BEST


def test_one_class_between_the_extremes_is_one() -> None:
    confusion = np.eye(BARS + 1, dtype=np.int64)
    pictures = Pictures("test", "", tuple(f"c{i}" for i in range(BARS + 1)), confusion, ())
    assert "1 class between" in {text.get_text() for text in class_print(pictures).axes[0].texts}


def test_few_classes_are_all_shown_the_worst_first() -> None:
    classes = [ClassAccuracy(str(i), value, value, value, 10) for i, value in enumerate((0.5, 0.1, 0.9))]
    worst, best = extremes(classes)
    assert [one.value for one in worst] == [0.1, 0.5, 0.9] and not best


def test_hostile_labels_are_drawn(draw_facts: Callable[..., Facts], hostile_names: tuple[str, ...]) -> None:
    pictures = draw_facts(1, classes=hostile_names).pictures
    assert pictures is not None
    for figure in (confusion_print(pictures), class_print(pictures)):
        ElementTree.fromstring(svg(figure))
