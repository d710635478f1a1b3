"""Counts, front and hypervolume, result by result, against the whole at once and against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coreml_pareto.objectives.catalogue import OBJECTIVES, select
from coreml_pareto.search.choose import front
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.standing import ABOVE, BELOW, Standing, Volume

ResultAt = Callable[..., Result]


def test_one_package_dominates_a_cuboid_of_known_size(result_at: ResultAt) -> None:
    first = result_at(0, (0.75, 1.0, 1e6, 1e6, 1.0))
    box = Volume.of(select(["accuracy", "size"]), first.score)
    side = math.log(ABOVE) / math.log(ABOVE * BELOW)
    assert box.share([first.score]) == pytest.approx(0.75 * side)
    half = result_at(1, (0.5, 1.0, 1e5, 1e6, 1.0))
    smaller = math.log(ABOVE * 10) / math.log(ABOVE * BELOW)
    assert box.share([first.score, half.score]) == pytest.approx(0.75 * side + 0.5 * (smaller - side))
    assert box.share([result_at(2, (1.0, 1.0, 1.0, 1e6, 1.0)).score]) == pytest.approx(1)  # below the box: on its edge
    assert box.share([result_at(3, (1.0, 1.0, 1e7, 1e6, 1.0)).score]) == 0
    assert box.share([]) == 0


def test_an_axis_that_the_first_package_has_no_reading_for_is_left_out(result_at: ResultAt) -> None:
    lacking = result_at(0, (0.75, 1.0, 1e6, 1e6, 1.0), lacking=("energy_mj",))
    box = Volume.of(OBJECTIVES.values(), lacking.score)
    assert set(box.first) == {"top1", "latency_ms", "size_bytes", "memory_bytes"} and box.share([lacking.score]) > 0


POINT = st.tuples(
    st.floats(0.1, 1), st.floats(0.01, 100), st.floats(1e3, 1e8), st.floats(1e4, 1e8), st.floats(0.01, 10)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # a plain function
@given(points=st.lists(POINT, min_size=1, max_size=12), cut=st.integers(0, 12))
def test_fed_one_by_one_or_resumed_it_ends_with_the_front_of_the_whole_and_never_falls(
    result_at: ResultAt, run_of: Callable[..., Run], points: list[tuple[float, ...]], cut: int
) -> None:
    results = tuple(result_at(number, point) for number, point in enumerate(points))
    limits = {"size": 1e7}
    standing = Standing(run_of((), limits))
    volumes = [standing.hypervolume]
    for result in results:
        before = [kept.trial for kept in standing.front]
        changed = standing.add(result)
        assert changed == (before != [kept.trial for kept in standing.front])
        volumes.append(standing.hypervolume)
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(volumes))
    whole = run_of(results, limits)
    assert tuple(standing.front) == front(whole)
    first = standing.volume.first if standing.volume else None
    resumed = Standing(run_of(results[:cut], limits), first)
    for result in results[cut:]:
        resumed.add(result)
    assert resumed.front == standing.front and resumed.hypervolume == pytest.approx(standing.hypervolume)


def test_trainings_are_counted_as_the_run_counts_them(draw_run: Callable[..., Run]) -> None:
    run = draw_run(5)
    recipe = run.results[0].candidate.recipe.model_copy(update={"seed": 9})
    again = replace(run.results[1], candidate=run.results[1].candidate.model_copy(update={"recipe": recipe}))
    whole = replace(run, results=(*run.results, again))
    fed = Standing(replace(run, results=run.results[:2]))
    for result in whole.results[2:]:
        fed.add(result)
    assert fed.trainings == Standing(whole).trainings == whole.trainings == run.trainings + 1
    assert Standing(draw_run(0)).trainings == 0


def test_outcomes_are_counted(draw_run: Callable[..., Run]) -> None:
    run = draw_run(5)
    assert Standing(run).counts == {"scored": 5, "infeasible": 1, "failed": 1}
    fed = Standing(draw_run(0))
    for result in run.scored():
        fed.add(result)
    assert fed.counts == {"scored": 5, "infeasible": 1, "failed": 1}
