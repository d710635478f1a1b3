"""The sparkline and the sentences of a run that is not over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.search.report.progress import BARS, State, sparkline, summary, time_left, trials, volume


def test_bars_keep_their_height_until_the_quantity_changes() -> None:
    assert sparkline([(2.0, 0.5), (6.0, 1.0)], until=8.0, columns=8) == " ▅▅▅▅███"
    assert sparkline([(0.0, 0.0)], until=1.0, columns=3) == "▁▁▁"
    assert sparkline([], until=1.0, columns=3) == "   "


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 40))
def test_a_quantity_that_never_falls_has_bars_that_never_fall_and_end_at_the_top(
    values: list[float], columns: int
) -> None:
    line = sparkline(list(enumerate(sorted(values))), until=len(values) - 1, columns=columns)
    heights = [BARS.index(bar) for bar in line if bar != " "]
    assert len(line) == columns and heights == sorted(heights)
    assert heights[-1] == (len(BARS) - 1 if max(values) > 0 else 0)


@pytest.mark.parametrize(
    ("counted", "trials", "timeout", "left"),
    [(5, None, None, None), (5, 10, None, 100), (5, 10, 160.0, 60), (5, 10, 900.0, 100), (0, 10, None, None), (12, 10, None, 0)],
)  # fmt: skip
def test_what_comes_first_ends_a_run(
    counted: int, trials: int | None, timeout: float | None, left: float | None
) -> None:
    assert time_left(100.0, counted, trials, timeout) == left


def test_a_run_without_a_package_says_little() -> None:
    assert summary(State()) == "none yet; 0 s" and volume(State()) == ""


@pytest.mark.parametrize(
    ("counts", "trainings", "told"),
    [
        ({"scored": 56, "pruned": 4}, 17, "56 scored from 17 trainings, 4 pruned (56 of 90)"),
        ({"failed": 1, "scored": 1}, 1, "1 failed, 1 scored from 1 training (56 of 90)"),
        ({"scored": 56}, None, "56 scored (56 of 90)"),
        ({"failed": 2}, 0, "2 failed (56 of 90)"),
    ],
)
def test_trainings_stand_beside_the_packages(counts: dict[str, int], trainings: int | None, told: str) -> None:
    assert trials(State(counts, 56, 90, trainings=trainings)) == told
