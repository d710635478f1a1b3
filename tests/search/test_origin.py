"""A run that begins with the trained networks of another one: they cost nothing, the other run is not touched and may go."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from coreml_pareto.objectives.program import load
from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.origin import Origin, planned_as
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Run
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.session import search
from coreml_pareto.search.stages.train import Training
from coreml_pareto.search.store import Folder
from coreml_pareto.search.study import load_run
from coreml_pareto.spaces.errors import UserError

NETWORKS: dict[str, Any] = {
    "backbones": ["squeezenet1_1"],
    "width": [0.25, 0.35],
    "resolution": [32],
    "pretrained": False,
}
FIRST: dict[str, Any] = {
    "name": "first",
    "data": "digits",
    "splits": {"limit": 200},
    "networks": NETWORKS,
    "compression": ["fp16"],
    "training": {"epochs": [1], "batch_size": 32, "device": "cpu"},
    "search": {"trials": 2, "seed": 3, "gate": False},
}
SECOND = FIRST | {
    "name": "second",
    "networks": NETWORKS | {"width": [0.25, 0.5]},
    "compression": ["fp16", "int8/channel", "palette-4/tensor"],
    "objectives": ["accuracy", "size"],
    "limits": {"size": "1MB"},
    "target": {"device": "iPhone 12", "os": 16},
}


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something was trained."""
    counts, run = Counter[str](), Training.run

    def counted(training: Training) -> None:
        counts["train"] += 1
        run(training)

    monkeypatch.setattr(Training, "run", counted)
    return counts


def _search(folder: Path, study: dict[str, Any], **sections: Any) -> tuple[Run, str]:
    console = Console(file=io.StringIO(), width=160)
    with Screen(console) as screen:
        run = search(load_plan(None, study | sections), folder, screen)
    assert isinstance(console.file, io.StringIO)
    return run, console.file.getvalue()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _search(tmp_path_factory.mktemp("origin"), FIRST)[0]


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def _training(result: Any) -> str:
    assert isinstance(result.outcome, Scored), result
    return result.outcome.provenance["training"]


def test_packages_of_its_trainings_come_first_and_cost_none(tmp_path: Path, first: Run, done: Counter[str]) -> None:
    narrow, wide = sorted(first.results, key=lambda result: result.candidate.network.width)
    before, origin = _listing(first.folder), tmp_path / "origin"
    shutil.copytree(first.folder, origin)
    three = {"search": FIRST["search"] | {"trials": 3}, "origin": str(origin)}
    run, text = _search(tmp_path / "run", SECOND, **three)
    assert done["train"] == 0 and "1 trained network lie in this space" in text
    assert [r.candidate.network for r in run.results] == [narrow.candidate.network] * 3
    assert [r.candidate.compression.scheme for r in run.results] == ["fp16", "int8", "palette"]
    assert {_training(r) for r in run.results} == {_training(narrow)}
    assert run.results[0].score["top1"] == narrow.score["top1"]
    assert run.results[0].score["latency_ms"].conditions["device"] == "iPhone 12"

    # What else is trained inherits by the usual rule, from what lies outside of the space, too.
    run, _ = _search(tmp_path / "run", SECOND, **three | {"search": FIRST["search"] | {"trials": 4}})
    new = run.results[3]
    assert new.candidate.network.width == 0.5 and new.parent == _training(wide) and done["train"] == 1
    assert _listing(first.folder) == before and all(
        Folder(origin / "store").damage(artifact) is None for artifact in Folder(origin / "store").artifacts()
    )

    # The other run may go: this one has what it used, and goes on.
    shutil.rmtree(origin)
    for result in load_run(tmp_path / "run").scored():
        assert isinstance(result.outcome, Scored)
        load(result.outcome.package)
    run, _ = _search(tmp_path / "run", SECOND, **three | {"search": FIRST["search"] | {"trials": 6}})
    assert len(run.scored()) == 6 and done["train"] == 1
    run, _ = _search(tmp_path / "run", SECOND, search=FIRST["search"] | {"trials": 6})  # nor need it be named again
    assert len(run.scored()) == 6
    with pytest.raises(UserError, match=r"differs in origin \(--from\); choose another --run"):
        _search(tmp_path / "run", SECOND, origin=str(first.folder))


