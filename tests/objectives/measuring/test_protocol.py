"""When a warm-up ends, what is timed, and what happens to predictions that raise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest

from coreml_pareto.objectives.measuring.protocol import Protocol, run, statistics
from coreml_pareto.objectives.program.coreml import Clocked
from coreml_pareto.spaces.errors import UserError


def _once(times: Iterable[float | Exception]) -> Callable[[], Clocked]:
    """Predictions that take so many ms by Core ML's clock, or raise."""
    clock = iter(times)

    def once() -> Clocked:
        time = next(clock)
        if isinstance(time, Exception):
            raise time
        return Clocked(time + 1, time)

    return once


def test_a_warm_up_ends_when_three_in_a_row_agree() -> None:
    series = run(_once(itertools.chain([90, 30, 9, 3, 2.04, 2.1], itertools.repeat(2.0))), Protocol())
    assert series.stable and series.warm_up == 7
    assert [len(one) for one in series.rounds] == [50] * 20
    assert {clocked.coreml_ms for one in series.rounds for clocked in one} == {2.0}


def test_a_warm_up_takes_five_at_least() -> None:
    assert run(_once(itertools.repeat(2.0)), Protocol()).warm_up == 5


def test_what_never_settles_is_measured_and_said() -> None:
    series = run(_once(itertools.cycle([1.0, 2.0])), Protocol())
    assert not series.stable and series.warm_up == 500 and len(series.rounds) == 20


@pytest.mark.parametrize("place", [0, 3, 600])
def test_one_prediction_may_raise_and_is_repeated(place: int) -> None:
    times = itertools.chain([2.0] * place, [RuntimeError("Error computing\n NN outputs.")], itertools.repeat(2.0))
    series = run(_once(times), Protocol())
    assert series.failures == ["Error computing NN outputs."]
    assert sum(map(len, series.rounds)) == 1000


def test_more_that_raise_end_the_measurement() -> None:
    with pytest.raises(UserError, match=r"at most 1 prediction may fail.*2 failed.*\(no network\).*--compute-units"):
        run(_once(itertools.repeat(RuntimeError("(no network)"))), Protocol())


def test_an_interruption_is_no_failure() -> None:
    def once() -> Clocked:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(once, Protocol())


def test_a_cold_series_rests_before_each_prediction() -> None:
    rests: list[float] = []
    series = run(_once(itertools.repeat(2.0)), Protocol(cold=20), rests.append)
    assert rests == [2.0] * 20 and len(series.cold) == 20
    with pytest.raises(UserError, match="at least 20 predictions; got 3"):
        Protocol(cold=3)


@pytest.mark.parametrize("changes", [{"rounds": 19}, {"predictions": 49}])
def test_fewer_rounds_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(UserError, match="at least 20 rounds of 50"):
        Protocol(**changes)


def test_statistics_have_percentiles_and_a_trimmed_mean() -> None:
    assert statistics([*range(1, 100), 1e6]) == {
        "median_ms": 50.5, "p10_ms": pytest.approx(10.9), "p90_ms": pytest.approx(90.1), "trimmed_mean_ms": 50.5,
    }  # fmt: skip
