"""Finalists trained again with other seeds: a real small search, killed and resumed; and the ways by hand."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console

from coreml_pareto.objectives.accuracy import evaluate
from coreml_pareto.objectives.pareto import shortlist
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.reading import Reading, Score, losses
from coreml_pareto.search import finalists
from coreml_pareto.search.choose import front
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.data import load_data
from coreml_pareto.search.events import read_events
from coreml_pareto.search.finalists import Gone, Repetition, agenda, chosen, repeat, way_to
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.profile import profile
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.session import search
from coreml_pareto.search.stages.train import Step, preprocessing_of
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import Store
from coreml_pareto.search.study import load_run
from coreml_pareto.search.trial import open_laboratory
from coreml_pareto.spaces.space import choose_from

SEED, SEEDS = 3, 3
OTHERS = {SEED + 1, SEED + 2, SEED + 3}
STUDY: dict[str, Any] = {
    "name": "finalists",
    "data": "digits",
    "splits": {"limit": 300},
    "networks": {"backbones": ["squeezenet1_1"], "width": [0.25, 0.35], "resolution": [32], "pretrained": False},
    "compression": ["fp16", "int8/channel"],
    "training": {"epochs": [1], "batch_size": 32, "device": "cpu"},
    "search": {"trials": 3, "seed": SEED, "finalists": 2, "seeds": SEEDS},
}  # fmt: skip
SCRIPT = (
    "import sys; from pathlib import Path; from rich.console import Console\n"
    "from coreml_pareto.search.config import load_plan; from coreml_pareto.search.screen import Screen\n"
    "from coreml_pareto.search.session import search; import json\n"
    "plan = load_plan(None, json.load(open(sys.argv[1])))\n"
    "from coreml_pareto.search import finalists; finalists.LEAST_SECONDS = 3600.0\n"  # however slow the machine is
    "with Screen(Console(width=200)) as screen: search(plan, Path(sys.argv[2]), screen)\n"
)


class Night(NamedTuple):
    """A search killed among its finalists, and what became of it."""

    said: list[str]
    at_kill: Run
    made: dict[str, float]
    run: Run
    resumed: str


def _search(folder: Path, **changes: Any) -> tuple[Run, str]:
    console = Console(file=io.StringIO(), width=200)
    with Screen(console) as screen:
        run = search(load_plan(None, STUDY | {"search": STUDY["search"] | changes}), folder, screen)
    assert isinstance(console.file, io.StringIO)
    return run, console.file.getvalue()


def trainings(folder: Path) -> dict[str, float]:
    """Keys of the finished trainings, and when they were made."""
    return {path.name: (path / "weights.pt").stat().st_mtime for path in (folder / "store" / "train").iterdir()}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    place = tmp_path_factory.mktemp("night")
    study, folder, said = place / "study.json", place / "run", []
    study.write_text(json.dumps(STUDY))
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(study), str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if " again, seed " in line:
                break
        os.kill(process.pid, signal.SIGKILL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finalists, "LEAST_SECONDS", 3600.0)
        return Night(said, load_run(folder), trainings(folder), *_search(folder))


def finalists_of(night: Night) -> list[Result]:
    return chosen(front(night.run), night.run.objectives, 2)


def test_what_is_to_come_and_how_long_it_takes_is_said_before(night: Night) -> None:
    (line,) = [line for line in night.said if line.startswith("Finalists: ")]
    count = len(finalists_of(night))
    assert line.startswith(f"Finalists: {count * SEEDS} repetitions of {count} package") and "; at most 1 h" in line
    assert len(night.at_kill.results) == 3 and not any(result.test_top1 for result in night.at_kill.results)


def test_a_killed_search_goes_on_where_it_was(night: Night) -> None:
    """What was finished is on record and is not made again."""
    done = [(r.trial, seed) for r in night.at_kill.results for seed in r.repeated]
    left = len(finalists_of(night)) * SEEDS - len(done)
    assert len(done) in (1, 2)  # the kill comes a moment after the line
    assert f"Finalists: {left} repetition" in night.resumed and night.resumed.count(" again, seed ") == left
    after = trainings(night.run.folder)
    assert night.made.items() <= after.items() and len(after) > len(night.made)
    for trial, seed in done:
        (one,) = [r for r in night.run.results if r.trial == trial]
        (before,) = [r for r in night.at_kill.results if r.trial == trial]
        assert one.repeated[seed] == before.repeated[seed]


def test_each_finalist_has_its_seeds_and_no_trial_was_added(night: Night) -> None:
    repeated = [result for result in night.run.results if result.repeated]
    assert {r.trial for r in repeated} == {r.trial for r in finalists_of(night)} and repeated
    assert [r.trial for r in night.run.results] == [r.trial for r in night.at_kill.results]
    for result in repeated:
        assert set(result.repeated) == OTHERS and result.mean_top1 is not None
        assert {reading.conditions["split"] for reading in result.repeated.values()} == {"validation"}


class Unseen:
    """A witness that only looks on."""

    def note(self, doing: str) -> None: ...
    def stage(self, name: str, seconds: float | None) -> None: ...
    def step(self, step: Step) -> None: ...
    def packaged(self, known: Score) -> None: ...


def test_a_repetition_goes_the_whole_way_from_the_root(tmp_path: Path, result_at: Callable[..., Result]) -> None:
    """A network of three trainings, each from the weights of the one before: all of them are made again."""
    plan, store = load_plan(None, STUDY), Store(tmp_path)
    laboratory = open_laboratory(plan, load_data("digits", limit=300), store, lambda teacher: None)
    space = plan.space(10)
    narrow, wide = (space.decode(choose_from({"family": "squeezenet", "width": width})) for width in (0.25, 0.35))
    steps = [narrow, wide, wide.model_copy(update={"recipe": wide.recipe.model_copy(update={"epochs": 2})})]
    trained: list[Trained] = []
    for one in steps:
        heritage = trained[-1] if trained else None
        trained.append(laboratory.trainer.train(one.network, one.recipe, lambda step: None, None, heritage))
    last, scored = steps[-1], result_at(0, (0.9, 1, 1e5, 1e6, 1)).outcome
    assert isinstance(scored, Scored)
    result = Result(0, last, replace(scored, provenance={TRAINING: trained[-1].key}))
    way = way_to(result, laboratory.trainer.find)
    assert [step.key for step in way] == [step.key for step in trained]
    reading = repeat(laboratory, Repetition(result, 7, tuple(way)), Unseen())
    found = [Trained.of(path) for path in (tmp_path / "train").iterdir()]
    parent = None
    for one in steps:
        recipe = one.recipe.model_copy(update={"seed": 7})
        (twin,) = [t for t in found if (t.network, t.recipe) == (one.network, recipe)]
        assert twin.record["parent"] == parent
        parent = twin.key
    assert len(found) == 6
    (package,) = (tmp_path / "package").rglob("*.mlpackage")
    batches = laboratory.data.validation.batches(preprocessing_of(last.network))
    assert reading.value == evaluate(load(package), batches).score["top1"].value
    again = repeat(laboratory, Repetition(result, 7, tuple(way)), Unseen())
    assert again == reading and len(list((tmp_path / "train").iterdir())) == 6


def test_the_same_command_costs_nothing_more_and_says_that_test_was_read(night: Night) -> None:
    before = trainings(night.run.folder)
    run, text = _search(night.run.folder)
    assert "Finalists" not in text and trainings(run.folder) == before
    assert "Test was already read once" in text and len(run.looks) == 1  # the same front: it is not read again
    assert [r.repeated for r in run.results] == [r.repeated for r in night.run.results]


def test_machines_read_the_means(night: Night) -> None:
    with (night.run.folder / "front.csv").open(newline="") as file:
        lines = {int(line["trial"]): line for line in csv.DictReader(file)}
    for result in front(night.run):
        line = lines[result.trial]
        assert int(line["top1_seeds"]) == len(result.repeated) and 0 <= float(line["front_share"]) <= 1
        assert (line["top1_mean"] != "") == bool(result.repeated)
        if result.mean_top1 is not None:
            told = [float(line[f"top1_mean{end}"]) for end in ("_low", "", "_high")]
            assert told == [result.mean_top1.low, result.mean_top1.value, result.mean_top1.high]
        assert (line["test_reads"], line["trials_at_first_test"], line["trials"]) == ("1", "3", "3")


def test_the_log_tells_of_them_and_their_time(night: Night) -> None:
    events = list(read_events(night.run.folder))
    assert len([event for event in events if event["event"] == "repeated"]) == SEEDS * len(finalists_of(night))
    assert profile(events).stages["repetition"] > 0


def test_repetitions_end_when_their_time_is_over_and_failures_are_told(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalists, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(finalists, "PATIENCE", 0.0)
    run, text = _search(night.run.folder, seeds=SEEDS + 1)
    assert "Finalists: " in text and "The time of the finalists is over; the same command goes on" in text
    assert all(set(r.repeated) in (set(), OTHERS) for r in run.results)
    monkeypatch.undo()

    def fail(*_: object) -> Reading:
        raise RuntimeError("loss is nan")

    monkeypatch.setattr(finalists, "repeat", fail)
    run, text = _search(night.run.folder, seeds=SEEDS + 1)
    assert text.count(f"with seed {SEED + SEEDS + 1} failed: loss is nan") == len(finalists_of(night))
    assert all(set(r.repeated) in (set(), OTHERS) for r in run.results)


def test_a_way_that_is_gone_is_told(night: Night) -> None:
    finished = [result for result in night.run.results if result.repeated]
    with pytest.raises(Gone):
        way_to(finished[0], lambda key: None)
    todo = agenda(finished, 5, lambda key: None)
    assert todo.without == tuple(finished) and not todo.repetitions and todo.trainings == 0


def test_the_time_counts_each_training_once_however_many_finalists_come_from_it(
    night: Night, result_at: Callable[..., Result]
) -> None:
    found = {path.name: Trained.of(path) for path in (night.run.folder / "store" / "train").iterdir()}
    root = next(t for t in found.values() if t.record["parent"] is None and t.recipe.seed == SEED)
    results = []
    for number in range(3):
        one = result_at(number, (0.9, 1, 1e5, 1e6, 1))
        assert isinstance(one.outcome, Scored)
        results.append(replace(one, seconds=0.0, outcome=replace(one.outcome, provenance={"training": root.key})))
    todo = agenda(results, 2, found.get)
    assert (len(todo.repetitions), todo.trainings) == (6, 2)
    assert todo.seconds == pytest.approx(2 * root.record["seconds"])
    assert todo.limit == pytest.approx(max(60.0, 2 * todo.seconds))


def test_finalists_are_the_most_balanced_of_the_front(draw_run: Callable[..., Run]) -> None:
    run = draw_run(40)
    members, axes = front(run), run.objectives
    order = shortlist([losses(r.score, axes) for r in members], [axis.scale for axis in axes])
    assert [r.trial for r in chosen(members, axes, 3)] == [members[i].trial for i in order[:3]]
    assert chosen((), axes, 3) == [] and len(chosen(members, axes, 1000)) == len(members)
