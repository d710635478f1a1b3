"""The front, the recommendation, and what has to give way when nothing fits."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coreml_pareto.objectives.catalogue import OBJECTIVES, select
from coreml_pareto.objectives.energy_ratio import TERMS, Terms, ratio
from coreml_pareto.objectives.reading import Reading, exact, losses
from coreml_pareto.search.choose import Recommendation, front, recommend
from coreml_pareto.search.outcome import Failed, Infeasible, Pruned, Scored
from coreml_pareto.search.relaxation import NothingFits, excess, fits
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.errors import UserError

PRIORITIES = ("balanced", *OBJECTIVES)
LACKING = tuple(row.reading for row in OBJECTIVES.values())
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def dominated(result: Result, others: tuple[Result, ...], names: tuple[str, ...]) -> bool:
    """By brute force."""
    mine = losses(result.score, select(names))
    theirs = [losses(other.score, select(names)) for other in others]
    return any(all(a <= b for a, b in zip(t, mine, strict=True)) and t != mine for t in theirs)


def not_told_from_the_lowest(results: list[Result]) -> list[Result]:
    """By the definition: the ratio to the lowest energy does not exclude 1."""
    lowest = min(results, key=lambda r: r.score["energy_mj"].value)
    ratios = [
        ratio(
            r.score["energy_mj"],
            lowest.score["energy_mj"],
            same_network=r.candidate.network == lowest.candidate.network,
        )
        for r in results
    ]
    return [r for r, found in zip(results, ratios, strict=True) if r is lowest or found.low <= 1 <= found.high]


points = st.tuples(
    st.integers(0, 20).map(lambda k: k / 20),
    st.integers(1, 20).map(float),
    st.integers(1, 20).map(lambda k: k * 1e5),
    st.integers(1, 20).map(lambda k: k * 1e5),
    st.integers(1, 20).map(lambda k: k / 8),
)
bounds = st.fixed_dictionaries(
    {},
    optional={
        "accuracy": st.integers(1, 20).map(lambda k: k / 20),
        "latency": st.integers(1, 20).map(float),
        "size": st.integers(1, 20).map(lambda k: k * 1e5),
        "memory": st.integers(1, 20).map(lambda k: k * 1e5),
        "energy": st.integers(1, 20).map(lambda k: k / 8),
    },
)
lacks = st.sets(st.sampled_from(LACKING), max_size=1).map(tuple)
tables = st.lists(st.tuples(points, lacks), min_size=1, max_size=10)


@pytest.fixture
def make(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> Callable[..., Run]:
    """A run from a table of points."""

    def run(table: list[tuple[tuple[float, ...], tuple[str, ...]]]) -> Run:
        return run_of(tuple(result_at(i, point, lacking) for i, (point, lacking) in enumerate(table)))

    return run


@given(table=tables, limits=bounds, strict=st.booleans(), names=st.sets(st.sampled_from(tuple(OBJECTIVES)), min_size=1))
@quick
def test_front_by_brute_force(
    make: Callable[..., Run], table: list[object], limits: dict[str, float], strict: bool, names: set[str]
) -> None:
    run, axes = make(table), tuple(sorted(names))
    inside = tuple(r for r in run.scored() if fits(r, limits, strict=strict))
    expected = [r.trial for r in inside if not dominated(r, inside, axes)]
    assert [r.trial for r in front(run, axes, limits, strict)] == expected


@given(table=tables, limits=bounds, strict=st.booleans(), priority=st.sampled_from(PRIORITIES))
@quick
def test_recommended_packages_are_feasible_and_undominated(
    make: Callable[..., Run], table: list[object], limits: dict[str, float], strict: bool, priority: str
) -> None:
    run = make(table)
    answer = recommend(run, limits, priority, strict)
    inside = tuple(r for r in run.scored() if fits(r, limits, strict=strict))
    if isinstance(answer, NothingFits):
        assert not inside
        return
    shown = [answer.chosen, *(other.result for other in answer.runners_up)]
    assert len({r.trial for r in shown}) == len(shown) <= 3
    for result in shown:
        assert result in inside
        assert not dominated(result, inside, tuple(OBJECTIVES))
    complete = [r for r in answer.front if all(row.reading in r.score for row in OBJECTIVES.values())]
    if priority == "energy" and complete:
        alike = not_told_from_the_lowest(complete)
        assert answer.chosen in alike
        assert answer.chosen.score["latency_ms"].value == min(r.score["latency_ms"].value for r in alike)
    elif priority != "balanced" and complete:
        row = [OBJECTIVES[priority]]
        assert losses(answer.chosen.score, row) == min(losses(r.score, row) for r in complete)


@given(table=tables, limits=bounds, strict=st.booleans())
@quick
def test_the_smallest_relaxation_admits_and_a_smaller_one_does_not(
    make: Callable[..., Run], table: list[object], limits: dict[str, float], strict: bool
) -> None:
    run = make(table)
    answer = recommend(run, limits, strict=strict)
    if isinstance(answer, Recommendation):
        return
    assert set(answer.nearest) == set(limits)
    for relaxation in answer.relaxations:
        changed = {**limits, **relaxation.limits}
        assert isinstance(recommend(run, changed, strict=strict), Recommendation)
        assert fits(relaxation.admits, changed, strict=strict)
        for name, bound in relaxation.limits.items():
            back = max(math.nextafter(bound, limits[name]), sys.float_info.min)  # torch may flush what is smaller
            assert isinstance(recommend(run, {**changed, name: back}, strict=strict), NothingFits)
    alone = {name for relaxation in answer.relaxations for name in relaxation.limits if len(relaxation.limits) == 1}
    for name in limits:  # every limit that suffices alone is there
        others = {other: bound for other, bound in limits.items() if other != name}
        row = OBJECTIVES[name].reading
        suffices = any(fits(r, others, strict=strict) and row in r.score for r in run.scored())
        assert (name in alone) == suffices
    if not alone and answer.relaxations:
        (joint,) = answer.relaxations
        for result in run.scored():
            over = {name: excess(result, name, limits[name], strict=strict) / limits[name] for name in limits}
            assert joint.relative <= math.fsum(share for share in over.values() if share > 0) + 1e-12


@given(table=tables, limits=bounds)
@quick
def test_the_nearest_package_per_limit(make: Callable[..., Run], table: list[object], limits: dict[str, float]) -> None:
    run = make(table)
    answer = recommend(run, limits)
    if isinstance(answer, Recommendation):
        return
    for name, nearest in answer.nearest.items():
        others = {other: bound for other, bound in limits.items() if other != name}
        pool = [r for r in run.scored() if fits(r, others)] or list(run.scored())
        away = [max(0.0, excess(r, name, limits[name])) for r in pool]
        assert nearest in pool
        assert max(0.0, excess(nearest, name, limits[name])) == min(away)


def test_balanced_is_the_augmented_chebyshev_distance(make: Callable[..., Run]) -> None:
    table = [((0.9, 1.0, 1e5, 1e6, 1.0), ()), ((0.95, 2.0, 1e6, 1e6, 1.0), ()), ((0.99, 16.0, 1e7, 1e6, 1.0), ())]
    run = make(table)
    # By hand: top-1 linear over [0.90, 0.99], latency in log over [1, 16], size in log over [1e5, 1e7].
    gaps = np.array([[1, 0, 0], [0.04 / 0.09, np.log(2) / np.log(16), 0.5], [0, 1, 1]])
    distance = gaps.max(axis=1) + 1e-3 * gaps.sum(axis=1)
    answer = recommend(run)
    assert isinstance(answer, Recommendation)
    order = [answer.chosen.trial, *(other.result.trial for other in answer.runners_up)]
    assert order == list(np.argsort(distance)) == [1, 0, 2]


def test_one_package(make: Callable[..., Run]) -> None:
    answer = recommend(make([((0.9, 1.0, 1e6, 1e6, 1.0), ())]))
    assert isinstance(answer, Recommendation)
    assert answer.runners_up == ()
    assert (
        answer.reason == "The only package on the front: 90.0 % top-1, ~1.00 ms, 1.00 MB, ~1.00 MB memory and ~1.00 mJ."
    )


def test_all_equal(make: Callable[..., Run]) -> None:
    answer = recommend(make([((0.9, 1.0, 1e6, 1e6, 1.0), ())] * 4))
    assert isinstance(answer, Recommendation)
    assert answer.chosen.trial == 0 and "All 4 packages on the front are equal" in answer.reason
    assert [other.sentence for other in answer.runners_up] == ["the same on every objective"] * 2


def test_a_reading_that_nobody_has(make: Callable[..., Run]) -> None:
    run = make([((0.9, 1.0, 1e6, 1e6, 1.0), ("energy_mj",)), ((0.8, 1.0, 1e5, 1e6, 1.0), ("energy_mj",))])
    for priority in PRIORITIES:
        answer = recommend(run, priority=priority)
        assert isinstance(answer, Recommendation) and "mJ" not in answer.reason


def test_an_unknown_reading_keeps_no_limit(make: Callable[..., Run]) -> None:
    answer = recommend(make([((0.9, 1.0, 1e6, 1e6, 1.0), ("energy_mj",))]), {"energy": 1.0})
    assert isinstance(answer, NothingFits)
    assert answer.relaxations == () and answer.nearest["energy"].trial == 0


def test_a_candidate_tried_twice_is_one_package(make: Callable[..., Run]) -> None:
    run = make([((0.9, 1.0, 1e6, 1e6, 1.0), ())])
    twice = replace(run, results=(*run.results, replace(run.results[0], trial=7)))
    assert [r.trial for r in front(twice)] == [0]


def test_what_another_package_costs_and_gains(make: Callable[..., Run]) -> None:
    answer = recommend(make([((0.95, 1.0, 1e6, 1e6, 1.0), ()), ((0.5, 1.5, 2e5, 5e5, 1.0), ())]), priority="accuracy")
    assert isinstance(answer, Recommendation)
    assert answer.runners_up[0].sentence == (
        "gains 0.800 MB, 0.500 MB of memory; costs 45.0 points of top-1, 0.500 ms; "
        "intervals overlap, not distinguishable in latency and memory"
    )
    assert answer.reason.startswith("The highest top-1 among 2 packages on the front: 95.0 % top-1, 45.0 points")


def with_terms(result: Result, terms: Terms) -> Result:
    """The same package with an energy that carries its terms, as the estimator writes it."""
    assert isinstance(result.outcome, Scored)
    value = terms.millijoules
    conditions = {"device": "iPhone 15 Pro", "unit": "Neural Engine", TERMS: terms.text}
    energy = Reading(value, "mJ", value / 4, value * 4, "estimated", conditions)
    return replace(result, outcome=replace(result.outcome, score={**result.score, "energy_mj": energy}))


def energies(make: Callable[..., Run], *rows: tuple[float, float, Terms]) -> Recommendation:
    """What `--priority energy` recommends among packages of (top-1, ms, terms)."""
    run = make([((top1, ms, 1e6, 1e6, 1.0), ()) for top1, ms, _ in rows])
    results = (with_terms(r, terms) for r, (_, _, terms) in zip(run.results, rows, strict=True))
    answer = recommend(replace(run, results=tuple(results)), priority="energy")
    assert isinstance(answer, Recommendation)
    return answer


def test_energy_decides_where_the_ratio_tells_them_apart(make: Callable[..., Run]) -> None:
    little, much = Terms(0.09, 0.01, 0, 0, 0.01), Terms(0.09, 0.5, 0, 0, 0.5)
    answer = energies(make, (0.8, 2.0, little), (0.9, 1.0, much))
    assert answer.chosen.trial == 0
    assert answer.reason.startswith(
        "The lowest energy among 2 packages on the front: ~0.110 mJ; trial 1 takes 9.91 times as much ("
    )
    # The intervals of the energies themselves, 0.028 to 0.44 and 0.27 to 4.4 mJ, overlap.
    assert answer.runners_up[0].sentence.endswith("not distinguishable in latency")


def test_latency_decides_where_energy_does_not_and_the_reason_says_so(make: Callable[..., Run]) -> None:
    one, other, much = Terms(0.09, 0.05, 0, 0, 0.01), Terms(0.09, 0.01, 0, 0, 0.055), Terms(0.09, 0.5, 0, 0, 0.5)
    answer = energies(make, (0.8, 2.0, one), (0.9, 1.0, other), (0.95, 0.5, much))
    assert answer.chosen.trial == 1 and answer.chosen.score["energy_mj"].value > one.millijoules
    assert answer.reason.startswith(
        "Decided by latency: ~1.00 ms, the lowest of 2 packages that energy does not tell apart (~0.155 mJ, "
        "1.03 times the lowest (80 %: 0."
    )
    assert [other.result.trial for other in answer.runners_up] == [0, 2]
    assert "not distinguishable in latency and energy" in answer.runners_up[0].sentence


def test_without_latency_the_balance_decides_among_like_energies(make: Callable[..., Run]) -> None:
    run = make([((0.9, 1.0, 1e6, 1e6, 1.0), ("latency_ms",)), ((0.8, 1.0, 1e5, 1e6, 1.1), ("latency_ms",))])
    answer = recommend(run, priority="energy")
    assert isinstance(answer, Recommendation) and answer.chosen.trial == 0
    assert answer.reason == (
        "Energy (~1.00 mJ) does not tell it from 1 other; the balance on the other objectives decides."
    )


def test_a_priority_outside_the_study(make: Callable[..., Run]) -> None:
    run = replace(
        make([((0.9, 1.0, 1e6, 1e6, 1.0), ()), ((0.8, 0.5, 2e6, 1e6, 1.0), ())]),
        objectives=select(["accuracy", "size"]),
    )
    assert [r.trial for r in front(run)] == [0]
    answer = recommend(run, priority="latency")
    assert isinstance(answer, Recommendation) and answer.chosen.trial == 1


def test_the_runs_own_limits_hold_unless_others_are_given(draw_run: Callable[..., Run]) -> None:
    run = draw_run(30, limits={"size": 5e5})
    assert all(r.score["size_bytes"].value <= 5e5 for r in front(run))
    assert any(r.score["size_bytes"].value > 5e5 for r in front(run, limits={}))


def test_refusals(draw_run: Callable[..., Run]) -> None:
    with pytest.raises(UserError, match="priority"):
        recommend(draw_run(2), priority="speed")
    with pytest.raises(UserError, match="at least one finished trial"):
        recommend(replace(draw_run(0), results=()))
    with pytest.raises(UserError, match="objectives are named"):
        front(draw_run(2), ["speed"])
    assert front(draw_run(0)) == ()


def untrained(result: Result, **changes: float) -> Result:
    """The same candidate, given up before its training with these readings."""
    return replace(result, outcome=Infeasible(("size",), {name: exact(value, "1") for name, value in changes.items()}))


def test_without_packages_the_candidates_that_were_not_trained_are_weighed(draw_run: Callable[..., Run]) -> None:
    drawn = draw_run(4)
    results = (
        untrained(drawn.results[0], size_bytes=3e6, latency_ms=0.5),
        untrained(drawn.results[1], size_bytes=2e6, latency_ms=4.0),
        replace(drawn.results[2], outcome=Failed("training", "loss is nan")),
        replace(drawn.results[3], outcome=Pruned("too slow", {"size_bytes": exact(9e6, "B")})),
    )
    answer = recommend(replace(drawn, results=results), {"size": 1e6, "latency": 1.0, "accuracy": 0.9})
    assert isinstance(answer, NothingFits)
    assert answer.limits == {"size": 1e6, "latency": 1.0, "accuracy": 0.9}
    # Top-1 is known of none; trial 0 alone breaks one limit only, trial 3's latency is not known.
    assert {name: result.trial for name, result in answer.nearest.items()} == {"size": 0, "latency": 0}
    (relaxation,) = answer.relaxations
    assert (relaxation.limits, relaxation.admits.trial, relaxation.relative) == ({"size": 3e6}, 0, 2.0)


def test_packages_go_before_candidates_that_were_not_trained(draw_run: Callable[..., Run]) -> None:
    run = draw_run(3)
    smaller = untrained(run.results[3], size_bytes=10.0)
    answer = recommend(replace(run, results=(*run.scored(), smaller)), {"size": 1.0})
    assert isinstance(answer, NothingFits)
    assert answer.nearest["size"].trial != smaller.trial != answer.relaxations[0].admits.trial


def test_an_untrained_candidate_within_other_limits_needs_no_relaxation(draw_run: Callable[..., Run]) -> None:
    run = draw_run(2)
    results = (untrained(run.results[0], size_bytes=3e6), untrained(run.results[1], size_bytes=7e6))
    answer = recommend(replace(run, results=results), {"size": 5e6})
    assert isinstance(answer, NothingFits)
    (relaxation,) = answer.relaxations
    assert (relaxation.limits, relaxation.admits.trial) == ({}, 0)


def test_failures_alone_have_nothing_to_offer(draw_run: Callable[..., Run]) -> None:
    run = draw_run(0)
    answer = recommend(replace(run, results=run.results[1:]), {"size": 1e6})
    assert answer == NothingFits({"size": 1e6}, {}, (), False)
