"""The figures of a guide: computed again from the record and the answers, and found in the guide as they are."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import get_args

import numpy as np
import pytest
from markdown_it import MarkdownIt
from scipy.stats import binom

from coreml_pareto.objectives.accuracy import right_of, wilson
from coreml_pareto.objectives.devices.catalogue import ComputeUnits
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.objectives.score import static_score
from coreml_pareto.search.choose import RunnerUp
from coreml_pareto.search.delivery.handover import Written
from coreml_pareto.search.delivery.measures import FALSE_ALARMS, Measures, alarm, measure
from coreml_pareto.search.delivery.rollout import paired, per_arm
from coreml_pareto.search.delivery.subject import Subject
from coreml_pareto.search.delivery.thresholds import Row as Answered
from coreml_pareto.search.delivery.units import Row, recommended, rows
from coreml_pareto.search.figures import figure


@pytest.fixture(scope="module")
def found(subject: Subject) -> Measures:
    return measure(subject)


def milliseconds(low: float, value: float, high: float) -> MappingProxyType[str, Reading]:
    return MappingProxyType({"latency_ms": Reading(value, "ms", low, high, "estimated", {"unit": "GPU"})})


def test_another_choice_of_units_needs_intervals_apart() -> None:
    own, near, far = Row("ALL", milliseconds(2, 3, 4)), milliseconds(1, 1.5, 2.5), milliseconds(0.5, 1, 1.9)
    assert recommended([own, Row("CPU_AND_GPU", near)], "ALL")[0] == "ALL"
    chosen, reason = recommended([own, Row("CPU_AND_GPU", near), Row("CPU_ONLY", far)], "ALL")
    assert chosen == "CPU_ONLY" and "apart" in reason


def test_every_choice_of_units_has_its_own_estimate(subject: Subject) -> None:
    target = subject.run.target
    found = rows(subject.program, target, subject.result.score)
    assert tuple(row.units for row in found) == get_args(ComputeUnits)
    for row in found:
        fresh = static_score(subject.program, replace(target, compute_units=row.units))
        assert row.score["latency_ms"].value == pytest.approx(fresh["latency_ms"].value)
    assert next(row for row in found if row.units == "CPU_ONLY").unit == "CPU"


def test_the_alarm_holds_for_every_share_in_the_interval() -> None:
    row = Answered(0.8, 400, 300, 290, 0.9, 1, 0.8)
    watched = alarm(row, 1000)
    for share in np.linspace(*wilson(100, 400), 7):
        outside = binom.cdf(watched.low - 1, 1000, share) + binom.sf(watched.high, 1000, share)
        assert outside <= FALSE_ALARMS
    everything = alarm(Answered(0.8, 400, 400, 400, 0.9, 1, 0.8), 1000)
    assert everything.low == 0 < everything.high < 50


def test_the_sizes_are_reckoned_from_the_record(subject: Subject) -> None:
    share = subject.result.score["top1"].value
    other = next(r for r in subject.run.results if r.trial != subject.result.trial)
    recommendation = subject.choice.recommendation
    assert recommendation is not None
    beside = replace(recommendation, runners_up=(RunnerUp(other, ()),))
    found = measure(replace(subject, choice=replace(subject.choice, recommendation=beside)))
    own, theirs = (right_of(result.score["top1"]) for result in (subject.result, other))
    assert own is not None and theirs is not None and found.discordant is not None
    assert found.discordant[1] == pytest.approx(float((own ^ theirs).mean()))
    for arms in found.arms:
        fits = share + arms.difference <= 1
        assert arms.rise == (per_arm(share, share + arms.difference) if fits else None)
        assert arms.drop == per_arm(share, share - arms.difference)
        assert arms.paired == paired(found.discordant[1], arms.difference)


def test_the_guide_shows_these_figures(written: Written, found: Measures) -> None:
    text = MarkdownIt("commonmark").enable("table").render((written.folder / "guide.md").read_text("utf-8"))
    for row in found.units:
        assert f">{figure('latency', row.score['latency_ms'])}<" in text
    for answered in found.thresholds:
        assert answered.answered == 0 or f">{answered.answered:,}<" in text
    for arms in found.arms:
        assert f">{arms.drop:,}<" in text
    for watched in found.alarms:
        assert f">{watched.low:,}<" in text and f">{watched.high:,}<" in text
    assert f"threshold {found.watched.threshold:g}" in text or f"below {found.watched.threshold:g}" in text


def test_the_mix_of_answers_adds_up(subject: Subject, found: Measures) -> None:
    assert sum(share for _, share in found.answers) == pytest.approx(1)
    assert {label for label, _ in found.answers} == set(subject.labels)
    mean, low, middle, high = found.confidence
    assert low <= middle <= high and mean == pytest.approx(float(subject.answers.probabilities.max(axis=1).mean()))
