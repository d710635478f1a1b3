"""What probes without training conclude, against every candidate of the space read one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.outcome import Infeasible
from coreml_pareto.search.reach import ALL, LEAST, NONE, UNTIMED, before_training, probe_seconds, survey
from coreml_pareto.search.relaxation import fits
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.compression import spell
from coreml_pareto.spaces.space import Space

STUDY: dict[str, Any] = {
    "networks": {
        "backbones": ["mobilenetv2", "squeezenet1_1"], "width": [0.35, 0.5, 1.0], "depth": [0.8, 1.0],
        "resolution": [32, 48, 64, 96],
    },
    "compression": ["fp16", "int8/channel", "palette-4/tensor"],
}  # fmt: skip


def _space() -> Space:
    return load_plan(None, STUDY).space(10)


class Formula:
    """Readings that grow with width, depth and side; `calls` are the candidates asked."""

    def __init__(self, broken: Callable[[Candidate], bool] = lambda candidate: False) -> None:
        self.calls: list[Candidate] = []
        self.broken = broken

    def probe(self, candidate: Candidate) -> Mapping[str, Reading]:
        self.calls.append(candidate)
        if self.broken(candidate):
            raise RuntimeError("it does not convert")
        return self.score(candidate)

    def score(self, candidate: Candidate) -> dict[str, Reading]:
        network, bits = candidate.network, candidate.compression.bits
        family = 2.0 if network.family == "mobilenet" else 1.0
        work = network.width**1.5 * network.depth * (network.resolution / network.stem_stride) ** 2
        slow = 1.5 if bits == 4 else 1.0
        return {
            "size_bytes": exact(family * network.width**2 * network.depth * bits * 1e4, "B"),
            "latency_ms": Reading(work * slow, "ms", work * slow / 2, work * slow * 2, "estimated"),
            "memory_bytes": exact(network.resolution**2 * 10 + work, "B"),
        }


def _every(space: Space, formula: Formula) -> list[Result]:
    """All networks in all compressions, read."""
    first = space.decode(lambda knob: knob.choices[0])
    candidates = (
        space.compressed(first.model_copy(update={"network": network}), form)
        for network in space.networks() for form in space.compressions
    )  # fmt: skip
    return [Result(NONE, one, Infeasible((), formula.score(one))) for one in candidates]


LIMITS = st.fixed_dictionaries(
    {},
    optional={"size": st.floats(5e3, 1e6), "latency": st.floats(50, 8000), "memory": st.floats(5e3, 2e5)},
).filter(bool)


@given(limits=LIMITS, strict=st.booleans(), probes=st.integers(1, 200))
def test_conclusions_hold_for_every_candidate_whenever_probing_ends(
    limits: dict[str, float], strict: bool, probes: int
) -> None:
    space, formula = _space(), Formula()
    found = survey(space, {**limits, "accuracy": 0.9}, formula, lambda: len(formula.calls) >= probes, strict=strict)
    every = _every(space, formula)
    for name, part in {**{name: {name: limits[name]} for name in limits}, ALL: limits}.items():
        true = sum(fits(result, part, strict=strict) for result in every) / len(every)
        least, most = found.shares[name]
        assert least - 1e-9 <= true <= most + 1e-9
    if found.refusal is not None:
        assert not any(fits(result, limits, strict=strict) for result in every)
        assert set(found.refusal.nearest) == set(limits) and found.refusal.relaxations
    assert found.size == len(every) and found.probed == len(formula.calls) == len(set(formula.calls)) <= probes
    if found.whole:
        for name, result in found.least.items():
            reading = {"size": "size_bytes", "latency": "latency_ms", "memory": "memory_bytes"}[name]
            assert formula.score(result.candidate)[reading].value == min(
                one.outcome.score[reading].value for one in every if isinstance(one.outcome, Infeasible)
            )


@given(limits=LIMITS)
def test_with_enough_time_everything_is_decided_by_a_part_of_the_probes(limits: dict[str, float]) -> None:
    space, formula = _space(), Formula()
    found = survey(space, limits, formula, lambda: False)
    true = sum(fits(result, limits) for result in _every(space, formula))
    assert (found.refusal is not None) == (true == 0)
    if true:
        assert found.shares[ALL] == (pytest.approx(true / found.size), pytest.approx(true / found.size))
    assert found.whole and found.probed < found.size


def test_what_nothing_can_keep_is_refused_after_the_smallest_networks() -> None:
    space, formula = _space(), Formula()
    found = survey(space, {"size": 10.0}, formula, lambda: False)
    assert found.refusal is not None and found.probed == 2 * 3
    assert {c.network.width for c in formula.calls} <= {0.35, 1.0} and {
        c.network.resolution for c in formula.calls
    } == {32}
    (relaxation,) = found.refusal.relaxations
    assert spell(relaxation.admits.candidate.compression) == "palette-4/tensor"


def test_a_network_that_cannot_be_probed_decides_nothing() -> None:
    formula = Formula(lambda candidate: candidate.network.backbone == "squeezenet1_1")
    found = survey(_space(), {"size": 10.0}, formula, lambda: False)
    assert found.refusal is None and not found.whole and found.failed
    assert found.shares["size"][0] == 0 < found.shares["size"][1]


def test_a_stem_that_depends_on_the_side_has_several_smallest_networks() -> None:
    """48 pixels at stride 1 have larger maps than 64 at stride 2, and a smaller input: both are probed."""
    study = STUDY | {"networks": {"backbones": ["squeezenet1_1"], "resolution": [48, 64]}, "compression": ["fp16"]}
    formula = Formula()
    survey(load_plan(None, study).space(10), {"latency": 1e-6}, formula, lambda: False)
    assert {candidate.network.resolution for candidate in formula.calls} == {48, 64}


def test_the_time_for_probes() -> None:
    assert probe_seconds(None) == UNTIMED and probe_seconds(60.0) == LEAST and probe_seconds(36_000.0) == 1080
    assert before_training({"size": 1.0, "accuracy": 0.9}) == {"size": 1.0}
