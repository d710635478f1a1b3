"""`coreml-pareto front`"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.search.choose import front
from coreml_pareto.search.rows import row
from coreml_pareto.search.run import Run


def test_json_is_the_front_and_nothing_else(command: Callable[..., Any], recorded: Run) -> None:
    answer = command("front", "RUN", "--json")
    assert answer.code == 0 and answer.err == ""
    assert json.loads(answer.out) == [row(result, recorded) for result in front(recorded)]


@pytest.mark.parametrize("names", ["accuracy,size", "size", "latency, energy"])
def test_any_subset_of_objectives(command: Callable[..., Any], recorded: Run, names: str) -> None:
    answer = command("front", "RUN", "--objectives", names, "--json")
    wanted = front(recorded, [name.strip() for name in names.split(",")])
    assert [line["trial"] for line in json.loads(answer.out)] == [result.trial for result in wanted]


def test_the_table_the_conditions_and_the_correlation(command: Callable[..., Any], recorded: Run) -> None:
    answer = command("front", "RUN")
    assert answer.code == 0
    assert f"{len(front(recorded))} of 12 packages are on the front" in answer.out and "size ≤ 5MB" in answer.out
    for part in ("★", "80 % intervals", "rank correlation", "iPhone 15 Pro"):
        assert part in answer.out


def test_limits_replace_those_of_the_study(command: Callable[..., Any], recorded: Run) -> None:
    tight = json.loads(command("front", "RUN", "--max-size", "500KB", "--json").out)
    assert {line["trial"] for line in tight} == {r.trial for r in front(recorded, limits={"size": 5e5})} != set()
    answer = command("front", "RUN", "--max-size", "1B")
    assert answer.code == 0 and "No package of 12 keeps size ≤ 1B" in answer.out


def test_plot(command: Callable[..., Any], recorded: Run, tmp_path: Path) -> None:
    answer = command(
        "front", "RUN", "--objectives", "accuracy,memory", "--plot", str(tmp_path / "front.html"), "--json"
    )
    assert answer.code == 0 and "Wrote" in answer.err
    assert json.loads(answer.out)  # stdout stays JSON
    assert "memory, MB" in (tmp_path / "front.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--objectives", "speed"], "objectives are named once each"),
        (["--objectives", ","], "--objectives names one or more"),
        (["--max-size", "10"], "a limit on size is"),
        (["--plot", "front.pdf"], "a plot is written as .html or .png"),
    ],
)
def test_refusals(command: Callable[..., Any], recorded: Run, arguments: list[str], said: str) -> None:
    answer = command("front", "RUN", *arguments)
    assert answer.code == 2 and answer.err.startswith("error: ") and said in answer.err
    assert "Traceback" not in answer.err


def test_a_folder_without_a_run(command: Callable[..., Any], tmp_path: Path) -> None:
    answer = command("front", str(tmp_path))
    assert answer.code == 2 and "no run folder" in answer.err
