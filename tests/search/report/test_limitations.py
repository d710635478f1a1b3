"""Each reservation comes exactly where the record gives cause for it, with the record's figures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from coreml_pareto.objectives.accuracy import RIGHT, right_of, spell_right, wilson
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.choose import Recommendation
from coreml_pareto.search.noise import shares
from coreml_pareto.search.outcome import Failed, Scored
from coreml_pareto.search.report.correlation import correlation
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.limitations import limitations
from coreml_pareto.search.report.pictures import Pictures
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.tested import Look

Make = Callable[..., Any]


def claims(facts: Facts) -> dict[str, str]:
    return {one.claim: one.because for one in facts.limitations}


def having(told: dict[str, str], part: str) -> list[str]:
    return [because for claim, because in told.items() if part in claim]


def with_readings(result: Result, **readings: Reading) -> Result:
    assert isinstance(result.outcome, Scored)
    return replace(result, outcome=replace(result.outcome, score={**result.score, **readings}))


def everywhere(run: Run, change: Callable[[Result], Result]) -> Run:
    return replace(run, results=tuple(change(result) if result.score else result for result in run.results))


def measured(share: float, images: int) -> Reading:
    right = np.arange(images) < round(share * images)
    low, high = wilson(int(right.sum()), images)
    conditions = {"images": str(images), RIGHT: spell_right(right)}
    return Reading(float(right.mean()), "share", low, high, "measured", conditions)


def test_estimates_are_named_until_they_are_measured(draw_run: Make, facts_of: Make) -> None:
    run = draw_run(12)
    (because,) = having(claims(facts_of(run)), "Latency, memory and energy were not measured on iPhone 15 Pro.")
    assert "80 % intervals" in because and "device-kit" in because

    def timed(result: Result) -> Result:
        kept = {name: replace(result.score[name], how="measured") for name in ("memory_bytes", "energy_mj")}
        return with_readings(result, latency_ms=replace(result.score["latency_ms"], how="corrected"), **kept)

    told = claims(facts_of(everywhere(run, timed)))
    assert having(told, "Latency is a corrected estimate, not measured") and not having(told, "were not measured")

    def clocked(result: Result) -> Result:
        return with_readings(result, latency_ms=replace(result.score["latency_ms"], how="measured"))

    (because,) = having(claims(facts_of(everywhere(run, clocked))), "Memory and energy were not measured")
    assert "device-kit" not in because  # which measures latency alone
    every = everywhere(
        run, lambda r: with_readings(timed(r), latency_ms=replace(r.score["latency_ms"], how="measured"))
    )
    assert not having(claims(facts_of(every)), "measured")


def test_an_unread_test_and_a_small_one(draw_run: Make, facts_of: Make) -> None:
    run = draw_run(12)
    assert having(claims(facts_of(run)), "untouched pictures is not known")
    small = claims(facts_of(everywhere(run, lambda r: replace(r, test_top1=measured(0.9, 200)))))
    (because,) = having(small, "Accuracy is known to ±")
    assert "200 test pictures" in because and not having(small, "untouched pictures is not known")
    assert "Accuracy is known to ±4.9 points only." in small  # 0.9 - wilson(180, 200)[0] = 0.0495
    large = claims(facts_of(everywhere(run, lambda r: replace(r, test_top1=measured(0.9, 20_000)))))
    assert not having(large, "Accuracy is known to ±")


def test_one_seed(draw_run: Make, facts_of: Make) -> None:
    run = draw_run(12)
    assert having(claims(facts_of(run)), "Another training may come out")
    again = everywhere(run, lambda r: replace(r, repeated={1: r.score["top1"], 2: r.score["top1"]}))
    assert not having(claims(facts_of(again)), "Another training may come out")


def test_runners_up_by_mcnemar(draw_run: Make, facts_of: Make, with_images: Make) -> None:
    facts = facts_of(with_images(draw_run(40), alike=0.5))
    assert isinstance(facts.answer, Recommendation) and facts.runners_up
    told = claims(facts)
    for other in facts.runners_up:
        first, second = (right_of(r.score["top1"]) for r in (facts.answer.chosen, other.result))
        assert first is not None and second is not None
        only = int((first & ~second).sum()), int((second & ~first).sum())
        p = binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
        assert bool(having(told, f"to trial {other.result.trial} is shown")) == (p >= 0.05)
    assert not [one for one in having(told, "No difference") if re.search(r"[ (]-\d", one)]  # a hyphen is no minus


def test_doubtful_members_of_the_front(draw_run: Make, facts_of: Make, with_images: Make) -> None:
    run = with_images(draw_run(40))
    facts = facts_of(run)
    assert facts.chosen is not None
    share = shares(run)[facts.chosen.trial]
    told = having(claims(facts), "may not belong to the front")
    assert bool(told) == (share < 0.9) and all(f"{100 * share:.0f} %" in because for because in told)
    certain = {**facts.shares, facts.chosen.trial: 0.9}
    assert not [
        one
        for one in limitations(run, facts.answer, certain, None, None, None)
        if "may not belong" in one.claim
    ]  # fmt: skip


def test_axes_that_say_the_same(draw_run: Make, facts_of: Make) -> None:
    """In drawn runs memory follows size by a formula: rho is 1; top-1 does not."""
    told = claims(facts_of(draw_run(60)))
    (claim,) = [claim for claim in told if "not independent reasons" in claim]
    assert claim.startswith("Size and memory are") and "rho 1.00" in told[claim] and "over 60 packages" in told[claim]


def test_axes_are_correlated_over_the_packages_with_every_reading(result_at: Make, run_of: Make) -> None:
    points = [(0.5 + n / 100, 1.0 + n, 1e6 + n, 1e6 + n, 1.0 + (n * 7) % 10) for n in range(10)]
    run = run_of(tuple(result_at(n, p, ("energy_mj",) if n > 6 else ()) for n, p in enumerate(points)))
    chain = [[0.0] * 5 for _ in range(5)]
    chain[1][2], chain[2][3], chain[1][3] = 0.97, 0.96, 0.91  # alike one after the other, not from end to end
    known = correlation(run.scored(), run.objectives)
    assert known is not None
    found = limitations(run, None, {}, None, replace(known, rho=np.array(chain)), None)
    (one,) = [one for one in found if "not independent" in one.claim]
    assert "over 7 packages" in one.because and "at least 0.91" in one.because


def test_untried_candidates_as_the_log_has_them(draw_run: Make, facts_of: Make, tmp_path: Path) -> None:
    run = replace(draw_run(3), folder=tmp_path)
    assert not having(claims(facts_of(run)), "left in the space")
    event = {"schema": 1, "clock": 0, "session": "s", "event": "planned", "candidates": 5000}
    (tmp_path / "events.jsonl").write_text(json.dumps(event) + "\n")
    assert having(claims(facts_of(run)), "left in the space") == ["5 of 5,000 candidates were tried."]
    (tmp_path / "events.jsonl").write_text(json.dumps({**event, "candidates": 5}) + "\n")
    assert not having(claims(facts_of(run)), "left in the space")


def test_failures_and_looks(draw_run: Make, facts_of: Make) -> None:
    run = draw_run(12)
    assert having(claims(facts_of(run)), "failed") == ["1 of 14 trials failed, 1 of them in training."]
    whole = replace(run, results=tuple(r for r in run.results if not isinstance(r.outcome, Failed)))
    assert not having(claims(facts_of(whole)), "failed")
    assert not having(claims(facts_of(run)), "no longer untouched")
    seen = replace(run, looks=(Look("2026-11-25T08:00:00+00:00", 5), Look(None, 14)))
    assert having(claims(facts_of(seen)), "no longer untouched")


def test_classes_that_are_known_roughly_or_not_recognised(draw_run: Make, facts_of: Make) -> None:
    facts = facts_of(draw_run(3))

    def told(confusion: np.ndarray[Any, Any]) -> list[str]:
        pictures = Pictures("test", "so", ("cat", "dog", "<b>"), confusion, ())
        found = limitations(facts.run, None, {}, None, None, pictures)
        return [f"{one.claim} {one.because}" for one in found]

    many = told(np.diag([5000, 5000, 5000]))
    assert not any("class" in line for line in many)
    (rough,) = [line for line in told(np.diag([5000, 5000, 20])) if "class" in line]
    assert rough.startswith("The accuracy of 1 of 3 classes is known roughly. As few as 20 test pictures")
    (unknown,) = [line for line in told(np.array([[10, 4990, 0], [0, 5000, 0], [0, 0, 5000]])) if "class" in line]
    assert "Not every class is recognised." in unknown and "cat" in unknown and "dog" not in unknown


def test_without_a_recommendation_only_the_run_is_told_of(draw_run: Make, facts_of: Make) -> None:
    told = claims(facts_of(draw_run(12, limits={"size": 1.0})))
    assert having(told, "failed") and not having(told, "not measured") and not having(told, "Another training")


@pytest.mark.parametrize("strict", [False, True])
def test_limits_that_an_interval_crosses(draw_run: Make, facts_of: Make, strict: bool) -> None:
    run = draw_run(40, limits={"energy": 0.2})  # values about 0.1 mJ, intervals up to four times that
    told = having(claims(facts_of(replace(run, strict=strict))), "keeps every limit is not certain")
    assert bool(told) == (not strict)
    if not strict:
        assert "may exceed energy ≤ 0.2mJ" in told[0]
