"""What the gate stops and what it lets through: against brute-force fronts, and by the rules one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives import pareto
from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.reading import Score, exact, losses
from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.gate import Gate, needed_top1
from coreml_pareto.search.outcome import Pruned, Scored
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.candidate import Candidate, Compression, Network
from coreml_pareto.spaces.compression import parse
from coreml_pareto.spaces.space import choose_from

AXES = tuple(OBJECTIVES.values())
NAMES = ("top1", "latency_ms", "size_bytes", "memory_bytes", "energy_mj")
SMALL = st.integers(1, 3).map(float)
POINTS = st.lists(st.tuples(st.integers(0, 10).map(lambda n: n / 10), SMALL, SMALL, SMALL, SMALL), max_size=12)


def _score(point: tuple[float, ...]) -> dict[str, Any]:
    return {name: exact(value, "1") for name, value in zip(NAMES, point, strict=True)}


@given(POINTS, st.tuples(SMALL, SMALL, SMALL, SMALL), st.integers(0, 10))
def test_what_beats_the_needed_accuracy_is_on_the_front_and_what_stays_below_is_not(
    points: list[tuple[float, ...]], static: tuple[float, ...], tenths: int
) -> None:
    known = {name: reading for name, reading in _score((0.0, *static)).items() if name != "top1"}
    rivals = [_score(point) for point in points]
    needed = needed_top1(known, rivals, AXES)
    candidate = known | {"top1": exact(tenths / 10, "share")}
    table = [losses(score, AXES) for score in (*rivals, candidate)]
    on_front = len(table) - 1 in pareto.front(table)
    if tenths / 10 > needed:
        assert on_front
    if tenths / 10 < needed:
        assert not on_front


class Laboratory:
    """Knows the readings of every package; counts how often it is asked."""

    def __init__(self, packages: Iterable[Score]) -> None:
        self.packages, self.asked = tuple(packages), 0

    def potential(self, network: Network, compressions: Iterable[Compression]) -> Iterator[Score]:
        self.asked += 1
        yield from self.packages


def _plan(**sections: Any) -> Plan:
    networks = {"backbones": ["mobilenetv2"], "width": [0.35, 0.5], "resolution": [32], "pretrained": False}
    return load_plan(None, {"networks": networks, "training": {"epochs": [12]}, **sections})


def _candidate(plan: Plan, width: float = 0.5, rung: int = 1, compression: str = "fp16") -> Candidate:
    return plan.space(10).decode(choose_from({"width": width, "rung": rung, "compression": compression}))


CURVE = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.88, 0.9, 0.9, 0.9, 0.9)
"""Of the finished trainings; all are the same, so what is foretold is exact: what stands lower ends lower."""


@pytest.fixture
def finished(result_at: Callable[..., Result]) -> Callable[..., Result]:
    """finished(0, candidate, (0.9, 1.0, 1e5, 1e6, 1.0)): a scored trial whose training went along `CURVE`."""

    def make(
        number: int, candidate: Candidate, point: tuple[float, ...], parent: str | None = None, end: float = CURVE[-1]
    ) -> Result:
        plain = result_at(number, point)
        assert isinstance(plain.outcome, Scored)
        provenance = {"training": f"key-{number}", "curve": " ".join(map(str, (*CURVE[:-1], end)))}
        return replace(plain, candidate=candidate, outcome=replace(plain.outcome, provenance=provenance), parent=parent)

    return make


CHEAP, DEAR = _score((0, 1.0, 1e5, 1e6, 1.0)), _score((0, 2.0, 2e5, 2e6, 2.0))


def _gate(plan: Plan, *packages: Score) -> tuple[Gate, Laboratory]:
    laboratory = Laboratory(packages)
    return Gate(plan, plan.space(10), laboratory, 512), laboratory  # type: ignore[arg-type]


def _known(finished: Callable[..., Result], plan: Plan, rung: int = 1, **changes: Any) -> list[Result]:
    """Four finished trainings; the best has 90 %, at 1 ms, 0.1 MB, 1 MB, 1 mJ."""
    others = [finished(n, _candidate(plan, 0.35, rung), (0.6, 5.0, 1e6, 9e6, 9.0), **changes) for n in range(3)]
    return [*others, finished(3, _candidate(plan, 0.35, rung), (0.9, 1.0, 1e5, 1e6, 1.0), **changes)]


def test_a_training_that_ends_too_low_for_all_its_packages_is_stopped(finished: Callable[..., Result]) -> None:
    plan = _plan()
    gate, laboratory = _gate(plan, DEAR, CHEAP)
    known = _known(finished, plan)
    stopped = gate.training(_candidate(plan), None, (0.1, 0.2, 0.3), known)
    assert stopped is not None and stopped.curve == (0.1, 0.2, 0.3)
    assert "above 90.0% only, and reaches 79.4% at most (95% confidence)" in stopped.reason
    assert gate.training(_candidate(plan), None, (0.1, 0.4, 0.55), known) is None  # above the curve of the others
    gate.training(_candidate(plan), None, (0.1, 0.2, 0.3, 0.3), known)
    assert laboratory.asked == 1


def test_one_package_that_nothing_beats_keeps_its_training(finished: Callable[..., Result]) -> None:
    plan = _plan()
    tiny = CHEAP | {"size_bytes": exact(9e4, "B")}
    gate, _ = _gate(plan, DEAR, tiny)
    assert gate.training(_candidate(plan), None, (0.1, 0.1, 0.1), _known(finished, plan)) is None


def test_no_probe_is_made_for_what_may_become_the_most_accurate(finished: Callable[..., Result]) -> None:
    plan = _plan()
    gate, laboratory = _gate(plan, DEAR)
    assert gate.training(_candidate(plan), None, (0.1, 0.3, 0.6), _known(finished, plan)) is None
    assert laboratory.asked == 0


def test_what_was_trained_longer_does_not_count_against_a_lower_rung(finished: Callable[..., Result]) -> None:
    plan = _plan()
    gate, _ = _gate(plan, DEAR)
    low, curve = _candidate(plan, rung=0), (0.1, 0.1)
    assert low.recipe.epochs == 4
    assert gate.training(low, None, curve, _known(finished, plan, rung=1)) is None
    assert gate.training(low, None, curve, _known(finished, plan, rung=0)) is not None
    assert gate.training(_candidate(plan), None, (0.1, 0.1, 0.1), _known(finished, plan, rung=0)) is not None


def test_curves_of_inherited_weights_foretell_inherited_weights(finished: Callable[..., Result]) -> None:
    plan = _plan()
    gate, _ = _gate(plan, DEAR)
    known = _known(finished, plan, parent="key-of-old")
    assert gate.training(_candidate(plan), None, (0.1, 0.2, 0.3), known) is None
    assert gate.training(_candidate(plan), "key-0", (0.1, 0.2, 0.3), known) is not None


def test_packages_of_one_training_count_as_one_curve(finished: Callable[..., Result]) -> None:
    plan = _plan()
    gate, _ = _gate(plan, DEAR)
    known = [replace(r, outcome=replace(r.outcome, provenance={"training": "one", "curve": "0.1 0.9"}))
             for r in _known(finished, plan) if isinstance(r.outcome, Scored)]  # fmt: skip
    assert gate.training(_candidate(plan), None, (0.1, 0.2, 0.3), known) is None


def test_packages_over_a_limit_are_no_rivals_and_a_limit_on_accuracy_is_needed_by_all(
    finished: Callable[..., Result],
) -> None:
    limited = _plan(limits={"size": "90KB"})
    gate, _ = _gate(limited, DEAR)
    assert gate.training(_candidate(limited), None, (0.1, 0.1, 0.1), _known(finished, limited)) is None
    strict = _plan(limits={"accuracy": "95%"})
    gate, _ = _gate(strict, CHEAP | {"size_bytes": exact(9e4, "B")})
    stopped = gate.training(_candidate(strict), None, (0.1, 0.3, 0.5), _known(finished, strict))
    assert stopped is not None and "above 95.0% only" in stopped.reason


def test_the_gate_is_open_where_it_is_not_asked_for_or_accuracy_is_no_objective(
    finished: Callable[..., Result],
) -> None:
    for plan in (_plan(search={"gate": False}), _plan(objectives=["size", "latency"])):
        gate, _ = _gate(plan, DEAR)
        assert gate.training(_candidate(plan), None, (0.1, 0.1, 0.1), _known(finished, plan)) is None
    plan = _plan(training={"epochs": [12], "fine_tune_epochs": [2]}, compression=["palette-4/tensor"])
    gate, _ = _gate(plan, DEAR)
    assert (
        gate.training(plan.space(10).decode(lambda k: k.choices[0]), None, (0.1,) * 3, _known(finished, plan)) is None
    )


@pytest.mark.parametrize(("compression", "stops"), [(["fp16", "palette-4/tensor"], False), (["fp16", "fp32"], True)])
def test_no_training_is_stopped_where_a_package_of_it_can_still_be_fine_tuned(
    compression: list[str], stops: bool, finished: Callable[..., Result]
) -> None:
    """Whatever its own candidate is stored in: what is not compressed is not fine-tuned."""
    plan = _plan(training={"epochs": [12], "fine_tune_epochs": [0, 2]}, compression=compression)
    gate, _ = _gate(plan, DEAR)
    plain = _candidate(plan)
    assert plain.compression.fine_tune_epochs == 0
    assert (gate.training(plain, None, (0.1, 0.2, 0.3), _known(finished, plan)) is not None) == stops


def test_a_package_is_spared_when_its_network_is_too_weak_in_every_other(finished: Callable[..., Result]) -> None:
    """The upper end of its sibling's interval counts, 70 % of 270 images: 75.2 %."""
    plan = _plan()
    gate, _ = _gate(plan)
    sibling = finished(7, _candidate(plan), (0.7, 2.0, 4e5, 3e6, 3.0), end=0.7)
    smaller = _candidate(plan, compression="int8/channel")
    spared = gate.package(smaller, DEAR, [*_known(finished, plan), sibling])
    assert isinstance(spared, Pruned) and spared.score == DEAR and spared.curve == (0.7,)
    assert "above 90.0% only, and reaches 75." in spared.reason
    assert gate.package(smaller, DEAR, _known(finished, plan)) is None  # nothing is known of its network
    later = finished(8, _candidate(plan, compression="palette-8/tensor"), (0.88, 2.0, 4e5, 3e6, 3.0), end=0.7)
    assert gate.package(smaller, DEAR, [*_known(finished, plan), sibling, later]) is None  # it reaches more
    assert gate.package(smaller, CHEAP | {"latency_ms": exact(0.9, "ms")}, [*_known(finished, plan), sibling]) is None
    tuned = smaller.model_copy(update={"compression": parse("int8/channel").model_copy(update={"fine_tune_epochs": 2})})
    assert gate.package(tuned, DEAR, [*_known(finished, plan), sibling]) is None


def test_a_package_is_not_spared_because_a_harder_compression_ruined_its_network(
    finished: Callable[..., Result],
) -> None:
    plan = _plan()
    gate, _ = _gate(plan)
    plain = _candidate(plan, compression="fp16")
    ruined, weak = (
        finished(7, _candidate(plan, compression="palette-2/tensor"), (0.2, 2.0, 4e4, 3e6, 3.0), end=end)
        for end in (0.9, 0.6)
    )
    assert gate.package(plain, DEAR, [*_known(finished, plan), ruined]) is None
    spared = gate.package(plain, DEAR, [*_known(finished, plan), weak])
    assert spared is not None and "reaches 64.1% at most" in spared.reason  # 307 of 512 images


def test_a_probe_that_fails_stops_nothing(finished: Callable[..., Result]) -> None:
    plan = _plan()
    gate, laboratory = _gate(plan)

    def broken(*_: object) -> Iterator[Score]:
        raise RuntimeError("the converter is out of order")
        yield {}

    laboratory.potential = broken  # type: ignore[method-assign]
    assert gate.training(_candidate(plan), None, (0.1, 0.1, 0.1), _known(finished, plan)) is None
    assert math.isinf(needed_top1(CHEAP, [], AXES))
