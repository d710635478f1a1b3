"""`store ls|gc|verify` on a store of known results, on a run, and on an object store."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from coreml_pareto.search import record, study
from coreml_pareto.search.choose import front
from coreml_pareto.search.lock import LOCK, sole_search
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Run
from coreml_pareto.search.store import MANIFEST, Folder, Manifest, Remote, Store
from coreml_pareto.search.store.address import MACHINE, RECORD
from coreml_pareto.spaces.errors import UserError

DAY = 86400.0


@pytest.fixture(name="command")
def _texts(command: Callable[..., Any]) -> Callable[..., Any]:
    """Paths may be given as such."""
    return lambda *arguments: command(*map(str, arguments))


def _fill(root: Path, rows: dict[tuple[str, str], tuple[int, float, str]], shared: Any = None) -> None:
    """Results by stage and key: bytes, age in days, what they are about."""
    for (stage, key), (size, age, about) in rows.items():

        def make(work: Path, size: int = size) -> None:
            (work / "model.mlpackage").mkdir(exist_ok=True)
            (work / "model.mlpackage" / "w").write_bytes(bytes(size))

        folder = Store(root).produce(stage, key, make, about)
        manifest = Manifest.load(folder)
        Manifest(manifest.files, about, time.time() - age * DAY).write(folder)
        if shared is not None:
            shared.publish(stage, key, folder)


ROWS = {
    ("train", "0" * 16): (4_000_000, 40.0, "mobilenetv2×0.5 @64, 3 epochs"),
    ("train", "1" * 16): (2_000_000, 2.0, "squeezenet1_1 @64, 3 epochs"),
    ("package", "2" * 16): (1_000_000, 39.0, "mobilenetv2×0.5 @64, int8/channel"),
    ("package", "3" * 16): (500_000, 1.0, "squeezenet1_1 @64, fp16"),
    ("sensitivity", "4" * 16): (500_000, 1.0, "squeezenet1_1 @64, palette-4/tensor"),
}


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any]:
    """A store with the rows, by its address, and opened."""
    if request.param == "folder":
        _fill(tmp_path / "shared", ROWS)
        return str(tmp_path / "shared"), Folder(tmp_path / "shared")
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    remote = Remote(fs, "/bucket/shared", "memory://bucket/shared")
    _fill(tmp_path / "own", ROWS, remote)
    return "memory://bucket/shared", remote


def _names(shelf: Any) -> set[tuple[str, str]]:
    return {(row.stage, row.key) for row in shelf.artifacts()}


def test_results_are_listed_by_kind_network_and_run(
    command: Callable[..., Any], place: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, _ = place
    told = json.loads(command("store", "ls", text, "--json").out)
    assert told["store"] == text and told["unfinished"] == {"count": 0, "bytes": 0}
    rows = {row["name"]: (row["count"], row["bytes"]) for row in told["rows"]}
    assert rows == {"train": (2, 6_000_000), "package": (2, 1_500_000), "sensitivity": (1, 500_000)}
    ages = {
        row["name"]: [round((time.time() - row[end]) / DAY) for end in ("oldest", "newest")] for row in told["rows"]
    }
    assert ages == {"train": [40, 2], "package": [39, 1], "sensitivity": [1, 1]}
    shown = command("store", "ls", text, "--by", "network").out
    assert [line.split() for line in shown.splitlines() if "@64" in line] == [
        ["mobilenetv2×0.5", "@64", "2", "5.0", "MB", "40", "d", "39", "d"],
        ["squeezenet1_1", "@64", "3", "3.0", "MB", "2", "d", "1", "d"],
    ]
    run = _run(tmp_path / "run", {name: ROWS[name] for name in list(ROWS)[:3]}, monkeypatch)
    told = json.loads(command("store", "ls", text, "--by", "run", "--run", str(run), "--json").out)
    assert {row["name"]: row["count"] for row in told["rows"]} == {str(run): 3, "no run given": 2}


def _run(folder: Path, rows: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder that holds these; whatever else is asked of it must be set by the test."""
    _fill(folder / "store", rows)
    (folder / RECORD).touch()
    monkeypatch.setattr(study, "load_run", lambda folder: None)
    return folder


