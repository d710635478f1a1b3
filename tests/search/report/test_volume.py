"""The curve of the hypervolume: from the log where there is one, else reckoned from the trials."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.search.report.volume import Growth, growth
from coreml_pareto.search.standing import Standing

Make = Callable[..., Any]


@pytest.mark.parametrize("count", [1, 2, 12, 100])
def test_reckoned_points_are_those_of_a_search_that_tells_one_after_the_other(draw_run: Make, count: int) -> None:
    run = draw_run(count)
    standing, after = Standing(replace(run, results=())), {}
    for result in run.results:
        standing.add(result)
        after[result.trial + 1.0] = standing.hypervolume
    found = growth(run)
    assert found is not None and found.by == "trials"
    assert dict(found.points) == {place: pytest.approx(after[place]) for place, _ in found.points}
    assert found.points[0][0] == 1 and found.points[-1][0] == count
    shares = [share for _, share in found.points]
    assert shares == sorted(shares)


def test_without_a_package_there_is_no_curve(draw_run: Make) -> None:
    assert growth(draw_run(0)) is None


def test_the_log_goes_first_and_new_terms_begin_again(draw_run: Make, tmp_path: Path) -> None:
    def line(event: str, clock: float, **facts: float) -> str:
        return json.dumps({"schema": 1, "clock": clock, "session": "s", "event": event, **facts})

    events = [line("front", 1.0, hypervolume=0.5), line("terms", 2.0), line("front", 3.0, hypervolume=0.1)]
    (tmp_path / "events.jsonl").write_text("\n".join(events) + "\n")
    assert growth(replace(draw_run(3), folder=tmp_path)) == Growth(((3.0, 0.1),), "seconds")
