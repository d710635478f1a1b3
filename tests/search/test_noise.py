"""Shares of drawn fronts: closed forms, brute force, and what must hold of any run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, norm

from coreml_pareto.objectives.accuracy import RIGHT, right_of, spell_right
from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.errors import Subject, errors
from coreml_pareto.objectives.latency_terms import SCATTER
from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.search import noise
from coreml_pareto.search.noise import shares
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result, Run

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
Make = Callable[..., Any]


def given_images(result: Result, right: NDArray[np.bool_]) -> Result:
    """A package with these right images."""
    assert isinstance(result.outcome, Scored)
    conditions = {"images": str(len(right)), RIGHT: spell_right(right)}
    value = float(right.mean())
    top1 = Reading(value, "share", max(0.0, value - 0.05), min(1.0, value + 0.05), "measured", conditions)
    return replace(result, outcome=replace(result.outcome, score={**result.score, "top1": top1}))


def sized(result: Result, **changes: Reading) -> Result:
    assert isinstance(result.outcome, Scored)
    return replace(result, outcome=replace(result.outcome, score={**result.score, **changes}))


def larger_wins(only_large: int, only_small: int, images: int) -> float:
    """The chance that more of the images that only the larger one has right are drawn than of the other's."""
    differing = only_large + only_small
    drawn = np.arange(images + 1)
    wins = binom.sf(drawn // 2, drawn, only_large / differing)
    return float((binom.pmf(drawn, images, differing / images) * wins).sum())


@pytest.mark.parametrize(("only_large", "only_small"), [(8, 4), (30, 20), (3, 3), (5, 0)])
def test_two_packages_by_the_binomial(result_at: Make, run_of: Make, only_large: int, only_small: int) -> None:
    """The smaller one is on every front; the larger one where it is better on the same drawn images."""
    small, large = np.ones(200, bool), np.ones(200, bool)
    small[:only_large], large[only_large : only_large + only_small] = False, False
    run = run_of((
        given_images(result_at(0, (0.9, 1, 1e5, 1e6, 1)), small), given_images(result_at(1, (0.9, 1, 2e5, 1e6, 1)), large),
    ))  # fmt: skip
    found = shares(run, ["accuracy", "size"])
    expected = larger_wins(only_large, only_small, 200)
    assert found[0] == 1.0
    assert found[1] == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / noise.DRAWS))


def test_what_all_get_right_or_wrong_decides_nothing(result_at: Make, run_of: Make) -> None:
    """Pairing: alone, the two accuracies overlap widely; on the same images one is never worse."""
    hard = np.random.default_rng(0).random(300) < 0.5
    better = hard.copy()
    better[np.flatnonzero(~hard)[:40]] = True
    run = run_of((
        given_images(result_at(0, (0.5, 1, 1e5, 1e6, 1)), hard), given_images(result_at(1, (0.5, 1, 2e5, 1e6, 1)), better),
    ))  # fmt: skip
    assert shares(run, ["accuracy", "size"]) == {0: 1.0, 1: 1.0}


@pytest.mark.parametrize("bound", [0.85, 0.9, 0.93])
def test_a_limit_on_accuracy_by_the_binomial(result_at: Make, run_of: Make, bound: float) -> None:
    right = np.arange(200) < 180
    run = run_of((given_images(result_at(0, (0.9, 1, 1e5, 1e6, 1)), right),))
    expected = float(binom.sf(math.ceil(round(bound * 200, 6)) - 1, 200, 0.9))
    assert shares(run, limits={"accuracy": bound})[0] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("bound", [0.8, 1.0, 1.3])
def test_a_limit_on_an_estimate_by_the_normal(result_at: Make, run_of: Make, bound: float, strict: bool) -> None:
    """Its scatter alone is drawn; `strict` moves the interval's worse end as the value."""
    run = run_of((given_images(result_at(0, (0.9, 1.0, 1e5, 1e6, 1)), np.ones(50, bool)),))
    tested = run.results[0].score["latency_ms"].high if strict else 1.0
    expected = norm.cdf(math.log(bound / tested) / SCATTER)
    assert shares(run, limits={"latency": bound}, strict=strict)[0] == pytest.approx(expected, abs=0.05)
    assert shares(replace(run, strict=strict), limits={"latency": bound}) == shares(
        run, limits={"latency": bound}, strict=strict
    )


