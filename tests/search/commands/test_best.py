"""`coreml-pareto best`"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.choose import Recommendation, recommend
from coreml_pareto.search.run import Run


@pytest.mark.parametrize("priority", ["balanced", *OBJECTIVES])
def test_json_is_the_chosen_one_and_the_runners_up(command: Callable[..., Any], recorded: Run, priority: str) -> None:
    answer = command("best", "RUN", "--priority", priority, "--json")
    expected = recommend(recorded, priority=priority)
    assert isinstance(expected, Recommendation)
    trials = [expected.chosen.trial, *(other.result.trial for other in expected.runners_up)]
    assert answer.code == 0 and [line["trial"] for line in json.loads(answer.out)] == trials


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
