"""What the record knows of the test split: readings, and how often it was read."""

from __future__ import annotations

from typing import Any

import pytest

from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.tested import LOOKS, TOP1, Look, counted, fact_of, looked, looks, test_readings, told

READING = Reading(0.9, "share", 0.8, 0.95, "measured", {"split": "test"})
test_readings.__test__ = False  # type: ignore[attr-defined]  # a function of ours, which pytest takes for a test


def test_readings_of_now_and_before_are_found() -> None:
    facts = {TOP1: {"3": READING.to_dict()}, fact_of(12): READING.to_dict(), "seconds": 1.0}
    assert test_readings(facts) == {3: READING, 12: READING} and test_readings({}) == {}


def test_a_reading_is_kept_with_its_time_and_trials_and_a_kill_makes_no_second_one() -> None:
    facts: dict[str, Any] = {}
    for trials in (4, 4, 9):
        facts[LOOKS] = looked(facts, trials)
    assert [look.trials for look in looks(facts)] == [4, 9]
    assert all(look.when is not None and look.when.endswith("+00:00") for look in looks(facts))


def test_a_run_of_an_older_version_was_read_once() -> None:
    assert looks({TOP1: {"3": READING.to_dict()}}) == (Look(None, None),) and looks({TOP1: {}}) == ()
    facts = {TOP1: {"3": READING.to_dict()}, LOOKS: looked({}, 20)}
    assert [look.trials for look in looks(facts)] == [None, 20]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ((), ""),
        ((Look("t", 45),), ""),
        ((Look(None, None),), ""),
        ((Look("t", 30),), "Test was read once, first after 30 of 45 trials"),
        ((Look("t", 30), Look("t", 45)), "Test was read 2 times, first after 30 of 45 trials"),
        ((Look(None, None), Look("t", 45)), "Test was read 2 times, first by an older version"),
    ],
)
def test_it_is_told_where_something_was_searched_since(seen: tuple[Look, ...], said: str) -> None:
    assert told(seen, 45).startswith(said) and bool(told(seen, 45)) == bool(said)
    assert (counted(1), counted(3)) == ("once", "3 times")