def test_an_exact_limit_is_kept_or_broken_in_every_draw(draw_run: Make, with_images: Make) -> None:
    run = with_images(draw_run(12))
    sizes = {result.trial: result.score["size_bytes"].value for result in run.scored()}
    bound = float(np.median(list(sizes.values())))
    found = shares(run, limits={"size": bound}, draws=50)
    assert all(found[trial] == 0 for trial, size in sizes.items() if size > bound) and any(found.values())


def by_hand(
    run: Run, names: tuple[str, ...], limits: Mapping[str, float], strict: bool, draws: int
) -> dict[int, float]:
    """The same by loops, value by value, with dominance by its definition."""
    results = run.scored()
    picks = np.random.default_rng(noise.SEED).integers(270, size=(100, 270))
    moved = {}
    for name in OBJECTIVES:
        row = OBJECTIVES[name]
        having = [r for r in results if row.reading in r.score]
        subjects = [Subject(r.candidate.network.digest, r.candidate.digest) for r in having]
        found = errors(name, [r.score[row.reading] for r in having], subjects, run.target, draws) if having else None
        for place, result in enumerate(having):
            moved[name, result.trial] = (
                (found.between[:, place], found.own[:, place]) if found else (np.zeros(draws),) * 2
            )
    counts = dict.fromkeys((result.trial for result in results), 0)
    for draw in range(draws):
        points = {}
        for result in results:
            point, keeps = [], True
            for name, row in OBJECTIVES.items():
                reading = result.score.get(row.reading)
                if reading is None:
                    value, tested = (-math.inf if name == "accuracy" else math.inf), None
                elif name == "accuracy":
                    right = right_of(reading)
                    assert right is not None
                    value = sum(bool(right[image]) for image in picks[draw]) / 270
                    tested = value - (reading.value - reading.low if strict else 0)
                else:
                    between, own = moved[name, result.trial]
                    value = reading.value * math.exp(between[draw])
                    tested = (reading.high if strict else reading.value) * math.exp(own[draw])
                if name in limits:
                    keeps &= tested is not None and (
                        tested >= limits[name] if name == "accuracy" else tested <= limits[name]
                    )
                if name in names:
                    point.append(-value if name == "accuracy" else value)
            if keeps:
                points[result.trial] = point
        for trial, mine in points.items():
            others = [other for other in points.values() if other != mine]
            counts[trial] += not any(all(a <= b for a, b in zip(other, mine, strict=True)) for other in others)
    return {trial: count / draws for trial, count in counts.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("names", "limits", "strict"),
    [
        (tuple(OBJECTIVES), {}, False),
        (("accuracy", "latency"), {"size": 2e6, "accuracy": 0.85}, False),
        (("latency", "memory", "energy"), {"latency": 0.4, "memory": 3e6, "energy": 1.0, "accuracy": 0.6}, True),
    ],
)
def test_by_brute_force(
    draw_run: Make, with_images: Make, seed: int, names: tuple[str, ...], limits: dict[str, float], strict: bool
) -> None:
    run = with_images(draw_run(9, seed), seed)
    lacking = replace(run.results[2], outcome=replace(run.results[2].outcome, score={
        name: reading for name, reading in run.results[2].score.items() if name != "energy_mj"
    }))  # fmt: skip
    run = replace(run, results=(*run.results[:2], lacking, *run.results[3:]))
    expected = by_hand(run, names, limits, strict, 40)
    assert any(0 < share < 1 for share in expected.values())
    assert shares(run, names, limits, strict, draws=40) == pytest.approx(expected)


@given(seed=st.integers(0, 1000), count=st.integers(1, 12))
@quick
def test_somebody_is_on_every_front(draw_run: Make, with_images: Make, seed: int, count: int) -> None:
    found = shares(with_images(draw_run(count, seed), seed), draws=30)
    assert len(found) == count and all(0 <= share <= 1 for share in found.values())
    assert sum(found.values()) >= 1 - 1e-9


