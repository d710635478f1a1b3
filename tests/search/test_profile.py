"""Sums by stage against a second count, second by second."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.search.profile import covered, profile


def _event(session: str, clock: float, event: str, **facts: object) -> dict[str, Any]:
    return {"session": session, "clock": clock, "event": event, **facts}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: (min(pair), max(pair)))))
def test_covered_is_the_number_of_seconds_in_any_interval(spans: list[tuple[int, int]]) -> None:
    assert covered(spans) == sum(any(begun <= second < end for begun, end in spans) for second in range(41))


def test_two_sessions_the_first_killed_in_a_training() -> None:
    found = profile(
        [
            _event("a", 4, "started", seconds=3.0),
            _event("a", 5, "asked", trial=0, seconds=1.0),
            _event("a", 5, "stage_begun", trial=0, stage="training"),
            _event("a", 15, "stage_ended", trial=0, stage="training", seconds=10.0),
            _event("a", 15, "stage_begun", trial=0, stage="score"),
            _event("a", 17, "told", trial=0, seconds=0.5),
            _event("a", 18, "stage_begun", trial=1, stage="training"),
            _event("a", 20, "epoch", trial=1),
            _event("b", 18, "started", seconds=1.0),
            _event("b", 18, "stage_begun", trial=2, stage="training"),
            _event("b", 19, "stage_begun", trial=3, stage="teacher"),
            _event("b", 28, "stage_ended", trial=2, stage="training", seconds=10.0),
            _event("b", 30, "finished", seconds=1.0),
        ]
    )
    assert found.wall == (20 - 1) + (30 - 17)
    assert found.stages == {
        "probe": 0, "teacher": 11, "training": 10 + 2 + 10, "package": 0, "fine-tuning": 0, "score": 2,
    }  # fmt: skip
    assert found.between == {"preparation": 4, "asking": 1, "telling": 0.5, "test": 1}
    assert found.outside == (19 - 12 - 2) + (13 - 12)
    assert found.share_outside == pytest.approx(6 / 32)


def test_a_session_at_work_goes_on_until_now() -> None:
    log = [_event("a", 0, "started", seconds=0.0), _event("a", 1, "stage_begun", trial=0, stage="package")]
    assert profile(log).stages["package"] == 0
    assert profile(log, now=9.0).stages["package"] == 8 and profile(log, now=9.0).wall == 9
    assert profile([]).share_outside == 0
