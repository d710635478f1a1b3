"""Searches that share a store: a repeated candidate costs nothing, a run stands alone, damage and full disks are got over."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image
from rich.console import Console

from coreml_pareto.objectives.program import content_digest, load
from coreml_pareto.search import trial
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Run
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.session import search
from coreml_pareto.search.stages import package as packaging
from coreml_pareto.search.stages.train import Training
from coreml_pareto.search.store import Folder, disk
from coreml_pareto.search.study import load_run
from coreml_pareto.spaces.errors import UserError

STUDY = """
name: {name}
data: {data}
networks: {{backbones: [squeezenet1_1], width: [0.25], resolution: [32], pretrained: false}}
compression: [fp16, int8/channel, palette-4/tensor]
limits: {{size: 1MB}}
training: {{epochs: [1], batch_size: 8, device: cpu}}
distillation: {{teachers: [squeezenet1_1], teacher_width: 0.5, soft_weight: [0.5]}}
search: {{trials: 3, seed: 3, packages_per_training: 3}}
store: {store}
"""


@pytest.fixture(autouse=True)
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something was trained, converted, compressed and scored."""
    counts: Counter[str] = Counter()

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return call(*arguments, **options)

        return wrapped

    monkeypatch.setattr(Training, "run", counted("train", Training.run))
    for name in ("convert", "compress"):
        monkeypatch.setattr(packaging, name, counted(name, getattr(packaging, name)))
    monkeypatch.setattr(trial, "evaluate", counted("evaluate", trial.evaluate))
    return counts


def _pictures(folder: Path) -> Path:
    for label, shade in (("dark", 20), ("light", 200)):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (32, 32), (shade + number,) * 3).save(folder / label / f"{number}.png")
    return folder


def _search(folder: Path, text: str) -> tuple[Run, str]:
    study = folder.with_name(f"{folder.name}.yaml")
    study.write_text(text)
    console = Console(file=io.StringIO(), width=100)
    with Screen(console) as screen:
        run = search(load_plan(str(study)), folder, screen)
    assert isinstance(console.file, io.StringIO)
    return run, console.file.getvalue()


def _packages(run: Run) -> dict[str, str]:
    return {
        result.candidate.digest: content_digest(load(result.outcome.package))
        for result in run.results if isinstance(result.outcome, Scored)
    }  # fmt: skip


