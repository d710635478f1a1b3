"""A real ablation of digits: interrupted, gone on with, and against packages made by hand."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from rich.console import Console

from coreml_pareto.objectives.accuracy import evaluate
from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.program import load
from coreml_pareto.search import ablating, effort
from coreml_pareto.search.ablating import Forecast, Workshop, ablate, forecast, open_workshop, seeds_of, with_seed
from coreml_pareto.search.ablation import Ablation, Design, design, most_compressed
from coreml_pareto.search.cli import main
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.outcome import Failed
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.stages.recover import Tuning
from coreml_pareto.search.stages.train import preprocessing_of
from coreml_pareto.search.trial import Laboratory
from coreml_pareto.spaces.counts import count
from coreml_pareto.spaces.errors import UserError

STUDY: dict[str, Any] = {
    "name": "ablated", "data": "digits", "splits": {"limit": 200},
    "networks": {"backbones": ["squeezenet1_1"], "width": [0.25], "resolution": [32], "pretrained": False},
    "compression": ["fp16", "pruning-50+palette-4"], "target": {"os": 18},
    "training": {"epochs": [1], "batch_size": 32, "device": "cpu"}, "search": {"trials": 2, "seed": 3},
}  # fmt: skip
AFTER = 1
"""Packages, of six, after which the first attempt is interrupted."""
SECONDS = 7.0
"""Of an epoch of any network, in the tests' own reckoning."""


class Interrupted(Screen):  # type: ignore[misc]
    """Ctrl-C after some packages."""

    def say(self, text: str) -> None:
        super().say(text)
        if text.startswith(f"{AFTER}/"):
            raise KeyboardInterrupt


class Night(NamedTuple):
    """An ablation, interrupted once."""

    workshop: Workshop
    design: Design
    seeds: tuple[int, ...]
    before: Forecast
    between: Forecast
    after: Forecast
    kept: dict[str, float]
    made: dict[str, float]
    found: Ablation


def _screen(kind: Any = Screen) -> Screen:
    screen: Screen = kind(Console(file=io.StringIO(), width=200))
    return screen


def _trainings(folder: Path) -> dict[str, float]:
    return {path.name: (path / "weights.pt").stat().st_mtime for path in (folder / "store" / "train").glob("*")}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    folder = tmp_path_factory.mktemp("ablated") / "run"
    workshop = open_workshop(load_plan(None, STUDY), folder, _screen())
    found = design(most_compressed(workshop.space), workshop.space)
    seeds = seeds_of(found.full, 1)

    def ahead() -> Forecast:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ablating, "seconds_per_epoch", lambda network, plan, data: SECONDS)
            return forecast(workshop, found.candidates, seeds)

    before = ahead()
    with pytest.raises(KeyboardInterrupt):
        ablate(workshop, found, seeds, _screen(Interrupted))
    kept, between = _trainings(folder), ahead()
    result = ablate(workshop, found, seeds, _screen())
    return Night(workshop, found, seeds, before, between, ahead(), kept, _trainings(folder), result)


def test_what_is_to_be_made_is_known_before(night: Night) -> None:
    assert night.design.methods == ("architecture", "quantization", "pruning")
    assert [(f.trainings, f.teachers, f.packages) for f in (night.before, night.between, night.after)] == [
        (2, 0, 6), (1, 0, 5), (0, 0, 0)
    ]  # fmt: skip
    images = len(night.workshop.data.train)
    plain, small = night.design.plain.network, night.design.full.network
    packaging = {n: SECONDS * effort.PACKAGING / (images * count(n).macs ** effort.EXPONENT) for n in (plain, small)}
    assert night.before.seconds == pytest.approx(2 * SECONDS + packaging[plain] + packaging[small])
    assert night.between.seconds == pytest.approx(night.before.seconds - SECONDS)  # packages of both are still missing
    assert night.after.seconds == 0


def test_an_interrupted_ablation_goes_on_and_trains_nothing_twice(night: Night) -> None:
    assert len(night.kept) == 1 and len(night.made) == 2
    assert night.kept.items() <= night.made.items()


