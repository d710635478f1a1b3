"""`coreml-pareto front`"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.search.choose import Recommendation, front, recommend
from coreml_pareto.search.noise import shares
from coreml_pareto.search.rows import row, rows
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.tested import Look
from coreml_pareto.spaces.compression import minimum_os


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


def test_strict_moves_the_star_to_what_best_recommends(
    command: Callable[..., Any], recorded_as: Callable[[Run], Run], result_at: Callable[..., Result],
    run_of: Callable[..., Run],
) -> None:  # fmt: skip
    points = ((0.95, 0.6, 2e5, 9e5, 1.0), (0.9, 0.45, 4e5, 1.2e6, 1.2))
    run = recorded_as(run_of(tuple(result_at(i, point) for i, point in enumerate(points)), limits={"latency": 1.0}))
    loose, strict = recommend(run), recommend(run, strict=True)  # the interval of trial 0 ends at 1.2 ms
    assert isinstance(loose, Recommendation) and isinstance(strict, Recommendation)
    assert loose.chosen.trial == 0 != strict.chosen.trial

    def starred(*flags: str) -> list[str]:
        return [line.split()[1] for line in command("front", "RUN", *flags).out.splitlines() if line.startswith("★")]

    assert starred() == ["0"] and starred("--strict") == [str(strict.chosen.trial)]
    best = json.loads(command("best", "RUN", "--strict", "--json").out)
    assert best[0]["trial"] == strict.chosen.trial
    recorded_as(replace(run, strict=True))  # the study's own word counts as much
    assert starred() == [str(strict.chosen.trial)] and "(worse ends)" in command("front", "RUN").out


def test_all_readings_are_there(command: Callable[..., Any], recorded: Run) -> None:
    text = command("front", "RUN").out
    assert all(len(line) <= 100 for line in text.splitlines())
    for head in ("top-5", "frames", "bits/", "MACs", "minimum"):
        assert head in text
    for result in front(recorded):
        (line,) = [
            part for part in text.splitlines() if part.rstrip().endswith(f"/package/{result.trial}/model.mlpackage")
        ]
        macs, bits = 1e-6 * result.score["macs"].value, result.score["bits_per_weight"].value
        assert line.split()[:2] == [str(result.trial), "100.0"] and [f"{bits:.2f}", f"{macs:.1f}"] == line.split()[3:5]
        assert f"iOS {minimum_os(result.candidate.compression)}" in line


def test_a_run_without_packages_says_how_its_trials_ended(
    command: Callable[..., Any], recorded_as: Callable[[Run], Run], draw_run: Callable[..., Run]
) -> None:
    drawn = recorded_as(replace(draw_run(0, limits={"size": 5e6}), folder=Path("a[/b] :cat:")))
    text = command("front", "RUN").out
    assert "No package from 2 trials: 1 over a limit, not trained, 1 failed." in text and "loss is nan" in text
    assert "`coreml-pareto best a[/b] :cat:`" in text and "keeps" not in text
    recorded_as(replace(drawn, results=drawn.results[1:]))
    assert "coreml-pareto best" not in command("front", "RUN").out  # it would know no more
    recorded_as(replace(drawn, results=()))
    assert command("front", "RUN").out.strip() == "No trial has ended yet."
    assert json.loads(command("front", "RUN", "--json").out) == []


def test_shares_means_and_who_has_seen_the_test_are_there_for_people_and_machines(
    command: Callable[..., Any], recorded_as: Callable[[Run], Run], draw_run: Callable[..., Run],
    with_images: Callable[..., Run],
) -> None:  # fmt: skip
    drawn = with_images(draw_run(20))
    run = recorded_as(replace(drawn, looks=(Look("2026-11-25T08:00:00+00:00", 12), Look(None, 22))))
    lines = json.loads(command("front", "RUN", "--json").out)
    assert lines == rows(front(run), run, shares(run))
    assert all(0 <= line["front_share"] <= 1 and line["top1_seeds"] == 0 for line in lines)
    assert {(line["test_reads"], line["trials_at_first_test"], line["trials"]) for line in lines} == {(2, 12, 22)}
    text = " ".join(command("front", "RUN").out.split())
    assert "front %: of 1,000 draws" in text and "Test was read 2 times, first after 12 of 22 trials" in text
    two = json.loads(command("front", "RUN", "--objectives", "accuracy,size", "--max-size", "1MB", "--json").out)
    expected = shares(run, ("accuracy", "size"), {"size": 1e6})
    assert {line["trial"]: line["front_share"] for line in two} == {
        line["trial"]: expected[line["trial"]] for line in two
    }


@pytest.mark.parametrize("option", ["--csv", "--plot"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(
    command: Callable[..., Any], tmp_path: Path, option: str
) -> None:
    answer = command("front", "RUN", option, str(tmp_path / "nowhere" / "front.html"))
    assert answer.code == 2 and "folder" in answer.err and answer.out == ""
