"""The sentences under the tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from coreml_pareto.objectives.devices import Target, find_device
from coreml_pareto.objectives.latency import latency
from coreml_pareto.objectives.program import Cost
from coreml_pareto.search.outcome import Failed, Pruned, Scored
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


def test_estimates_say_whose_stopwatch_they_imitate_and_what_they_take_for_granted() -> None:
    target = Target(find_device("iPhone 15 Pro"), 17)
    conv = Cost("c", "conv", "dense", "fp16", 10**10, 2 * 10**6, 10**6, 10**6, 10**6)
    gather = Cost("g", "gather", "other", "fp16", 0, 0, 0, 10**5, 10**5, off_engine="gathering")
    odd = Cost("o", "mystery", "other", "fp16", 0, 0, 0, 10**5, 10**5, note="unknown operation")
    plain, all_three = (words.origins(target, [latency(costs, target)]) for costs in ([conv], [conv, gather, odd]))
    clock = "latency as by Xcode's performance report (median of back-to-back predictions)"
    assert plain[1:] == [clock, "taken that every operation runs on the Neural Engine"]
    assert all_three[1] == clock
    assert "hands over 1 × gathering (gather): 5 ms are added" in all_three[2]
    assert "1 × mystery" in all_three[3]
    small = words.origins(target, [latency([replace(conv, macs=10**7), gather], target)])
    assert "(CPU)" in small[0] and small[2].startswith(
        "taken that the whole program runs on the CPU: the Neural Engine"
    )


def test_refusal_names_nearest_and_flags(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> None:
    results = (result_at(0, (0.8, 1.0, 1e5, 1e6, 1)), result_at(1, (0.95, 4.0, 3e6, 1e6, 1)))
    lines = words.refusal(run_of(results), nothing_fits(results, {"accuracy": 0.9, "size": 1e6}))
    assert lines[0] == "No package keeps top-1 ≥ 90%, size ≤ 1MB."
    assert any("Nearest to top-1 ≥ 90%: trial 0" in line and "80.0 %" in line for line in lines)
    assert any("Nearest to size ≤ 1MB: trial 1" in line and "3.00 MB" in line for line in lines)
    assert any(line.startswith("--min-top1 80% would admit trial 0") and "11 % looser" in line for line in lines)
    assert any(line.startswith("--max-size 3MB would admit trial 1") and "200 % looser" in line for line in lines)


def test_a_joint_relaxation_is_one_line(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> None:
    run = run_of((result_at(0, (0.8, 2.0, 1e6, 1e6, 1)),))
    lines = words.refusal(run, nothing_fits(run.results, {"accuracy": 0.9, "latency": 1.0}, strict=True))
    assert "(worse end of the interval)" in lines[0]
    assert lines[-1].startswith("--min-top1 ") and "--max-latency 4ms would admit trial 0" in lines[-1]
    assert "looser in sum" in lines[-1]
    assert all("but breaks the limit on" in line for line in lines[1:-1])


def test_nothing_tried_has_nothing_to_offer(run_of: Callable[..., Run]) -> None:
    assert nothing_fits([], {"size": 1e6}) == NothingFits({"size": 1e6}, {}, (), False)
    assert words.refusal(run_of(()), nothing_fits([], {"size": 1e6})) == ["No trial has ended yet."]


def test_a_candidate_that_keeps_other_limits_was_still_not_trained(draw_run: Callable[..., Run]) -> None:
    run = draw_run(0)
    lines = words.refusal(run, nothing_fits(run.results, {"size": 5e7, "accuracy": 0.9}))
    assert lines[-2].startswith("trial 0, ")
    assert lines[-2].endswith("not trained, keeps size ≤ 50MB, top-1 ≥ 90% as far as is known")
    assert "search within the new limits" in lines[-1]


def test_endings_count_every_way_to_end(draw_run: Callable[..., Run]) -> None:
    run = draw_run(0)
    over, failed = run.results
    pruned = replace(over, outcome=Pruned("too slow", {}))
    other = replace(failed, outcome=Failed("package", "disk is full"))
    assert words.endings(replace(run, results=(over, failed, pruned, failed, other))) == [
        "No package from 5 trials: 1 over a limit, not trained, 1 stopped early, 3 failed.",
        "failed in training: loss is nan (2 trials)",
        "failed in package: disk is full",
    ]


def measured(result: Result, device: str = "MacBook Air 13 (M2)") -> Result:
    """The same package, its latency taken with a stopwatch."""
    assert isinstance(result.outcome, Scored)
    said = {"device": device, "stopwatch": "a stopwatch", "method": "median of 9"}
    timed = {name: replace(result.score[name], how="measured", conditions=said) for name in ("latency_ms", "fps")}
    return replace(result, outcome=replace(result.outcome, score=dict(result.score) | timed))


def test_what_was_measured_is_not_said_to_be_estimated(draw_run: Callable[..., Run]) -> None:
    run = draw_run(3)
    assert "estimated for" in words.conditions(run, run.scored())
    assert "no measurement of that device" in words.conditions(run, run.scored())
    every = words.conditions(run, [measured(result) for result in run.scored()])
    assert "latency measured on MacBook Air 13 (M2) with a stopwatch (median of 9)" in every
    assert "~ estimated for" in every and "no measurement" not in every  # memory and energy still are
    some = words.conditions(run, [measured(run.scored()[0]), *run.scored()[1:]])
    assert "latency of 1 of 3 packages measured on" in some and "no measurement" not in some
    latency = measured(run.scored()[0]).score["latency_ms"]
    assert not any("estimated" in line for line in words.origins(run.target, [{"latency_ms": latency}]))


def test_the_battery_of_a_charge_is_named_once(draw_run: Callable[..., Run]) -> None:
    run = draw_run(2)
    assert "battery" not in words.conditions(run, run.scored())
    charge = replace(run.scored()[0].score["energy_mah"], conditions={"battery": "12.70 Wh, 3.85 V (assumed)"})
    told = words.origins(run.target, [{"energy_mah": charge}, {"energy_mah": charge}, {}])
    assert told[1:] == ["battery 12.70 Wh, 3.85 V (assumed)"]


def test_what_was_corrected_is_said_with_its_evidence(draw_run: Callable[..., Run]) -> None:
    run = draw_run(3)
    said = run.target.conditions | {"corrected_by": "5 measured networks"}
    scores = [dict(result.score) for result in run.scored()]
    scores[0]["latency_ms"] = replace(scores[0]["latency_ms"], how="corrected", conditions=said)
    told = words.origins(run.target, scores)
    place = "iPhone 15 Pro / iOS 17 / ALL"
    assert f"latency of 1 of 3 packages corrected for {place} by 5 measured networks" in told
    assert not any("no measurement of that device" in line for line in told)
    assert not words.corrected(scores[1:])