@pytest.mark.parametrize(
    ("rules", "gone"),
    [
        (("--max-size", "4MB"), ["0"]),
        (("--max-size", "3.9MB"), ["0", "2"]),
        (("--max-size", "8MB"), []),
        (("--older-than", "30d"), ["0", "2"]),
        (("--older-than", "30d", "--max-size", "1MB"), ["0", "1", "2"]),
    ],
)
def test_what_goes_is_counted_first_and_removed_with_yes(
    command: Callable[..., Any], place: tuple[str, Any], rules: tuple[str, ...], gone: list[str]
) -> None:
    text, shelf = place
    dry = command("store", "gc", text, *rules)
    assert dry.code == 0 and f"Would remove {len(gone)} of 5 results" in dry.out
    assert ("--yes removes them" in dry.out) == bool(gone) and _names(shelf) == set(ROWS)
    done = command("store", "gc", text, *rules, "--yes")
    assert done.code == 0 and f"Removed {len(gone)} of 5 results" in done.out
    assert _names(shelf) == {name for name in ROWS if name[1][0] not in gone}
    left = sum(ROWS[name][0] for name in _names(shelf))
    assert f"{left / 1e6:.1f} MB stay" in done.out


def test_what_no_run_holds_goes_from_a_shared_store(
    command: Callable[..., Any], place: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, shelf = place
    answer = command("store", "gc", text, "--unused", "--yes")
    assert answer.code == 2 and "--unused needs the runs" in answer.err and _names(shelf) == set(ROWS)
    names = list(ROWS)
    runs = [_run(tmp_path / n, {name: ROWS[name]}, monkeypatch) for n, name in zip("ab", names[1:3], strict=True)]
    answer = command("store", "gc", text, "--unused", "--run", str(runs[0]), "--run", str(runs[1]), "--yes")
    assert answer.code == 0 and _names(shelf) == set(names[1:3])


@pytest.fixture
def run(tmp_path: Path, draw_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, set[Any]]:
    """A run folder with 12 packages and their training; and the names of the packages of its front."""
    folder, drawn = tmp_path / "run", draw_run(12)
    keys = {r.trial: f"{r.trial:016x}" for r in drawn.scored()}
    rows = {("package", key): (1000, float(number), "net, fp16") for number, key in keys.items()}
    _fill(folder / "store", {**rows, ("train", "f" * 16): (9000, 50.0, "net"), ("convert", "e" * 16): (10, 1.0, "net")})
    (folder / RECORD).touch()
    import dataclasses

    def placed(result: Any) -> Any:
        if not isinstance(result.outcome, Scored):
            return result
        package = folder / "store" / "package" / keys[result.trial] / "model.mlpackage"
        return dataclasses.replace(result, outcome=dataclasses.replace(result.outcome, package=package))

    run = dataclasses.replace(drawn, folder=folder, results=tuple(map(placed, drawn.results)))
    monkeypatch.setattr(study, "load_run", lambda folder: run)
    return folder, {("package", keys[result.trial]) for result in front(run)}


def test_a_run_keeps_its_front(command: Callable[..., Any], run: tuple[Path, set[Any]]) -> None:
    folder, best = run
    shelf = Folder(folder / "store")
    assert 0 < len(best) < 12
    assert command("store", "gc", folder, "--unused", "--yes").code == 0
    assert _names(shelf) == best | {("train", "f" * 16)}
    assert command("store", "gc", folder, "--older-than", "1s", "--max-size", "1B", "--yes").code == 0
    assert _names(shelf) == best
    assert command("store", "gc", folder, "--max-size", "1B", "--front-too", "--yes").code == 0
    assert _names(shelf) == set()


def test_a_run_that_is_being_searched_is_left_alone(command: Callable[..., Any], run: tuple[Path, set[Any]]) -> None:
    folder, _ = run
    before = _names(Folder(folder / "store"))
    with sole_search(folder):
        for arguments in (("gc", "--max-size", "1B", "--yes"), ("verify", "--repair")):
            answer = command("store", arguments[0], str(folder), *arguments[1:])
            assert answer.code == 2 and "Only one search at a time works in a run folder" in answer.err
        assert command("store", "gc", folder, "--max-size", "1B").code == 0  # only counted
    assert _names(Folder(folder / "store")) == before
    assert (folder / LOCK).is_file()


def test_damage_is_found_counted_and_removed(
    command: Callable[..., Any], run: tuple[Path, set[Any]], tmp_path: Path
) -> None:
    folder, _ = run
    assert command("store", "verify", folder).out == f"{folder}/store: 14 whole, 0 damaged\n"
    package = folder / "store" / "package"
    (package / f"{1:016x}" / "model.mlpackage" / "w").write_bytes(bytes(999) + b"x")
    (package / f"{2:016x}" / "model.mlpackage" / "w").write_bytes(bytes(10))
    (package / f"{3:016x}" / MANIFEST).unlink()
    answer = command("store", "verify", folder)
    assert answer.code == 2 and answer.out.splitlines() == [
        f"package/{1:016x}: model.mlpackage/w has changed",
        f"package/{2:016x}: model.mlpackage/w has 10 of 1000 bytes",
        f"package/{3:016x}: its manifest.json is missing or cannot be read",
        f"{folder}/store: 11 whole, 3 damaged",
    ]
    told = json.loads(command("store", "verify", folder, "--json").out)
    assert told["whole"] == 11 and [row["key"] for row in told["damaged"]] == [f"{n:016x}" for n in (1, 2, 3)]
    answer = command("store", "verify", folder, "--repair")
    assert answer.code == 0 and answer.out.count(", removed") == 3
    assert command("store", "verify", folder).out == f"{folder}/store: 11 whole, 0 damaged\n"


def test_an_unfinished_training_goes_by_its_age_unless_somebody_is_at_it(
    command: Callable[..., Any], run: tuple[Path, set[Any]]
) -> None:
    from coreml_pareto.search.lock import turn

    folder, _ = run
    work = Folder(folder / "store").work("train-0123")
    (work / "checkpoint.pt").write_bytes(bytes(100))
    assert "unfinished: 1, 0.0 MB" in command("store", "ls", folder).out
    answer = command("store", "gc", folder, "--older-than", "1000d", "--yes")
    assert answer.code == 0 and work.is_dir() and "unfinished" not in answer.out
    for path in (work / "checkpoint.pt", work):
        os.utime(path, (1e9, 1e9))
    for rule in (("--max-size", "100GB"), ("--unused",)):  # a stopped training may be gone on with
        answer = command("store", "gc", folder, *rule, "--yes")
        assert answer.code == 0 and work.is_dir() and "unfinished" not in answer.out
    with turn(work.with_name("train-0123.lock"), lambda: None):
        command("store", "gc", folder, "--older-than", "1000d", "--yes")
        assert work.is_dir()
    assert "unfinished: 1" in command("store", "gc", folder, "--older-than", "1000d", "--yes").out
    assert not work.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("gc", "{}"), "store gc needs a rule"),
        (("gc", "{}", "--max-size", "much"), "a limit on size"),
        (("gc", "{}", "--older-than", "old"), "A duration is written like"),
        (("ls", "{}", "--by", "colour"), "--by is kind, network or run; got 'colour'"),
        (("ls", "{}", "--by", "run"), "--by run needs the runs"),
        (("ls", "{}/nothing"), "There is no store in"),
        (("verify", "s3://bucket/store"), "driver that is not installed"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    command: Callable[..., Any], run: tuple[Path, set[Any]], arguments: tuple[str, ...], told: str
) -> None:
    answer = command("store", *(text.replace("{}", str(run[0])) for text in arguments))
    assert answer.code == 2 and told in answer.err and answer.err.count("\n") == 1


def test_a_run_that_is_none_is_refused(command: Callable[..., Any], tmp_path: Path) -> None:
    _fill(tmp_path / "shared", ROWS)
    answer = command("store", "gc", tmp_path / "shared", "--unused", "--run", tmp_path, "--yes")
    assert answer.code == 2 and "is no run folder" in answer.err and _names(Folder(tmp_path / "shared")) == set(ROWS)


def test_the_users_own_store_is_meant_where_none_is_named(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.get_app_dir", lambda name: str(tmp_path))
    assert "There is no store in" in command("store", "ls").err
    _fill(tmp_path / "store", ROWS)
    assert json.loads(command("store", "ls", "--json").out)["store"] == str(tmp_path / "store")


def test_the_record_of_a_run_has_one_name() -> None:
    assert (RECORD, MACHINE) == (record.DATABASE, record.MACHINE)
    with pytest.raises(UserError, match="no run folder"):
        study.load_run(Path("/nowhere"))