def test_a_training_that_is_damaged_there_is_done_without(tmp_path: Path, first: Run) -> None:
    origin = tmp_path / "origin"
    shutil.copytree(first.folder, origin)
    for path in (origin / "store" / "train").glob("*/weights.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    before = _listing(origin)
    with pytest.raises(UserError, match=r"takes a run with trained networks; .* has none"):
        _search(tmp_path / "run", SECOND, origin=str(origin))
    assert _listing(origin) == before and not (tmp_path / "run").exists()


def test_other_data_is_refused_with_what_differs(tmp_path: Path, first: Run) -> None:
    origin = {"origin": str(first.folder)}
    for sections, told in (
        ({"splits": {"limit": 100}}, r"same pictures in the same splits; .* read others: data digits, splits .*'limit': 200"),
        ({"splits": {"limit": 200, "seed": 5}}, "'seed': 0"),
        ({"training": FIRST["training"] | {"images": 50}}, "read others: training.images all"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=told):
            _search(tmp_path / "run", SECOND, **origin, **sections)
    for label in "abcdefghij":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(4):
            shade = (5 * (10 * number + ord(label) - 97),) * 3
            Image.new("RGB", (8, 8), shade).save(tmp_path / "pictures" / label / f"{number}.png")
    with pytest.raises(UserError, match=r"classes of the data.*only in pictures: 'a', 'b'.*; only in /.*: '0', '1'"):
        _search(tmp_path / "run", SECOND, **origin, data=str(tmp_path / "pictures"), splits={})
    with pytest.raises(UserError, match="no run folder"):
        _search(tmp_path / "run", SECOND, origin=str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="another run than the one in"):
        _search(first.folder.parent / "x", SECOND, origin=str(first.folder.parent / "x"))
    assert not (tmp_path / "run").exists()


def test_what_a_plan_leaves_open_is_answered_as_there() -> None:
    epochs = {"squeezenet1_1": 7, "mobilenetv2": 9}
    there = _plan(networks={"resolution": [48]}, training={"epochs": epochs, "batch_size": 32, "images": 100})
    opened = planned_as(_plan(networks={"backbones": ["squeezenet1_1"]}), there)
    assert opened.training.epochs == {"squeezenet1_1": 7} and opened.networks.resolution == (48,)
    assert (opened.training.batch_size, opened.training.images) == (32, 100)
    own = _plan(networks={"resolution": [64]}, training={"epochs": [3], "batch_size": 16, "images": 50})
    assert planned_as(own, there) == own
    wider = planned_as(_plan(networks={"backbones": ["squeezenet1_1", "efficientnet_b0"]}), there)
    assert wider.training.epochs == "auto"
    assert planned_as(_plan(), _plan(training={"epochs": [4, 8]})).training.epochs == (4, 8)


def _plan(**sections: Any) -> Plan:
    networks = {"backbones": ["squeezenet1_1", "mobilenetv2"]} | sections.pop("networks", {})
    return load_plan(None, {"networks": networks, **sections})


def test_what_was_taken_over_is_written_down_and_read_again(tmp_path: Path, first: Run) -> None:
    (tmp_path / "run").mkdir()
    assert Origin.of(tmp_path / "run") == Origin()
    _search(tmp_path / "run", SECOND, search=FIRST["search"] | {"trials": 1}, origin=str(first.folder))
    found = Origin.of(tmp_path / "run")
    assert found.folder == first.folder.resolve()
    assert {lesson.key for lesson in found.lessons} == {_training(result) for result in first.results}
    assert json.loads((tmp_path / "run" / "request.json").read_text())["origin"] == str(first.folder.resolve())
