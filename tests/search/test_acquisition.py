"""Which training is chosen: by gain and effort, within limits, never twice, the same on every call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.catalogue import select
from coreml_pareto.objectives.reading import Reading, Score, exact
from coreml_pareto.search.acquisition import Acquisition, Images
from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.history import History
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Failed, Infeasible, Outcome, Pruned, Scored
from coreml_pareto.search.remaining import Remaining
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.candidate import Candidate, Compression, Network
from coreml_pareto.spaces.compression import spell
from coreml_pareto.spaces.counts import count
from coreml_pareto.spaces.space import Space, choose_from

IMAGES = Images(training=1000, validation=500)


def plan_with(**sections: Any) -> Plan:
    networks = {"backbones": ["mobilenetv2", "squeezenet1_1"], "width": [0.35, 0.5, 1.0], "resolution": [32, 48]}
    base: dict[str, Any] = {
        "name": "acquired", "data": "digits", "networks": networks | {"pretrained": False}, "training": {"epochs": [12]},
        "compression": ["fp16", "palette-4/tensor"],
    }  # fmt: skip
    return load_plan(None, base | sections)


class World:
    """Networks whose readings and accuracies follow a formula; `unreadable` ones cannot be converted."""

    def __init__(self, unreadable: str = "") -> None:
        self.unreadable, self.asked = unreadable, list[Network]()

    def foreseen(self, network: Network, compressions: Iterable[Compression]) -> Iterator[Score]:
        self.asked.append(network)
        if network.backbone == self.unreadable:
            raise RuntimeError("no such operation")
        for compression in compressions:
            yield self.static(network, compression)

    def static(self, network: Network, compression: Compression) -> Score:
        macs = 1e7 * network.width**2 * (network.resolution / 32) ** 2
        size = 1e6 * network.width**1.7 * compression.bits / 16
        values = {"latency_ms": (0.1 + macs / 1e8, "ms"), "size_bytes": (size, "B"), "memory_bytes": (size + 1e5, "B")}
        values |= {"energy_mj": (0.05 + macs / 1e9, "mJ"), "macs": (macs, "1")}
        return {name: exact(value, unit) for name, (value, unit) in values.items()}

    def scored(self, candidate: Candidate, top1: float) -> Scored:
        accuracy = {"top1": Reading(top1, "share", 0.0, 1.0, "measured")}
        score = accuracy | dict(self.static(candidate.network, candidate.compression))
        return Scored(score, Path("none"), {TRAINING: candidate.recipe.digest + candidate.network.digest, "curve": ""})


def candidate_of(space: Space, **values: Any) -> Candidate:
    known = {"family": "mobilenet", "width": 0.35, "resolution": 32, "rung": 0, "compression": "fp16", **values}
    return space.decode(choose_from(known))


def run_of(plan: Plan, outcomes: Iterable[tuple[Candidate, Outcome]]) -> Run:
    results = tuple(Result(n, candidate, outcome) for n, (candidate, outcome) in enumerate(outcomes))
    return Run(
        Path("none"), plan.name, select(plan.objectives), plan.bounds, plan.target.resolve(), ("a", "b"), results
    )


def both(world: World, space: Space, candidate: Candidate, top1: float) -> list[tuple[Candidate, Outcome]]:
    packages = [space.compressed(candidate, one) for one in space.compressions]
    return [(package, world.scored(package, top1)) for package in packages]


@pytest.fixture
def known() -> tuple[Plan, World, Space, Run]:
    plan, world = plan_with(), World()
    space = plan.space(10)
    rows = both(world, space, candidate_of(space), 0.7)
    rows += both(world, space, candidate_of(space, family="squeezenet"), 0.5)
    return plan, world, space, run_of(plan, rows)


def test_before_a_training_has_ended_nothing_is_told(known: Any) -> None:
    plan, world, space, run = known
    acquisition = Acquisition(plan, space, world, IMAGES)
    assert acquisition.best(run_of(plan, []), []) is None
    assert acquisition.best(run_of(plan, [(r.candidate, r.outcome) for r in run.results[:1]]), []) is not None
    assert acquisition.best(run, []) is not None


def test_the_same_results_lead_to_the_same_choice_whatever_was_read_before(known: Any) -> None:
    plan, world, space, run = known
    used = Acquisition(plan, space, world, IMAGES)
    chosen = used.best(run, [])
    assert chosen is not None
    longer = run_of(plan, [*((r.candidate, r.outcome) for r in run.results), *both(world, space, chosen, 0.8)])
    assert used.best(longer, []) == Acquisition(plan, space, world, IMAGES).best(longer, [])
    assert used.best(run, []) == chosen


def test_what_ended_failed_or_is_at_work_is_not_chosen(known: Any) -> None:
    plan, world, space, run = known
    rows: list[tuple[Candidate, Outcome]] = [(r.candidate, r.outcome) for r in run.results]
    at_work: list[Candidate] = []
    acquisition = Acquisition(plan, space, world, IMAGES)
    for number in range(12):
        chosen = acquisition.best(run_of(plan, rows), at_work)
        if chosen is None:
            break
        assert chosen.training not in {candidate.training for candidate, _ in rows} | {c.training for c in at_work}
        match number % 4:
            case 0:
                rows += both(world, space, chosen, 0.8)
            case 1:
                rows.append((chosen, Failed("training", "no number")))
            case 2:
                rows.append((chosen, Pruned("hopeless", {}, (0.1, 0.2))))
            case _:
                at_work.append(chosen)
    assert number > 6


def test_a_rung_that_promises_much_is_promoted(known: Any) -> None:
    """All networks were trained on the lowest rung: only promotions are left, and one of them is chosen."""
    plan, world, space, _ = known
    rows = [row for network in space.networks() for row in both(world, space, _on(space, network), 0.8)]
    chosen = Acquisition(plan, space, world, IMAGES).best(run_of(plan, rows), [])
    assert chosen is not None
    assert space.rung_of(chosen) == 1


def _on(space: Space, network: Network) -> Candidate:
    return (
        candidate_of(space)
        .model_copy(update={"network": network})
        .model_copy(update={"recipe": candidate_of(space, family=network.family).recipe})
    )


def test_limits_are_kept_as_far_as_they_are_foretold() -> None:
    plan, world = plan_with(limits={"size": "300KB"}), World()
    space = plan.space(10)
    rows = both(world, space, candidate_of(space), 0.7) + both(
        world, space, candidate_of(space, family="squeezenet"), 0.5
    )
    acquisition = Acquisition(plan, space, world, IMAGES)
    for _ in range(4):
        chosen = acquisition.best(run_of(plan, rows), [])
        assert chosen is not None
        assert world.static(chosen.network, chosen.compression)["size_bytes"].value <= 300e3
        rows += [row for row in both(world, space, chosen, 0.8)]


def test_a_backbone_that_cannot_be_read_offers_nothing() -> None:
    plan, world = plan_with(), World(unreadable="squeezenet1_1")
    space = plan.space(10)
    rows = both(world, space, candidate_of(space), 0.7) + both(world, space, candidate_of(space, width=0.5), 0.75)
    acquisition = Acquisition(plan, space, world, IMAGES)
    for _ in range(4):
        chosen = acquisition.best(run_of(plan, rows), [])
        assert chosen is not None
        assert chosen.network.backbone == "mobilenetv2"
        rows += both(world, space, chosen, 0.8)


def test_of_two_backbones_the_more_accurate_one_is_pursued(known: Any) -> None:
    plan, world, space, _ = known
    rows = [row for w in (0.35, 0.5) for row in both(world, space, candidate_of(space, width=w), 0.95)]
    rows += [
        row for w in (0.35, 0.5) for row in both(world, space, candidate_of(space, family="squeezenet", width=w), 0.3)
    ]
    chosen = Acquisition(plan, space, world, IMAGES).best(run_of(plan, rows), [])
    assert chosen is not None
    assert chosen.network.backbone == "mobilenetv2"


def test_what_is_expected_of_the_work_in_progress_is_not_wanted_twice(known: Any) -> None:
    plan, world, space, run = known
    acquisition = Acquisition(plan, space, world, IMAGES)
    at_work: list[Candidate] = []
    for _ in range(4):
        chosen = acquisition.best(run, at_work)
        assert chosen is not None
        at_work.append(chosen)
    assert len({candidate.training for candidate in at_work}) == 4


def test_without_accuracy_among_the_objectives_the_sampler_draws() -> None:
    plan, world = plan_with(objectives=["size", "latency"]), World()
    space = plan.space(10)
    rows = both(world, space, candidate_of(space), 0.7) + both(
        world, space, candidate_of(space, family="squeezenet"), 0.5
    )
    assert Acquisition(plan, space, world, IMAGES).best(run_of(plan, rows), []) is None


def test_of_a_new_backbone_the_network_that_is_chosen_is_read_and_no_other(known: Any) -> None:
    """Once, before it is trained; afterwards its packages tell."""
    plan, world, space, _ = known
    rows = both(world, space, candidate_of(space), 0.7) + both(world, space, candidate_of(space, width=0.5), 0.75)
    acquisition = Acquisition(plan, space, world, IMAGES)
    for _ in range(6):
        chosen = acquisition.best(run_of(plan, rows), [])
        assert chosen is not None
        rows += both(world, space, chosen, 0.8)
        if chosen.network.backbone == "squeezenet1_1":
            break
    assert [network.backbone for network in world.asked] == ["squeezenet1_1"]


def test_history_counts_the_epochs_behind_inherited_weights(known: Any) -> None:
    _, world, space, _ = known
    first, second = candidate_of(space, width=1.0), candidate_of(space, width=0.5)
    parent = world.scored(first, 0.9)
    key = parent.provenance[TRAINING]
    history = History([Result(0, first, parent), Result(1, second, world.scored(second, 0.8), parent=key)])
    assert history.epochs(first, None) == 4
    assert history.epochs(second, key) == 8
    assert history.parent_of(candidate_of(space, width=0.35)) is not None
    assert [space.rung_of(one) for one in history.promotions(space)] == [1, 1]
    stopped = candidate_of(space, width=0.35)
    cut = History([Result(0, stopped, Pruned("hopeless", {}, (0.2, 0.4, 0.3)))])
    assert [row.top1 for row in cut.trainings] == [0.4]


def test_drops_are_taken_from_the_best_package_of_a_training(known: Any) -> None:
    _, world, space, _ = known
    plain = candidate_of(space)
    four = space.compressed(plain, space.compressions[1])
    drops = History([Result(0, four, world.scored(four, 0.85)), Result(1, plain, world.scored(plain, 0.9))]).drops
    assert {spell(one.compression): pytest.approx(drop) for one, drop in drops} == {
        "fp16": 0.0,
        "palette-4/tensor": 0.05,
    }


def test_what_was_found_to_break_a_limit_is_not_offered_again(known: Any) -> None:
    """Whatever was foretold of it: the last of a network's packages takes the network away."""
    plan, world, space, run = known
    rows: list[tuple[Candidate, Outcome]] = [(r.candidate, r.outcome) for r in run.results]
    acquisition, refused = Acquisition(plan, space, world, IMAGES), set[tuple[Network, str]]()
    for _ in range(6):
        chosen = acquisition.best(run_of(plan, rows), [])
        assert chosen is not None
        package = chosen.network, spell(chosen.compression)
        assert package not in refused
        refused.add(package)
        rows.append((chosen, Infeasible(("size",), {})))


