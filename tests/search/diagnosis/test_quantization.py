"""Drops of a known size: found where the whole interval lies beyond what is tolerated, and only there."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from coreml_pareto.objectives.paired import compare
from coreml_pareto.search.diagnosis import quantization
from coreml_pareto.search.diagnosis.case import Case, Measured
from coreml_pareto.search.diagnosis.examine import diagnose
from coreml_pareto.search.diagnosis.finding import Check, Finding, quantile
from coreml_pareto.search.diagnosis.measuring import measure
from coreml_pareto.search.diagnosis.quantization import FAILURE
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.preparation import read
from coreml_pareto.search.run import Run


def checked(run: Run, **how: Any) -> tuple[list[Finding], list[Check]]:
    parts = list(quantization.check(Case(run, **how)))
    return [p for p in parts if isinstance(p, Finding)], [p for p in parts if isinstance(p, Check)]


def test_a_drop_is_found_with_its_interval_and_what_would_hold(record: Any) -> None:
    whole = record.right(0.9)
    plain = record.package("t", whole)
    record.package("t", record.disturbed(whole, 12, 10), "int8/channel", 5.2e5)
    held = record.package("t", record.disturbed(whole, 20, 15), "palette-6/tensor", 4.1e5)
    bad = record.package("t", record.disturbed(whole, 180, 20), "palette-2/tensor", 1.6e5)
    (finding,), (check,) = checked(record.run())
    drop = finding.evidence[0]
    expected = compare(whole, record.disturbed(whole, 180, 20), norm.isf(0.025 / 3))
    assert (drop.value, drop.low, drop.high) == pytest.approx((8.0, 100 * expected.low, 100 * expected.high))
    assert finding.trials == (bad,) and finding.severity == "severe" and check.state == "found"
    assert f"trial {plain}" in finding.what and f"trial {held}" in finding.remedy and "0.410 MB" in finding.remedy
    assert shlex.split(finding.command)[:4] == [
        "coreml-pareto", "compare", f"{record.folder}:{bad}", f"{record.folder}:{held}",
    ]  # fmt: skip


@pytest.mark.parametrize(("lost", "gained", "state"), [(30, 20, "healthy"), (75, 40, "healthy"), (110, 20, "found")])
def test_only_a_drop_that_is_shown_to_be_too_large(record: Any, lost: int, gained: int, state: str) -> None:
    """0.5 points are tolerated, 1.75 points on 2,000 images with 115 changed ones may be 1, 4.5 points may not."""
    whole = record.right(0.9)
    record.package("t", whole)
    record.package("t", record.disturbed(whole, lost, gained), "w8a8")
    findings, (check,) = checked(record.run())
    assert check.state == state and bool(findings) == (state == "found")


def test_one_finding_for_each_scheme_the_worst_first(record: Any) -> None:
    for number, lost in enumerate((100, 300)):
        network = record.network.model_copy(update={"width": 0.5 + number / 4})
        whole = record.right(0.9, seed=number)
        record.package(f"t{number}", whole, network=network)
        record.package(f"t{number}", record.disturbed(whole, lost, 0), "pruning-50", 6e5, network=network)
    (finding,), _ = checked(record.run())
    assert finding.trials == (3, 1) and "1 other package" in finding.what
    words = shlex.split(finding.command)
    assert "compression=[fp16, pruning-50, int8/channel, mixed-6]" in words and words[1] == "search"


def test_without_the_network_uncompressed_nothing_is_said(record: Any) -> None:
    record.package("t", record.right(0.5), "palette-2/tensor")
    findings, (check,) = checked(record.run())
    assert not findings and check.state == "unknown" and "fp16" in check.told
    record.results.clear()
    record.package("t", record.right(0.5))
    assert [c.state for c in checked(record.run())[1]] == ["unknown"]


def test_single_precision_is_no_compression(record: Any) -> None:
    record.package("t", record.right(0.9))
    record.package("t", record.right(0.5), "fp32")
    findings, (check,) = checked(record.run())
    assert not findings and check.state == "unknown" and check.told == "no compressed package"


def test_what_holds_may_have_gained(record: Any) -> None:
    whole = record.right(0.9)
    record.package("t", whole)
    record.package("t", record.disturbed(whole, 10, 12), "int8/channel", 5e5)
    record.package("t", record.disturbed(whole, 300, 0), "palette-2/tensor", 2e5)
    (finding,), _ = checked(record.run())
    assert finding.remedy.endswith("0.1 points gained.")


def test_packages_that_do_not_tell_their_images(record: Any) -> None:
    record.package("t", record.right(0.9))
    record.package("t", record.right(0.5), "palette-2/tensor")
    plain = record.results[0]
    top1 = replace(plain.score["top1"], conditions={})
    record.results[0] = replace(plain, outcome=replace(plain.outcome, score={**plain.score, "top1": top1}))
    findings, checks = checked(record.run())
    assert not findings and [check.state for check in checks] == ["unknown"]


def test_one_trial_alone_is_asked_for(record: Any) -> None:
    whole = record.right(0.9)
    record.package("t", whole)
    good = record.package("t", record.disturbed(whole, 10, 10), "int8/channel")
    bad = record.package("t", record.disturbed(whole, 300, 0), "palette-2/tensor")
    assert checked(record.run(), only=good)[0] == []
    assert checked(record.run(), only=bad)[0][0].trials == (bad,)


def test_false_alarms_of_a_whole_run_are_rare() -> None:
    """Twenty packages that each lose exactly what is tolerated: 100 runs of them, at most 5 % with an alarm."""
    random, z = np.random.default_rng(0), quantile(20)
    alarms = 0
    for _ in range(100):
        kinds = random.choice(4, p=[0.86, 0.03, 0.02, 0.09], size=(20, 2000))  # 1 point lost
        drops = (compare((row == 0) | (row == 1), (row == 0) | (row == 2), z) for row in kinds)
        alarms += any(drop.low > quantization.TOLERATED for drop in drops)
    assert alarms <= 5


def test_layers_that_were_measured_are_named(record: Any) -> None:
    whole = record.right(0.9)
    record.package("t", whole)
    record.package("t", record.disturbed(whole, 300, 0), "palette-2/tensor")
    (finding,), _ = checked(record.run(), measured=Measured(layers={1: ("conv_1: alone 5 points",)}))
    assert finding.layers == ("conv_1: alone 5 points",)


def test_a_network_of_one_bit_is_found_by_a_real_search(sound_and_ruined: Run) -> None:
    (finding,) = [one for one in diagnose(sound_and_ruined) if one.failure == FAILURE]
    by_scheme = {r.candidate.compression.scheme: r for r in sound_and_ruined.results}
    assert finding.trials == (by_scheme["palette"].trial,) and finding.severity == "severe"
    assert f"trial {by_scheme['int8'].trial}" in finding.remedy
    assert len(finding.layers) == 3 and all(" dB" in layer for layer in finding.layers)


def test_its_layers_are_measured_one_by_one(sound_and_ruined: Run) -> None:
    case = Case(sound_and_ruined)
    assert case.plan is not None
    measured = measure(case, read(case.plan))
    (trial,) = measured.layers
    assert trial == next(r.trial for r in sound_and_ruined.results if r.candidate.compression.scheme == "palette")
    assert len(measured.layers[trial]) == 3 and all(
        "alone" in layer and "training images" in layer for layer in measured.layers[trial]
    )
    outcome = sound_and_ruined.results[0].outcome
    assert isinstance(outcome, Scored)
    kept = Path(outcome.package).parents[2] / "sensitivity"
    assert len(list(kept.iterdir())) == 1