@given(seed=st.integers(0, 1000), order=st.permutations(range(8)))
@quick
def test_the_order_of_trials_changes_nothing(draw_run: Make, with_images: Make, seed: int, order: list[int]) -> None:
    run = with_images(draw_run(8, seed), seed)
    renamed = [replace(result, trial=order[place]) for place, result in enumerate(run.scored())]
    found, again = shares(run, draws=30), shares(replace(run, results=tuple(renamed[::-1])), draws=30)
    assert {order[trial]: share for trial, share in found.items()} == again


@given(seed=st.integers(0, 1000))
@quick
def test_who_is_far_behind_has_no_share_and_changes_nobodys_and_who_stands_alone_has_all(
    draw_run: Make, with_images: Make, result_at: Make, seed: int
) -> None:
    run = with_images(draw_run(8, seed), seed)
    behind = given_images(result_at(30, (0.05, 50.0, 1e9, 1e10, 1e4)), np.arange(270) < 10)
    alone = given_images(result_at(31, (0.99, 1e-4, 1e2, 1e2, 1e-5)), np.arange(270) < 269)
    found = shares(run, draws=30)
    assert shares(replace(run, results=(*run.results, behind)), draws=30) == found | {30: 0.0}
    small = replace(run, results=(*run.results, alone))
    assert shares(small, draws=30)[31] == 1.0


def test_a_candidate_tried_twice_is_one_package(draw_run: Make, with_images: Make) -> None:
    run = with_images(draw_run(5))
    twice = replace(run.results[0], trial=9)
    assert shares(replace(run, results=(*run.results, twice)), draws=30) == shares(run, draws=30)


def test_equal_packages_share_every_front(result_at: Make, run_of: Make) -> None:
    right = np.random.default_rng(0).random(100) < 0.8
    one, other = (given_images(result_at(n, (0.8, 1, 1e5, 1e6, 1)), right) for n in (0, 1))
    same = replace(other, candidate=other.candidate.model_copy(update={"network": one.candidate.network}))
    found = shares(run_of((one, same)), ["accuracy", "latency", "size"], draws=50)
    assert found == {0: 1.0, 1: 1.0}


def test_without_the_images_of_every_package_there_are_no_shares(draw_run: Make, with_images: Make) -> None:
    before, now = draw_run(3), with_images(draw_run(3))
    assert shares(before) == {} and shares(draw_run(0)) == {}
    assert shares(replace(now, results=(*now.results[:2], before.results[2]))) == {}
    assert set(shares(before, ["size", "latency"], draws=20)) == {0, 1, 2}  # images have no say in it
    assert shares(before, ["size", "latency"], limits={"accuracy": 0.5}, draws=20) == {}


def test_other_numbers_of_images_are_not_compared(result_at: Make, run_of: Make) -> None:
    results = (given_images(result_at(n, (0.9, 1, 1e5, 1e6, 1)), np.ones(10 + n, bool)) for n in (0, 1))
    assert shares(run_of(tuple(results))) == {}


def test_top1_is_drawn_as_whole_images_however_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    right = [rng.random(333) < share for share in (0.2, 0.9, 0.95)]
    drawn = noise.top1(right, 250)
    assert (drawn * 333 == pytest.approx(np.round(drawn * 333))) and drawn.shape == (250, 3)
    assert drawn.mean(axis=0) == pytest.approx([r.mean() for r in right], abs=0.01)
    expected = [math.sqrt(r.mean() * (1 - r.mean()) / 333) for r in right]
    assert drawn.std(axis=0) == pytest.approx(expected, rel=0.15)
    monkeypatch.setattr(noise, "_AT_ONCE", (100, 1))
    assert (noise.top1(right, 250) == drawn).all() and (noise.top1(right, 70) == drawn[:70]).all()


def test_sizes_do_not_move(draw_run: Make) -> None:
    run = draw_run(6)
    least = min(run.scored(), key=lambda result: result.score["size_bytes"].value)
    found = shares(run, ["size"], draws=20)
    assert found == {result.trial: float(result is least) for result in run.scored()}
    heavier = tuple(sized(result, size_bytes=exact(1e6 + result.trial, "B")) for result in run.scored())
    assert shares(replace(run, results=heavier), ["size"], draws=20)[0] == 1.0