def test_strict_limits_are_held_against_the_worse_end() -> None:
    class Doubtful(World):
        def static(self, network: Network, compression: Compression) -> Score:
            plain = super().static(network, compression)
            value = plain["latency_ms"].value
            return dict(plain) | {"latency_ms": Reading(value, "ms", value / 2, value * 2, "estimated")}

    def over(strict: bool) -> list[bool]:
        plan, world = plan_with(limits={"latency": "0.25 ms"}, strict=strict), Doubtful()
        space = plan.space(10)
        rows, found = both(world, space, candidate_of(space), 0.7), list[bool]()
        for _ in range(4):
            chosen = Acquisition(plan, space, world, IMAGES).best(run_of(plan, rows), [])
            if chosen is not None:
                found.append(world.static(chosen.network, chosen.compression)["latency_ms"].high > 0.25)
                rows += both(world, space, chosen, 0.8)
        return found

    assert any(over(strict=False)) and over(strict=True) and not any(over(strict=True))


def timed(
    rows: Iterable[tuple[Candidate, Outcome]], seconds: float, left: float | None, *teachers: str
) -> tuple[Plan, Run]:
    """A run whose trials took so many seconds each, and what its timeout leaves."""
    listed = list(rows)
    timeout = None if left is None else f"{len(listed) * seconds + left:.6f}s"
    plan = plan_with(search={"timeout": timeout}, distillation={"teachers": ["none", *teachers]})
    run = run_of(plan, listed)
    return plan, replace(run, results=tuple(replace(result, seconds=seconds) for result in run.results))


