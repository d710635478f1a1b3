"""The sentences under the tables."""

from __future__ import annotations

from collections.abc import Callable

from coreml_pareto.search.relaxation import NothingFits, nothing_fits
from coreml_pareto.search.report import words
from coreml_pareto.search.run import Result, Run


def test_conditions_name_whose_estimates_they_are(draw_run: Callable[..., Run]) -> None:
    run = draw_run(2)
    text = words.conditions(run, run.scored())
    for part in ("iPhone 15 Pro", "iOS 17", "ALL", "80 %", "270 validation images", "95 % Wilson", "10^6"):
        assert part in text


def test_without_accuracies_nothing_is_said_of_them(draw_run: Callable[..., Run]) -> None:
    assert "top-1" not in words.conditions(draw_run(0), ())


def test_refusal_names_nearest_and_flags(result_at: Callable[..., Result]) -> None:
    results = [result_at(0, (0.8, 1.0, 1e5, 1e6, 1)), result_at(1, (0.95, 4.0, 3e6, 1e6, 1))]
    lines = words.refusal(nothing_fits(results, {"accuracy": 0.9, "size": 1e6}))
    assert lines[0] == "No package keeps top-1 ≥ 90%, size ≤ 1MB."
    assert any("Nearest to top-1 ≥ 90%: trial 0" in line and "80.0 %" in line for line in lines)
    assert any("Nearest to size ≤ 1MB: trial 1" in line and "3.00 MB" in line for line in lines)
    assert any(line.startswith("--min-top1 80% would admit trial 0") and "11 % looser" in line for line in lines)
    assert any(line.startswith("--max-size 3MB would admit trial 1") and "200 % looser" in line for line in lines)


def test_a_joint_relaxation_is_one_line(result_at: Callable[..., Result]) -> None:
    verdict = nothing_fits([result_at(0, (0.8, 2.0, 1e6, 1e6, 1))], {"accuracy": 0.9, "latency": 1.0}, strict=True)
    lines = words.refusal(verdict)
    assert "(worse end of the interval)" in lines[0]
    assert lines[-1].startswith("--min-top1 ") and "--max-latency 4ms would admit trial 0" in lines[-1]
    assert "looser in sum" in lines[-1]
    assert all("but breaks the limit on" in line for line in lines[1:-1])


def test_nothing_scored_has_nothing_to_offer() -> None:
    assert words.refusal(nothing_fits([], {"size": 1e6})) == ["No package keeps size ≤ 1MB."]
    assert nothing_fits([], {"size": 1e6}) == NothingFits({"size": 1e6}, {}, (), False)
