"""How sure a front is, in words."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.choose import Recommendation, front, recommend
from coreml_pareto.search.noise import shares
from coreml_pareto.search.report import doubts
from coreml_pareto.search.report.doubts import NAMED, SUBSTANTIAL, doubted
from coreml_pareto.search.report.summary import print_run
from coreml_pareto.search.report.tables import front_table
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.tested import Look

Make = Callable[..., Any]


def repeated(result: Result, *values: float) -> Result:
    """Trained again with other seeds."""
    return replace(result, repeated={n: Reading(v, "share", v, v, "measured") for n, v in enumerate(values, 1)})


def shown(picture: object) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(picture)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def run(draw_run: Make, with_images: Make) -> Run:
    drawn: Run = with_images(draw_run(30))
    return drawn


def test_likely_packages_off_the_front_are_named_the_likeliest_first(run: Run) -> None:
    found, drawn = front(run), shares(run)
    off = {r.trial: drawn[r.trial] for r in run.scored() if r not in found and drawn[r.trial] >= SUBSTANTIAL}
    assert off, "this run has some"
    legend, named, *_ = doubts.doubts(run, found, drawn)
    assert "1,000 draws" in legend and named.startswith("Not on this front, but on at least a third of those drawn: ")
    places = [named.index(f"trial {trial} (") for trial in sorted(off, key=lambda t: (-off[t], t))[:NAMED]]
    assert places == sorted(places) and named.count("trial ") == min(NAMED, len(off))
    assert (" and " in named) == (len(off) > NAMED)


def test_a_run_without_images_says_so_and_one_without_packages_says_nothing(draw_run: Make) -> None:
    before = draw_run(3)
    (line,) = doubts.doubts(before, front(before), {})
    assert "recorded without which images" in line
    assert not list(doubts.doubts(draw_run(0), (), {}))


def test_the_table_has_a_column_of_shares(run: Run) -> None:
    found, drawn = front(run), shares(run)
    text = shown(front_table(found, {}, None, drawn))
    assert "front" in text and all(len(line) <= 100 for line in text.splitlines())
    for result in found:
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [str(result.trial)] and "@" in line]
        assert line.split()[-1] == f"{100 * drawn[result.trial]:.0f}"
    assert "front" not in shown(front_table(found, {}, None))


def test_an_unclear_recommendation_says_how_unclear(run: Run) -> None:
    answer = recommend(run)
    assert isinstance(answer, Recommendation) and len(answer.runners_up) == 2
    chosen, *others = answer.chosen.trial, *(other.result.trial for other in answer.runners_up)
    drawn = {chosen: 0.63, others[0]: 0.41, others[1]: 0.95}
    said = f" Not clear: it is on the front in 63 % of draws; trial {others[0]} in 41 %, trial {others[1]} in 95 %."
    assert doubted(answer, drawn).reason == answer.reason + said
    assert doubted(answer, drawn | {chosen: 0.97}) == answer == doubted(answer, {})


def test_the_mean_over_other_seeds_decides_and_is_shown(run: Run) -> None:
    """The most accurate one falls behind all others once its luck is gone."""
    before = recommend(run, priority="accuracy")
    assert isinstance(before, Recommendation) and "Of trial" not in before.reason
    lucky = repeated(before.chosen, 0.5, 0.6)
    after = replace(run, results=tuple(lucky if r.trial == lucky.trial else r for r in run.results))
    answer = recommend(after, priority="accuracy")
    assert isinstance(answer, Recommendation) and answer.chosen.trial == before.runners_up[0].result.trial
    assert answer.reason.endswith(
        f" Of trial {lucky.trial} the mean top-1 of other seeds counts; this one was trained once."
    )
    assert lucky in answer.front and all(other.result in after.results for other in answer.runners_up)
    assert "2 other seeds: top-1 55.0 (0.0–100.0)" in shown(front_table(answer.front, {}, None, {}))


def test_a_mean_that_is_chosen_is_the_figure_of_the_reason(run: Run) -> None:
    before = recommend(run, priority="accuracy")
    assert isinstance(before, Recommendation)
    better = repeated(before.chosen, 0.998, 0.999)
    after = replace(run, results=tuple(better if r.trial == better.trial else r for r in run.results))
    answer = recommend(after, priority="accuracy")
    assert isinstance(answer, Recommendation) and answer.chosen == better
    assert "99.9 %" in answer.reason or "99.8 %" in answer.reason
    assert answer.reason.endswith(f" Of trial {better.trial} the mean top-1 of other seeds counts.")


def test_what_a_search_ends_with_says_all_of_it(run: Run) -> None:
    looks = (Look("2026-11-25T08:00:00+00:00", 12), Look("2026-11-25T09:00:00+00:00", 32))
    tested = tuple(replace(r, test_top1=r.score.get("top1")) for r in run.results)
    console = Console(file=io.StringIO(), width=100)
    assert print_run(replace(run, results=tested, looks=looks), console)
    assert isinstance(console.file, io.StringIO)
    text = " ".join(console.file.getvalue().split())
    for part in (
        "front %: of 1,000 draws",
        "0.0 points above test",
        "no difference is shown",
        "Test was read 2 times, first after 12",
    ):
        assert part in text