def test_readings_are_those_of_packages_made_by_hand(night: Night) -> None:
    lab, seed = night.workshop.laboratory, night.seeds[-1]
    candidate = with_seed(night.design.full, seed)
    trained = lab.trainer.train(candidate.network, candidate.recipe, lambda step: None)
    package = lab.packager.package(trained, candidate.compression, Tuning(lab.trainer, lambda step: None, None))
    told = night.found.scores[night.design.full.digest][seed]
    batches = lab.data.validation.batches(preprocessing_of(candidate.network), 128)
    assert told["top1"].value == evaluate(load(package), batches).score["top1"].value
    assert told["size_bytes"].value == sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    assert trained.record["parent"] is None


def test_every_axis_is_measured_with_every_seed(night: Night) -> None:
    assert night.found.axes == tuple(OBJECTIVES.values()) and set(night.found.scores) == {
        candidate.digest for candidate in night.design.candidates
    }
    size = OBJECTIVES["size"]
    architecture, quantization, _ = night.found.steps(size)
    assert architecture.value < quantization.value < 0  # pruning a network this small costs more in masks than it saves


@pytest.fixture
def in_place(night: Night, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder where the study's file lies, and its run folder where the command looks for it."""
    place = tmp_path / "runs" / "ablated"
    place.parent.mkdir()
    place.symlink_to(night.workshop.laboratory.store.root.parent)
    (tmp_path / "study.json").write_text(json.dumps(STUDY))
    monkeypatch.chdir(tmp_path)
    return place


def test_the_command_finds_everything_made_and_says_so(
    night: Night, capsys: pytest.CaptureFixture[str], in_place: Path
) -> None:
    assert main(["ablate", "study.json", "--seeds", "1", "--json", "--plot", "waterfall.html"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert "are made already" in err and "Wrote waterfall.html" in err
    assert told["order"] == ["architecture", "quantization", "pruning"] and told["seeds"] == list(night.seeds)
    total = sum(step["change"]["size_bytes"]["value"] for step in told["steps"])
    assert told["baseline"]["size_bytes"]["value"] + total == pytest.approx(told["full"]["size_bytes"]["value"])
    assert _trainings(in_place) == night.made


def test_whoever_says_no_gets_nothing(
    night: Night, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, in_place: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", lambda text, **options: asked.append(text))
    assert main(["ablate", "study.json", "--seeds", "2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert asked == ["Begin?"] and "6 candidates with 2 seeds: 2 trainings and 6 packages are to be made, about" in out
    assert _trainings(in_place) == night.made


def test_a_step_that_fails_is_named(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Laboratory, "evaluate", lambda *_: Failed("training", "loss is nan"))
    with pytest.raises(UserError, match=r"mobilenet|squeezenet1_0.* with seed 4 failed in training: loss is nan"):
        ablate(night.workshop, night.design, night.seeds, _screen())


def test_refusals_come_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["ablate", *arguments]) == 2
        return capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "is no run folder" in refused("empty") and "is no run folder" in refused("quickstart", "3")
    assert "written as .html or .png" in refused("quickstart", "--plot", "waterfall.pdf")
    assert not (tmp_path / "runs").exists()


def test_a_trial_without_a_package_and_a_run_without_a_recommendation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, draw_run: Callable[..., Any], tmp_path: Path
) -> None:
    from coreml_pareto.search import study
    from coreml_pareto.search.commands import ablate as command

    monkeypatch.setattr(study, "load_run", lambda folder: draw_run(3))
    with pytest.raises(UserError, match=r"trial 3 .* has none"):
        command._recipe(tmp_path, 3)
    assert command._recipe(tmp_path, 1) == draw_run(3).results[1].candidate
    monkeypatch.setattr(study, "load_run", lambda folder: draw_run(3, limits={"size": 1.0}))
    with pytest.raises(UserError, match="name a TRIAL"):
        command._recipe(tmp_path, None)