@pytest.fixture(params=["folder", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store's."""
    if request.param == "folder":
        return str(tmp_path / "shared")
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/shared"


def test_a_repeated_candidate_costs_nothing(tmp_path: Path, address: str, done: Counter[str]) -> None:
    """Another run, by another name, in another order, on the same pictures in another place, with another teacher's path."""
    first, text = _search(tmp_path / "one", STUDY.format(name="one", data=_pictures(tmp_path / "a"), store=address))
    assert len(_packages(first)) == 3, text
    assert done["train"] == 2 and done["convert"] == 2 and done["compress"] == 6 and done["evaluate"] >= 3
    done.clear()
    lines = STUDY.format(name="two", data=_pictures(tmp_path / "b"), store=address).strip().splitlines()
    again, _ = _search(tmp_path / "two", "\n".join(reversed(lines)))
    assert done == Counter()
    assert [r.candidate for r in again.results] == [r.candidate for r in first.results]
    assert [r.score for r in again.results] == [r.score for r in first.results]
    assert _packages(again) == _packages(first) and len(_packages(again)) == 3
    # Each run stands alone: the store and the other run may go.
    shutil.rmtree(tmp_path / "one")
    shutil.rmtree(tmp_path / "shared", ignore_errors=True)
    moved = (tmp_path / "two").rename(tmp_path / "moved")
    for result in load_run(moved).scored():
        assert isinstance(result.outcome, Scored) and result.outcome.package.is_relative_to(moved)
        load(result.outcome.package)
    # Other pictures are another question.
    (tmp_path / "b" / "dark" / "0.png").unlink()
    _search(tmp_path / "three", STUDY.format(name="one", data=tmp_path / "b", store=address))
    assert done["train"] == 2


PLAIN = """
name: plain
data: digits
splits: {limit: 300}
networks: {backbones: [squeezenet1_1], width: [0.25], resolution: [32], pretrained: false}
compression: [fp16, int8/channel]
training: {epochs: [1], batch_size: 32, device: cpu}
search: {trials: 2, seed: 3}
"""


def test_the_store_of_a_run_may_be_named_later_or_be_its_own(tmp_path: Path, done: Counter[str]) -> None:
    _search(tmp_path / "one", PLAIN)
    _search(tmp_path / "one", PLAIN.replace("trials: 2", "trials: 1") + f"store: {tmp_path / 'one' / 'store'}\n")
    done.clear()
    other, _ = _search(tmp_path / "two", PLAIN + f"store: {tmp_path / 'one'}\n")  # a run shares what it has
    assert done == Counter() and len(other.scored()) == 2


def test_a_store_that_cannot_be_used_is_refused_before_the_folder_exists(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for store, told in (
        (str(tmp_path / "file"), "can be written; .*file cannot"),
        ("s3://bucket/store", "driver that is not installed: Install s3fs"),
        ("nowhere://bucket", "a folder or a URL such as s3://bucket/store; got 'nowhere://bucket'"),
    ):
        with pytest.raises(UserError, match=told):
            _search(tmp_path / "run", PLAIN + f"store: {store}\n")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["flipped", "removed"])
def test_the_same_command_makes_a_lost_package_of_the_front_again(
    tmp_path: Path, done: Counter[str], damage: str
) -> None:
    run, _ = _search(tmp_path / "run", PLAIN)
    before = _packages(run)
    done.clear()
    for result in run.scored():
        assert isinstance(result.outcome, Scored)
        weights = result.outcome.package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
        if damage == "removed":
            shutil.rmtree(result.outcome.package.parent)
        else:
            content = bytearray(weights.read_bytes())
            content[len(content) // 2] ^= 1
            weights.write_bytes(content)
    again, text = _search(tmp_path / "run", PLAIN)
    front = {line.split(",")[0] for line in (tmp_path / "run" / "front.csv").read_text().splitlines()[1:]}
    assert front and text.count("is gone or damaged; it is made again") == len(front)
    assert text.count("was damaged (") == (len(front) if damage == "flipped" else 0)
    assert done["train"] == 0 and done["compress"] == len(front)
    remade = {r.candidate.digest for r in again.results if str(r.trial) in front}
    found = {
        r.candidate.digest: content_digest(load(r.outcome.package))
        for r in again.results if isinstance(r.outcome, Scored) and r.candidate.digest in remade
    }  # fmt: skip
    assert found == {digest: before[digest] for digest in remade}


def test_a_damaged_training_is_made_again_before_another_network_inherits_from_it(
    tmp_path: Path, done: Counter[str]
) -> None:
    """Else that one would begin with random weights, and be another one than in a search that nothing disturbs."""
    wider = PLAIN.replace("width: [0.25]", "width: [0.25, 0.35]").replace("[fp16, int8/channel]", "[fp16]")
    plain, _ = _search(tmp_path / "plain", wider)
    assert len(plain.scored()) == 2 and plain.results[1].parent is not None
    _search(tmp_path / "run", wider.replace("trials: 2", "trials: 1"))
    (weights,) = (tmp_path / "run" / "store" / "train").glob("*/weights.pt")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    done.clear()
    run, text = _search(tmp_path / "run", wider)
    assert "The training of trial 0 is gone or damaged; it is made again." in text and done["train"] == 2
    assert [(r.candidate, r.parent, r.score) for r in run.results] == [
        (r.candidate, r.parent, r.score) for r in plain.results
    ]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 0.6 MB, for the run folder."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root on Linux, to mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_search_on_a_full_disk_stops_in_one_sentence_and_goes_on_with_room(tmp_path: Path, small: Path) -> None:
    with pytest.raises(UserError, match=f"The disk of {small}.* is full .*the same command then goes on"):
        _search_in(small / "run", tmp_path)
    subprocess.run(["mount", "-o", "remount,size=100m", str(small)], check=True)
    _goes_on(small / "run", tmp_path)


@pytest.mark.parametrize("stage", ["checkpoint", "weights", "package"])
def test_a_search_whose_folder_is_closed_stops_in_one_sentence_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Permission revoked by another hand; root may write everywhere, so the calls are doubles."""

    def deny(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    def refuse(*arguments: Any, **_: object) -> None:
        if stage == "weights" and "checkpoint" in str(arguments[-1]):
            return
        monkeypatch.setattr(disk.tempfile, "TemporaryFile", deny)
        deny()

    place = "coreml_pareto.search.stages." + ("package.compress" if stage == "package" else "checkpoint.write_whole")
    if stage == "weights":
        monkeypatch.setattr("coreml_pareto.search.stages.train.save", refuse)
    else:
        monkeypatch.setattr(place, refuse)
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied\): .* the same command then goes on"):
        _search_in(tmp_path / "run", tmp_path)
    monkeypatch.undo()
    _goes_on(tmp_path / "run", tmp_path)


def _goes_on(folder: Path, tmp_path: Path) -> None:
    """What lies there is whole, and the same search ends as one that nothing disturbed."""
    assert all(Folder(folder / "store").damage(row) is None for row in Folder(folder / "store").artifacts())
    resumed = _search_in(folder, tmp_path)
    plain, _ = _search(tmp_path / "plain", PLAIN)
    assert [r.candidate for r in resumed.results] == [r.candidate for r in plain.results]
    assert [r.score for r in resumed.results] == [r.score for r in plain.results]
    assert _weights(resumed) == _weights(plain) and len(_weights(resumed)) == 2


def _weights(run: Run) -> dict[str, bytes]:
    """Converted again, a package has other random identifiers in its Manifest.json, and the same weights."""
    return {
        result.candidate.digest: next(result.outcome.package.rglob("weight.bin")).read_bytes()
        for result in run.results if isinstance(result.outcome, Scored)
    }  # fmt: skip


def _search_in(folder: Path, tmp_path: Path) -> Run:
    """The study file lies on another disk."""
    with Screen(Console(file=io.StringIO(), width=100)) as screen:
        (tmp_path / "plain.yaml").write_text(PLAIN)
        return search(load_plan(str(tmp_path / "plain.yaml")), folder, screen)
