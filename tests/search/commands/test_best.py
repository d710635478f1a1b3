"""`coreml-pareto best`"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.choose import Recommendation, recommend
from coreml_pareto.search.rows import COUNTS
from coreml_pareto.search.run import Run


@pytest.mark.parametrize("priority", ["balanced", *OBJECTIVES])
def test_json_is_the_chosen_one_and_the_runners_up(command: Callable[..., Any], recorded: Run, priority: str) -> None:
    answer = command("best", "RUN", "--priority", priority, "--json")
    expected = recommend(recorded, priority=priority)
    assert isinstance(expected, Recommendation)
    trials = [expected.chosen.trial, *(other.result.trial for other in expected.runners_up)]
    assert answer.code == 0 and [line["trial"] for line in json.loads(answer.out)] == trials


def test_json_explains_the_choice_and_what_the_others_would_change(command: Callable[..., Any], recorded: Run) -> None:
    chosen, *others = json.loads(command("best", "RUN", "--json").out)
    expected = recommend(recorded)
    assert isinstance(expected, Recommendation)
    assert (chosen["reason"], chosen["priority"]) == (expected.reason, "balanced")
    assert set(chosen["methods"]) == {"effects", "not_tried", "without_counterpart"}
    for line in others:
        for reading, told in line["instead"].items():
            assert told["change"] == pytest.approx(
                line[reading] - chosen[reading], abs=1.0 if reading in COUNTS else 1e-9
            )  # bytes are rounded


def test_the_panel(command: Callable[..., Any], recorded: Run) -> None:
    answer = command("best", "RUN", "--max-size", "1MB")
    text = " ".join(answer.out.replace("│", " ").split())
    assert answer.code == 0
    for part in ("The best balance among", "Instead, trial", "gains", "costs", "model.mlpackage", "80 % intervals"):
        assert part in text


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_fits(command: Callable[..., Any], recorded: Run, as_json: bool) -> None:
    answer = command("best", "RUN", "--max-size", "1KB", *(["--json"] if as_json else []))
    assert answer.code == 3
    assert "No package keeps size ≤ 1KB" in answer.err and "would admit trial" in answer.err
    assert answer.out.strip() == ("[]" if as_json else "")


def test_the_relaxation_that_is_told_works(command: Callable[..., Any], recorded: Run) -> None:
    refused = command("best", "RUN", "--max-size", "1KB", "--json")
    told = next(line for line in refused.err.splitlines() if line.startswith("--max-size"))
    again = command("best", "RUN", "--max-size", told.split()[1], "--json")
    assert again.code == 0 and json.loads(again.out)


def test_an_unknown_priority(command: Callable[..., Any], recorded: Run) -> None:
    answer = command("best", "RUN", "--priority", "speed")
    assert answer.code == 2 and "a priority is one of balanced, accuracy" in answer.err


@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_without_packages_says_what_would_have_to_give_way(
    command: Callable[..., Any], recorded_as: Callable[[Run], Run], draw_run: Callable[..., Run], as_json: bool
) -> None:
    recorded_as(draw_run(0, limits={"size": 5e6, "accuracy": 0.9}))  # one infeasible (20 MB) and one failed trial
    answer = command("best", "RUN", *(["--json"] if as_json else []))
    assert answer.code == 3 and answer.out.strip() == ("[]" if as_json else "")
    told = answer.err.splitlines()
    assert told[0] == "No package from 2 trials: 1 over a limit, not trained, 1 failed."
    assert told[1] == "failed in training: loss is nan"
    assert told[2].startswith("Nearest to size ≤ 5MB: trial 0, mobilenetv2") and told[2].endswith("20.0 MB")
    assert told[3].startswith("--max-size 20MB would admit trial 0,") and ", not trained (300 % looser)" in told[3]
    assert "top-1 is not known" in told[4] and len(told) == 5


def test_a_run_of_failures_and_one_without_trials(
    command: Callable[..., Any], recorded_as: Callable[[Run], Run], draw_run: Callable[..., Run]
) -> None:
    drawn = draw_run(0)
    recorded_as(replace(drawn, results=drawn.results[1:]))
    answer = command("best", "RUN")
    assert answer.code == 3 and answer.err.splitlines() == [
        "No package from 1 trial: 1 failed.", "failed in training: loss is nan"
    ]  # fmt: skip
    recorded_as(replace(drawn, results=()))
    answer = command("best", "RUN")
    assert answer.code == 2 and "at least one finished trial" in answer.err


def test_a_folder_that_looks_like_markup(
    command: Callable[..., Any], recorded_as: Callable[[Run], Run], result_at: Callable[..., Any],
    run_of: Callable[..., Run],
) -> None:  # fmt: skip
    result = result_at(0, (0.9, 1.0, 1e6, 1e6, 1.0))
    odd = replace(result, outcome=replace(result.outcome, package=Path("a[/b] :cat: [red]c/model.mlpackage")))
    recorded_as(run_of((odd,)))
    answer = command("best", "RUN")
    assert answer.code == 0 and "a[/b] :cat: [red]c" in answer.out