def test_a_training_that_cannot_end_is_not_begun_while_another_one_can(
    known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever backbone is too slow for what is left, the other one is chosen; where both are, as if both were not."""
    plan, world, space, run = known
    acquisition = Acquisition(plan, space, world, IMAGES)
    freely, names = acquisition.best(run, []), ("mobilenetv2", "squeezenet1_1")
    assert freely is not None and acquisition.in_time(run, freely)
    for slow, quick in (names, names[::-1]):
        remaining = Remaining(1.0, {slow: [1.0], quick: [1e-12]})
        monkeypatch.setattr(acquisition, "_remaining", lambda *_, now=remaining: now)
        chosen = acquisition.best(run, [])
        assert chosen is not None and chosen.network.backbone == quick
    monkeypatch.setattr(acquisition, "_remaining", lambda *_: Remaining(-1.0, {name: [1.0] for name in names}))
    assert acquisition.best(run, []) == freely


def test_an_untrained_teacher_needs_its_time_too(known: Any) -> None:
    _, world, _, plain = known
    rows = [(result.candidate, result.outcome) for result in plain.results]
    plan, run = timed(rows, 10.0, 60.0, "mobilenetv3_large")
    space = plan.space(10)
    alone, taught = candidate_of(space, teacher="none"), candidate_of(space, teacher="mobilenetv3_large")
    acquisition = Acquisition(plan, space, world, IMAGES)
    assert acquisition.in_time(run, alone) and not acquisition.in_time(run, taught)
    plan, run = timed([*rows, *both(world, space, taught, 0.8)], 10.0, 60.0, "mobilenetv3_large")
    assert Acquisition(plan, space, world, IMAGES).in_time(
        run, candidate_of(space, teacher="mobilenetv3_large", width=0.5)
    )


def test_a_new_teacher_leaves_two_thirds_of_the_time_to_those_that_learn_from_it(
    known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, world, _, plain = known
    rows = [(result.candidate, result.outcome) for result in plain.results]
    plan, run = timed(rows, 10.0, 60.0, "mobilenetv3_large")
    space = plan.space(10)
    taught = candidate_of(space, teacher="mobilenetv3_large")
    acquisition = Acquisition(plan, space, world, IMAGES)
    whole, student = (acquisition._whole(taught, count(taught.network).macs, new=new) for new in (True, False))
    least = 3 * (whole - student)
    assert whole < 0.9 * least  # so both of these times would do for the student and its teacher
    slow = {"mobilenetv3_large": [4.0]}
    for time, paces, begun in (
        (0.99 * least, {}, False), (1.01 * least, {}, True), (3.96 * least, slow, False), (4.04 * least, slow, True)
    ):  # fmt: skip
        remaining = Remaining(time, {"mobilenetv2": [1.0], **paces})
        monkeypatch.setattr(acquisition, "_remaining", lambda *_, now=remaining: now)
        assert acquisition.in_time(run, taught) is begun


@pytest.mark.parametrize(
    ("large", "small", "limits", "error"),
    [
        (0.7, 0.4, {}, 0.5),  # wrong more often than right
        (0.7, 0.6, {}, 0.4),  # the worst of the front
        (0.48, 0.4, {}, 0.6),  # nothing better is known
        (0.7, 0.4, {"accuracy": "30%"}, 0.6),  # asked for
        (0.7, 0.4, {"accuracy": "65%"}, 0.3),  # the small one breaks the limit, and is not on the front
    ],
)
def test_what_is_wrong_more_often_than_right_counts_for_nothing_once_there_is_better(
    large: float, small: float, limits: dict[str, str], error: float
) -> None:
    plan, world = plan_with(limits=limits), World()
    space = plan.space(10)
    rows = both(world, space, candidate_of(space, width=1.0), large) + both(world, space, candidate_of(space), small)
    assert Acquisition(plan, space, world, IMAGES)._box(run_of(plan, rows), ()).error == pytest.approx(error)
