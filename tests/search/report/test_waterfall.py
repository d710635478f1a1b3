"""The waterfall's bars stand where the steps say, whatever names hold."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from rich.console import Console

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.ablation import METHODS, Ablation, Shift, design
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.figures import SCALES
from coreml_pareto.search.report.charts import save_figure
from coreml_pareto.search.report.waterfall import (
    BETTER,
    FULL,
    LEVEL,
    WORSE,
    _cell,
    ablation_tables,
    as_data,
    caption,
    waterfall_figure,
)  # fmt: skip
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe
from coreml_pareto.spaces.compression import parse

HOSTILE = "<script>alert('a')</script> & \u202eטקסט\u202c 🐦"


@pytest.fixture
def found(result_at: Callable[..., Result]) -> Ablation:
    """Three seeds, all five axes, drawn; a teacher whose name may hold anything."""
    plan = {"name": "a", "data": "digits", "networks": {"resolution": [32, 64]}, "search": {"trials": 1}}
    full = Candidate(
        network=Network(
            family="mobilenet", backbone="mobilenetv2", width=0.5, resolution=32, stem_stride=1, classes=10
        ),
        recipe=Recipe(epochs=8, learning_rate=1e-3, weight_decay=0.01, teacher=f"./{HOSTILE}", temperature=4),
        compression=parse("pruning-50+palette-4"),
    )
    made, draw = design(full, load_plan(None, plan).space(10)), np.random.default_rng(0)

    def score() -> Any:
        top1, *others = draw.uniform(0.6, 0.9), *draw.lognormal(0, 1, 4)
        return result_at(0, (round(top1 * 270) / 270, others[0], 1e6 * others[1], 1e6 * others[2], others[3])).score

    return Ablation(made, (1, 2, 3), {c.digest: {seed: score() for seed in (1, 2, 3)} for c in made.candidates})


def _bars(figure: go.Figure) -> list[go.Bar]:
    return [trace for trace in figure.data if trace.type == "bar"]


def test_each_bar_begins_where_the_one_before_ends(found: Ablation) -> None:
    figure = waterfall_figure(found, "birds")
    for axis, bar in zip(found.axes, _bars(figure)[::2], strict=True):
        factor = SCALES[axis.name].factor
        assert list(bar.y) == ["baseline", *METHODS, FULL]
        level = bar.x[0]
        for base, length, shift in zip(bar.base[1:-1], bar.x[1:-1], found.steps(axis), strict=True):
            assert base == pytest.approx(level) and length == pytest.approx(shift.value * factor)
            level = base + length
        assert level == pytest.approx(bar.x[-1]) and bar.base[-1] == 0


@pytest.mark.parametrize("agree", [True, False])
def test_better_and_worse_have_their_colours_and_signs(found: Ablation, agree: bool) -> None:
    """What its interval does not tell from no change has neither colour: of seeds that are drawn at will, every step."""
    alike = {digest: dict.fromkeys(found.seeds, by_seed[1]) for digest, by_seed in found.scores.items()}
    figure = waterfall_figure(Ablation(found.design, found.seeds, alike if agree else found.scores), "birds")
    seen = set()
    for axis, bar in zip(found.axes, _bars(figure)[1::2], strict=True):
        rows = zip(bar.x, bar.error_x.array, bar.marker.color, bar.customdata, strict=True)
        for length, half, colour, text in rows:
            better = (length > 0) == (axis.direction == "maximize")
            assert colour == (LEVEL if abs(length) <= half else BETTER if better else WORSE)
            assert text.startswith("+" if length > 0 else "−")
            seen.add(colour)
    assert seen == ({BETTER, WORSE} if agree else {LEVEL})


@pytest.mark.parametrize("seeds", [(1, 2), (1, 2, 3)])
def test_amounts_are_written_within_the_axes(found: Ablation, seeds: tuple[int, ...]) -> None:
    """Of two seeds the intervals are wide; an amount stands at their end, and is not drawn outside."""
    figure = waterfall_figure(Ablation(found.design, seeds, found.scores), "birds")
    texts = list(figure.select_traces(selector={"type": "scatter", "mode": "text"}))
    assert texts
    for text in texts:
        axis = figure.layout["xaxis" + text.xaxis.removeprefix("x")]
        assert max(text.x) < axis.range[1]


def test_names_are_text(found: Ablation, tmp_path: Path) -> None:
    figure = waterfall_figure(found, HOSTILE)
    assert "&lt;script&gt;" in figure.layout.title.text and "<script>" not in figure.layout.title.text
    save_figure(figure, tmp_path / "waterfall.html")
    assert "<script>alert('a')" not in (tmp_path / "waterfall.html").read_text("utf-8")


def test_tables_tell_every_step_with_its_interval(found: Ablation) -> None:
    console = Console(file=io.StringIO(), width=110, markup=False)
    for table in ablation_tables(found):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(text.count(f"\n{method} ") == 2 for method in METHODS) and "baseline" in text and "full recipe" in text
    step = found.steps(found.axes[0])[0]
    assert step.low is not None and f"{100 * abs(step.low):.1f}" in text
    assert "in this order: architecture, distillation, quantization, pruning, resolution" in caption(found)


def test_one_seed_claims_no_interval(found: Ablation) -> None:
    alone = Ablation(found.design, (1,), found.scores)
    assert "nothing is known of the spread" in caption(alone)
    assert not any(bar.error_x.visible for bar in _bars(waterfall_figure(alone, "birds")))


def test_for_machines_the_changes_add_up(found: Ablation) -> None:
    told = as_data(found)
    for reading in ("top1", "latency_ms", "size_bytes", "memory_bytes", "energy_mj"):
        total = sum(step["change"][reading]["value"] for step in told["steps"])
        assert told["baseline"][reading]["value"] + total == pytest.approx(told["full"][reading]["value"])
    assert told["order"] == list(METHODS) and told["seeds"] == [1, 2, 3]


def test_seeds_that_agree_show_no_interval() -> None:
    axis = OBJECTIVES["accuracy"]
    assert _cell(axis, Shift(-0.149, -0.149 - 1e-17, -0.149 + 3e-17)) == "−14.9"
    assert _cell(axis, Shift(-0.149, -0.2, -0.1)) == "−14.9\n−20.0 to −10.0"
