"""What a person reads on the screen."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import spearmanr

from coreml_pareto.objectives.devices.schemes import use_of, uses_of
from coreml_pareto.objectives.explanation import Explanation, Layer, Part
from coreml_pareto.search.choose import Recommendation, front, recommend
from coreml_pareto.search.figures import ESTIMATE, amount, figure, interval, significant
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report import tables
from coreml_pareto.search.report.tables import (
    STAR,
    best_panel,
    correlation_table,
    details_table,
    device_notes,
    device_table,
    front_table,
    layers_table,
    parts_table,
)
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.compression import every_compression, parse


def shown(what: Any, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("count", [1, 12])
def test_no_column_is_lost_on_a_narrow_screen(draw_run: Callable[..., Run], width: int, count: int) -> None:
    run = draw_run(count)
    found = front(run)
    text = shown(front_table(found, {}, found[0]), width)
    assert max(map(len, text.splitlines())) <= width
    for head in ("trial", "top-1", "test", "latency", "size", "memory", "energy"):
        assert head in text
    for result in found:
        assert any(line.split()[:1] == [str(result.trial)] or f"{STAR} " in line for line in text.splitlines())
    assert text.count(STAR) == 1


def test_estimates_carry_a_tilde_and_measured_figures_none(result_at: Callable[..., Result]) -> None:
    result = result_at(4, (0.9, 0.512, 123_000, 456_000, 0.1))
    text = shown(front_table([result], {}))
    assert f"{ESTIMATE}0.512" in text and f"{ESTIMATE}0.456" in text
    assert f"{ESTIMATE}90.0" not in text and f"{ESTIMATE}0.123" not in text
    assert "0.26–1.0" in text  # 0.512 / 2 to 0.512 * 2, two digits


def test_a_package_that_may_exceed_says_so(result_at: Callable[..., Result]) -> None:
    result = result_at(4, (0.9, 0.512, 123_000, 456_000, 0.1))
    assert "may exceed latency ≤ 0.6ms" in " ".join(shown(front_table([result], {"latency": 0.6}), 160).split())
    assert "may exceed" not in shown(front_table([result], {"latency": 2.0}), 160)


@pytest.mark.parametrize(
    ("millijoules", "unit", "said"), [(0.1, "nAh", "7.22"), (50, "µAh", "3.61"), (20_000, "mAh", "1.44")]
)
def test_one_unit_of_charge_for_the_column(
    result_at: Callable[..., Result], millijoules: float, unit: str, said: str
) -> None:
    text = shown(front_table([result_at(0, (0.9, 1, 1e6, 1e6, millijoules))], {}))
    assert unit in text and said in text


def test_without_a_battery_energy_is_in_millijoules(result_at: Callable[..., Result]) -> None:
    text = shown(front_table([result_at(0, (0.9, 1, 1e6, 1e6, 0.25), lacking=("energy_mah",))], {}))
    assert "mJ" in text and f"{ESTIMATE}0.250" in text


def test_missing_readings_are_dashes(result_at: Callable[..., Result]) -> None:
    lacking = ("energy_mah", "energy_mj", "memory_bytes", "top1")
    assert shown(front_table([result_at(0, (0.9, 1, 1e6, 1e6, 1), lacking=lacking)], {})).count("–") >= 4


def test_rank_correlation_agrees_with_scipy(draw_run: Callable[..., Run]) -> None:
    run = draw_run(40)
    text = shown(correlation_table(run.scored(), run.objectives))
    sizes = [r.score["size_bytes"].value for r in run.scored()]
    top1 = [-r.score["top1"].value for r in run.scored()]
    assert f"{spearmanr(top1, sizes).statistic:+.2f}" in text
    assert "40 packages" in text


def test_no_correlation_of_two_packages(draw_run: Callable[..., Run]) -> None:
    run = draw_run(2)
    assert correlation_table(run.scored(), run.objectives) is None
    assert correlation_table(draw_run(9).scored(), run.objectives[:1]) is None


def test_the_panel_tells_reason_readings_and_runners_up(draw_run: Callable[..., Run]) -> None:
    run = draw_run(12)
    answer = recommend(run)
    assert isinstance(answer, Recommendation)
    answer = replace(answer, chosen=replace(answer.chosen, test_top1=answer.chosen.score["top1"]))
    text = " ".join(shown(best_panel(answer, "/there/model.mlpackage", {}), 100).replace("│", " ").split())
    assert answer.reason in text and "/there/model.mlpackage" in text
    for other in answer.runners_up:
        assert other.sentence in text and f"trial {other.result.trial}," in text
    for name in ("top-1", "top-5", "test top-1", "latency", "size", "bits per weight", "memory", "energy", "charge"):
        assert name in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00"),
        (1.4, "1.40"),
        (113, "113"),
        (7440.2, "7440"),
        (123456, "123000"),
        (0.01234, "0.0123"),
        (99.96, "100"),
    ],
)
def test_three_digits_without_exponent(value: float, text: str) -> None:
    assert significant(value) == text
    assert float(text) == pytest.approx(value, rel=5e-3, abs=1e-12)


def test_figures_name_their_unit(result_at: Callable[..., Result]) -> None:
    score = result_at(0, (0.9, 0.5, 1e6, 2e6, 0.25)).score
    assert figure("accuracy", score["top1"]) == "90.0 %"
    assert figure("latency", score["latency_ms"]) == "~0.500 ms"
    assert figure("size", score["size_bytes"]) == "1.00 MB" and interval("size", score["size_bytes"]) == ""
    assert interval("latency", score["latency_ms"]) == "0.250–1.00"
    assert amount("accuracy", -0.012) == "1.2 points of top-1"
    assert np.isclose(float(amount("size", 310_000).split()[0]), 0.31)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_details_fit_and_paths_are_whole_from_100_columns(
    result_at: Callable[..., Result], run_of: Callable[..., Run], width: int
) -> None:
    result = result_at(7, (0.9, 0.0614, 1e6, 1e6, 1))
    package = Path("runs/fake/store/package/0123456789abcdef/model.mlpackage")
    assert isinstance(result.outcome, Scored)
    run = run_of((replace(result, outcome=replace(result.outcome, package=package)),))
    text = shown(details_table(run.scored(), run), width)
    assert max(map(len, text.splitlines())) <= width
    assert ("store/package/0123456789abcdef/model.mlpackage" in text) == (width >= 100)
    assert "~16300" in text and "8140–32600" in text  # 1000 / 0.0614, a factor of 2 either way
    assert "100.0" in text and "98.0–100.0" in text and "8.10" in text and "10.0" in text and "iOS 15" in text


def test_details_that_are_missing_are_dashes(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> None:
    run = run_of((result_at(0, (0.9, 1, 1e6, 1e6, 1), lacking=("top5", "fps", "macs", "bits_per_weight")),))
    assert shown(details_table(run.scored(), run)).count("–") == 4


def test_layers_that_are_not_as_asked_are_told_of_the_recommended_package(
    draw_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = recommend(draw_run(12))
    assert isinstance(answer, Recommendation)
    assert "otherwise" not in shown(best_panel(answer, "/gone/model.mlpackage", {}))
    monkeypatch.setattr(tables, "otherwise", lambda package: f"Asked w8a8 of {package.parent.name}: 1 layer otherwise")
    assert "Asked w8a8 of there: 1 layer otherwise" in shown(best_panel(answer, "/there/model.mlpackage", {}))


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_of_devices_is_whole_on_a_narrow_screen(width: int) -> None:
    uses = [use_of(compression) for compression in every_compression()]
    text = shown(device_table(uses), width) + shown(device_notes(uses), width)
    assert max(map(len, text.splitlines())) <= width
    for use in uses:
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [use.name])
        assert f"iOS {use.minimum_os} / macOS {use.minimum_os - 3}" in line
        assert all(unit.split()[0] in line for unit in use.guide.units[:1])
        assert ("nothing" in line) == (use.relative is None and use.name != "fp16")


def test_notes_tell_what_is_said_what_is_open_and_whose_figures_these_are() -> None:
    told = " ".join(shown(device_notes([use_of(parse(form)) for form in ("int8/channel", "w8a8", "fp32")])).split())
    assert "2 Considerably faster" in told and "3 Runs on GPU and CPU, never on the Neural Engine. (CT-T)" in told
    assert told.count("apple/coremltools#2675") == 1 and "of 1, 2, open since 2026-04-25: signed int8" in told
    assert "on iPhone 14 Pro, iPhone 15 Pro with iOS 17, iOS 18 seed." in told
    assert "CT-Q opt-quantization-perf, " in told and "CT-P" not in told
    alone = " ".join(shown(device_notes(uses_of(["int8/channel"], 16))).split())
    assert ") open since 2026-04-25: signed int8" in alone
    assert "Speeds" not in shown(device_notes([use_of(parse("fp16"))]))


def test_speeds_are_the_published_range() -> None:
    text = shown(device_table([use_of(parse(form)) for form in ("fp16", "w8a8", "palette-1/tensor", "int4/channel")]))
    rest = [line.split(" / macOS ")[1].split(maxsplit=1)[1] for line in text.splitlines() if " / macOS " in line]
    assert [" ".join(line.split()) for line in rest] == [
        "– 1 1", "Neural Engine 0.41–0.86 2", "Neural Engine 0.70 3", "Neural Engine nothing published 4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ms", "layer", "unit", "said"),
    [
        (0.2, 0.00012345, "µs", "0.123"),
        (0.2, 0.05, "µs", "50.0"),
        (12.0, 0.00012345, "ms", "0.000123"),
        (12.0, 3.0, "ms", "3.00"),
    ],
)
def test_times_of_layers_have_three_digits(ms: float, layer: float, unit: str, said: str) -> None:
    part = Part("dense convolution", 1, layer, layer / ms, arithmetic=layer)
    row = Layer("one", "dense convolution", "conv", (1, 8), layer, layer / ms)
    found = Explanation(ms, "Neural Engine", (part,), (row,), ())
    for table in (parts_table(found), layers_table(found)):
        text = shown(table)
        assert unit in text.split() and said in text.split() and "0.0 %" not in text
