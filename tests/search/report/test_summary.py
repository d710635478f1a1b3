"""What a search ends with on the screen."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from coreml_pareto.search.choose import Recommendation, recommend
from coreml_pareto.search.outcome import Failed
from coreml_pareto.search.report.summary import print_run
from coreml_pareto.search.report.words import ended
from coreml_pareto.search.run import Run


def printed(run: Run) -> tuple[bool, str]:
    console = Console(file=io.StringIO(), width=100)
    found = print_run(run, console)
    assert isinstance(console.file, io.StringIO)
    return found, console.file.getvalue()


def test_the_front_in_short_and_the_recommendation(draw_run: Callable[..., Run]) -> None:
    run = draw_run(12)
    answer = recommend(run)
    found, text = printed(run)
    assert found and isinstance(answer, Recommendation) and f"★ trial {answer.chosen.trial} ·" in text
    assert text.startswith("12 packages from") and "frames\n" not in text and "minimum" not in text


def test_candidates_over_a_limit_are_told_with_the_nearest(draw_run: Callable[..., Run]) -> None:
    run = draw_run(0, limits={"size": 5e6})
    found, text = printed(run)
    assert not found and text.startswith("No package from 2 trials: 1 over a limit, not trained, 1 failed.")
    assert "--max-size 20MB would admit trial 0" in " ".join(text.split())


def test_failures_are_not_said_to_break_limits(draw_run: Callable[..., Run]) -> None:
    run = draw_run(0, limits={"size": 5e6})
    failed = replace(run.results[1], outcome=Failed("training", "no file [/data] in [red]"))
    found, text = printed(replace(run, results=(failed,)))
    assert not found and "No package from 1 trial: 1 failed." in text
    assert "no file [/data] in [red]" in text and "limit" not in text


def test_no_trial_at_all(draw_run: Callable[..., Run]) -> None:
    assert printed(replace(draw_run(0), results=())) == (False, "No trial has ended yet.\n")


@pytest.mark.parametrize("count", [0, 3])
def test_a_folder_that_looks_like_markup(draw_run: Callable[..., Run], count: int) -> None:
    _, text = printed(replace(draw_run(count), folder=Path("a[/b] :cat: [red]c")))
    assert "coreml-pareto best a[/b] :cat: [red]c" in text


def test_counts(draw_run: Callable[..., Run]) -> None:
    assert ended(draw_run(3)) == (
        "3 packages from 3 trained networks, 1 candidate over a limit, not trained, 1 failed."
    )
