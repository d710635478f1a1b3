"""What is left of a timeout: by the record alone, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.effort import SHARED
from coreml_pareto.search.outcome import Failed, Infeasible, Scored
from coreml_pareto.search.remaining import Remaining, first_students, seconds_left, seconds_of
from coreml_pareto.search.run import Result

ResultAt = Callable[..., Result]
POINT = (0.9, 1.0, 1e5, 1e6, 1.0)


def plan(**search: Any) -> Plan:
    return load_plan(None, {"search": search})


def took(result: Result, seconds: float, trained: float = 0.0) -> Result:
    assert isinstance(result.outcome, Scored)
    outcome = replace(result.outcome, provenance={"training_seconds": f"{trained:.1f}"})
    return replace(result, seconds=seconds, outcome=outcome)


def test_gone_is_what_the_trials_took_by_all_workers(result_at: ResultAt) -> None:
    results = [replace(result_at(n, POINT), seconds=30.0) for n in range(4)]
    assert seconds_left(plan(timeout="10m"), results) == 480.0
    assert seconds_left(plan(timeout="10m", workers=2), results) == 540.0
    assert seconds_left(plan(timeout="1m"), results) == -60.0
    assert seconds_left(plan(trials=9), results) == math.inf
    shared = plan(timeout="10m").model_copy(update={"storage": "postgresql://here/study"})
    assert seconds_left(shared, results) == math.inf


def test_a_training_takes_what_its_trials_took_or_what_it_says_itself(result_at: ResultAt) -> None:
    first, other = took(result_at(0, POINT), 50.0, 40.0), took(result_at(1, POINT), 5.0, 300.0)
    package = replace(took(result_at(2, POINT), 7.0, 40.0), candidate=first.candidate)
    failed = replace(result_at(3, POINT), outcome=Failed("training", "no number"), seconds=9.0)
    found = seconds_of([first, other, package, failed])
    assert found == {first.candidate.training: 57.0, other.candidate.training: 300.0}


def test_a_teacher_is_trained_for_the_first_student_that_is_trained(result_at: ResultAt) -> None:
    def student(number: int) -> Result:
        plain = result_at(number, POINT)
        taught = plain.candidate.recipe.model_copy(update={"teacher": "mobilenetv3_large"})
        return replace(plain, candidate=plain.candidate.model_copy(update={"recipe": taught}))

    refused = replace(student(0), outcome=Infeasible(("size",), {}))
    results = [result_at(9, POINT), refused, student(1), student(2)]
    assert first_students(results) == {"mobilenetv3_large": results[2].candidate.training}


def test_the_pace_is_that_of_the_backbone_or_of_all() -> None:
    remaining = Remaining(100.0, {"a": [1.0, 2.0, 9.0], "b": [4.0]})
    assert remaining.effort("a") == 50.0 and remaining.effort("b") == 25.0
    assert remaining.effort("c") == pytest.approx(100 / 3)
    assert Remaining(100.0, {}).effort("a") == math.inf and Remaining(math.inf, {"a": [1.0]}).effort("a") == math.inf
    assert Remaining(-5.0, {"a": [1.0]}).effort("a") < 0


def test_of_two_backbones_the_slower_one_takes_longer_for_the_same_effort() -> None:
    remaining = Remaining(60.0, {"quick": [1.0], "usual": [3.0], "slow": [4.0]})
    assert remaining.slower("slow", "quick") == 4 and remaining.slower("new", "quick") == 3
    assert Remaining(60.0, {}).slower("slow", "quick") == 1


def test_a_teacher_is_shared_by_those_that_can_still_learn_from_it() -> None:
    remaining = Remaining(0.0, {})
    assert remaining.shared(math.inf, 1.0, 10.0) == SHARED
    assert remaining.shared(12.0, 1.0, 10.0) == 0.5
    assert remaining.shared(10.5, 1.0, 10.0) == remaining.shared(-3.0, 1.0, 10.0) == 1.0
