"""What is put in line besides the sampler's draws, one rule at a time; no study, no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.outcome import Failed, Infeasible, Pruned, Scored
from coreml_pareto.search.proposals import Proposals
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.study import Asked
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.compression import spell
from coreml_pareto.spaces.space import choose_from

POINT = (0.9, 1.0, 1e5, 1e6, 1.0)


class Double:
    """Stands for the study, the laboratory, the gate, the acquisition and the origin."""

    def __init__(self) -> None:
        self.line: list[Candidate] = []
        self.runs: list[Sequence[int]] = []
        self.open, self.ends, self.worth = True, True, None
        self.lets_through, self.judged = False, 0
        self.evidence: object | None = None

    def enqueue(self, candidate: Candidate) -> None:
        self.line.append(candidate)

    def waiting(self) -> tuple[Candidate, ...]:
        return ()

    def run_of(self, results: Sequence[Result]) -> Any:
        return results

    def best(self, results: Sequence[Result], at_work: object) -> Candidate | None:
        self.runs.append([result.trial for result in results])
        return self.worth

    def in_time(self, run: Run, candidate: Candidate) -> bool:
        return self.ends

    def training(self, *_: object) -> Pruned | None:
        return None if self.open else Pruned("hopeless", {}, (0.1,))

    def package(self, *_: object) -> Pruned | None:
        self.judged += 1
        return None if self.lets_through else Pruned("hopeless", {}, (0.1,))

    def probe(self, candidate: Candidate) -> dict[str, Any]:
        return {}

    def over(self, score: object) -> tuple[str, ...]:
        return ()

    def within(self, space: object) -> tuple[()]:
        return ()


@pytest.fixture
def plan() -> Plan:
    return load_plan(None, {
        "networks": {"backbones": ["mobilenetv2", "squeezenet1_1"], "width": [0.35, 0.5], "resolution": [32]},
        "training": {"epochs": [12]}, "compression": ["fp16", "int8/channel", "palette-4/tensor"],
        "search": {"packages_per_training": 3},
    })  # fmt: skip


@pytest.fixture
def result(plan: Plan, result_at: Callable[..., Result]) -> Callable[..., Result]:
    def make(number: int, compression: str = "fp16", **values: Any) -> Result:
        known = {"family": "mobilenet", "width": 0.35, "rung": 0, "compression": compression, **values}
        return replace(result_at(number, POINT), candidate=plan.space(10).decode(choose_from(known)))

    return make


def proposals_of(plan: Plan, double: Double, *seen: Result) -> Proposals:
    known: Any = double
    results = {result.candidate.digest: result for result in seen}
    return Proposals(plan, plan.space(10), known, known, known, known, results, {}, known)


def spelled(candidates: Sequence[Candidate]) -> set[str]:
    return {spell(candidate.compression) for candidate in candidates}


@pytest.mark.parametrize(
    "outcome", [Infeasible(("size",), {}), Failed("package", "no such scheme"), Pruned("no", {}, (0.1,))]
)
def test_a_compression_that_came_to_nothing_keeps_none_of_the_others_back(
    outcome: Any, plan: Plan, result: Callable[..., Result]
) -> None:
    before, trained = replace(result(0), outcome=outcome), result(1, "int8/channel")
    double = Double()
    proposals_of(plan, double, before, trained).after(trained)
    assert spelled(double.line) == {"palette-4/tensor"}


def test_of_a_training_that_was_done_nothing_further_is_asked(plan: Plan, result: Callable[..., Result]) -> None:
    double, first, second = Double(), result(0), result(1, "int8/channel")
    proposals_of(plan, double, first, second).after(second)
    assert not double.line
    proposals_of(plan, double, first).after(first)
    assert spelled(double.line) == {"int8/channel", "palette-4/tensor"}


def _spared(plain: Result) -> Result:
    assert isinstance(plain.outcome, Scored)
    return replace(plain, outcome=Pruned("hopeless", plain.outcome.score, (0.1,)))


def test_a_training_that_was_stopped_after_one_epoch_is_revived(plan: Plan, result: Callable[..., Result]) -> None:
    double, plain = Double(), result(0)
    proposals = proposals_of(plan, double)
    stopped = replace(plain, outcome=Pruned("hopeless", {}, (0.1,)))
    assert proposals.revived(stopped) and not proposals.revived(_spared(plain)) and not proposals.revived(plain)
    double.open = False
    assert not proposals.revived(stopped)


def test_a_spared_package_is_asked_again_once_another_of_its_network_lets_it_through(
    plan: Plan, result: Callable[..., Result]
) -> None:
    """The gate is asked again only when a package of the same training was added: nothing else lets it through."""
    double, first, spared = Double(), result(0), _spared(result(1, "int8/channel"))
    later, other = result(2, "palette-4/tensor"), result(3, width=0.5)
    proposals = proposals_of(plan, double, first, spared)
    assert proposals.revival() is None and not proposals.revived(spared) and double.judged == 1
    proposals.seen[other.candidate.digest] = other  # type: ignore[index]
    double.lets_through = True
    assert proposals.revival() is None and double.judged == 1
    proposals.seen[later.candidate.digest] = later  # type: ignore[index]
    assert proposals.revived(spared) and double.judged == 2
    double.ends = False
    proposals.next()
    assert double.line == [spared.candidate]
    proposals.running[7] = Asked(None, spared.candidate)  # type: ignore[index, arg-type]
    assert proposals.revival() is None


def test_a_package_that_was_spared_by_an_estimate_is_judged_anew_once_the_device_was_measured(
    plan: Plan, result: Callable[..., Result]
) -> None:
    double, first, spared = Double(), result(0), _spared(result(1, "int8/channel"))
    proposals = proposals_of(plan, double, first, spared)
    assert isinstance(spared.outcome, Pruned) and not proposals.revived(spared)
    double.evidence = object()
    assert proposals.revival() == spared.candidate
    corrected = replace(spared.outcome.score["latency_ms"], how="corrected")
    anew = replace(spared, outcome=replace(spared.outcome, score={**spared.outcome.score, "latency_ms": corrected}))
    assert not proposals.revived(anew)


def test_results_are_weighed_by_trial_whenever_they_came_to_be_known(plan: Plan, result: Callable[..., Result]) -> None:
    double = Double()
    results = [result(n, family=family) for n, family in ((7, "mobilenet"), (2, "squeezenet"))]
    proposals_of(plan, double, *results).next()
    assert double.runs == [[2, 7]]


def test_a_baseline_that_would_not_end_waits_for_what_does(plan: Plan, result: Callable[..., Result]) -> None:
    def asked(ends: bool, worth: Candidate | None) -> Candidate:
        double = Double()
        double.ends, double.worth = ends, worth
        results = [result(0), result(1, width=0.5)]
        proposals_of(plan, double, *results).next()
        (found,) = double.line
        return found

    other = result(9, "int8/channel", width=0.5, rung=1).candidate
    assert asked(ends=True, worth=other).network.family == "squeezenet"
    assert asked(ends=False, worth=other) == other
    assert asked(ends=False, worth=None).network.family == "squeezenet"
