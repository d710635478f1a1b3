"""What every place of results must do: a folder, and object stores of two kinds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from coreml_pareto.search.store import MANIFEST, Artifact, Damaged, Folder, Manifest, Remote, Shelf, Store

KEY = "0123456789abcdef"
OTHER = "fedcba9876543210"


@pytest.fixture(params=["folder", "memory", "files"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """Empty."""
    if request.param == "folder":
        return Folder(tmp_path / "shelf")
    if request.param == "files":
        return Remote(fsspec.filesystem("file"), str(tmp_path / "objects"), "objects")
    fs = fsspec.filesystem("memory", skip_instance_cache=True)
    fs.store.clear()  # one dictionary for all instances
    return Remote(fs, "/bucket/store", "memory://bucket/store")


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """made("text"): a finished result in a store of its own."""

    def make(text: str, key: str = KEY) -> Path:
        def write(work: Path) -> None:
            (work / "model" / "weights").mkdir(parents=True, exist_ok=True)
            (work / "model" / "weights" / "weight.bin").write_text(text * 100)
            (work / "record.json").write_text(text)

        number = len(list(tmp_path.glob("own-*")))
        return Store(tmp_path / f"own-{number}").produce("train", key, write, f"net of {text}, twice")

    return make


def _content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST
    }  # fmt: skip


def _spoil(shelf: Shelf, name: str, change: Callable[[bytes], bytes] | None) -> None:
    """Change a file of the only result, or remove it."""
    if isinstance(shelf, Folder):
        (path,) = shelf.root.glob(f"train/*/{name}")
        content = path.read_bytes()
        path.unlink()  # linked with the place that it came from
        if change:
            path.write_bytes(change(content))
        return
    assert isinstance(shelf, Remote)
    (found,) = [path for path in shelf.fs.find(shelf.root) if path.endswith("/" + name)]
    content = shelf.fs.cat_file(found)
    shelf.fs.rm_file(found)
    if change:
        shelf.fs.pipe_file(found, change(content))


def test_what_was_published_is_fetched_whole(shelf: Shelf, made: Callable[..., Path], tmp_path: Path) -> None:
    result = made("first")
    assert not shelf.fetch("train", KEY, tmp_path / "to")
    shelf.probe()
    assert list(shelf.artifacts()) == []
    assert shelf.publish("train", KEY, result)
    (tmp_path / "to").mkdir()
    assert shelf.fetch("train", KEY, tmp_path / "to")
    assert _content(tmp_path / "to") == _content(result) and len(_content(result)) == 2
    assert Manifest.load(tmp_path / "to") == Manifest.load(result)
    assert not shelf.fetch("train", OTHER, tmp_path / "none") and not shelf.fetch("package", KEY, tmp_path / "none")


def test_the_first_to_publish_wins(shelf: Shelf, made: Callable[..., Path], tmp_path: Path) -> None:
    assert shelf.publish("train", KEY, made("first")) and not shelf.publish("train", KEY, made("second"))
    assert shelf.fetch("train", KEY, tmp_path / "to")
    assert (tmp_path / "to" / "record.json").read_text() == "first"
    assert list(shelf.leftovers()) == []


def test_what_is_listed_and_removed(shelf: Shelf, made: Callable[..., Path], tmp_path: Path) -> None:
    for key in (KEY, OTHER):
        shelf.publish("train", key, made(key, key))
    found = {row.key: row for row in shelf.artifacts()}
    assert {(row.stage, row.key, row.size) for row in found.values()} == {
        ("train", key, 101 * len(key)) for key in (KEY, OTHER)
    }
    manifest = found[KEY].manifest
    assert manifest is not None and manifest.about == f"net of {KEY}, twice" and found[KEY].created > 1.7e9
    shelf.remove(found[KEY])
    assert [row.key for row in shelf.artifacts()] == [OTHER]
    assert not shelf.fetch("train", KEY, tmp_path / "gone")
    shelf.remove(found[KEY])  # twice is once
    assert shelf.publish("train", KEY, made("again"))


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("record.json", lambda content: content[:-1], "record.json has 4 of 5 bytes"),
        ("record.json", lambda content: b"F" + content[1:], "record.json has changed"),
        ("weight.bin", lambda content: content[:-1] + b"?", "weight.bin has changed"),
        ("weight.bin", None, "weight.bin is missing"),
        (MANIFEST, lambda content: content[:-9], "cannot be read"),
        (MANIFEST, lambda content: content.replace(b"record.json", b"../cord.json"), "cannot be read"),
    ],
)
def test_damage_is_told_and_never_used(
    shelf: Shelf, made: Callable[..., Path], tmp_path: Path, name: str, change: Any, told: str
) -> None:
    shelf.publish("train", KEY, made("first"))
    (before,) = shelf.artifacts()
    assert shelf.damage(before) is None
    if name == "weight.bin" and isinstance(shelf, Folder):
        name = "model/weights/weight.bin"
    _spoil(shelf, name, change)
    (after,) = shelf.artifacts()
    assert told in str(shelf.damage(after))
    lines: list[str] = []

    def make(work: Path) -> None:
        (work / "record.json").write_text("anew")

    store = Store(tmp_path / "run", shelf, tell=lines.append)
    assert (store.produce("train", KEY, make) / "record.json").read_text() == "anew"
    assert len(lines) == 1 and f"train/{KEY} in {shelf.name} was damaged" in lines[0] and "made anew" in lines[0]
    second = Store(tmp_path / "second", shelf).produce("train", KEY, _never)
    assert (second / "record.json").read_text() == "anew"


def _never(work: Path) -> None:
    raise AssertionError("it is there")


def test_a_manifest_that_leads_out_of_the_result_is_refused() -> None:
    digest = hashlib.sha256(b"").hexdigest()
    for name in ("../a", "/etc/passwd", "a/../../b", "..\\a"):
        with pytest.raises(Damaged, match="leads out of the result"):
            Manifest.parse(Manifest({name: (0, digest)}).dump())
    with pytest.raises(Damaged, match="leads out of the result"):
        Manifest.parse(Manifest({}, place="../elsewhere").dump())
    for content in (b"", b"[]", b"{}", b'{"files": {"a": 3}}', b"\xff"):
        with pytest.raises(Damaged, match="cannot be read"):
            Manifest.parse(content)


class Flaky:
    """A file system whose n-th call that writes or reads raises, and all after it: a machine that loses its network."""

    def __init__(self, fs: Any, calls: int) -> None:
        self.fs, self.left, self.cut = fs, calls, False

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.left == 0:
                self.cut = True
                raise ConnectionError("the network is gone")
            self.left -= 1
            return getattr(self.fs, name)(*arguments, **options)

        return call


def test_an_upload_cut_at_any_call_leaves_nothing_to_read_and_the_run_goes_on(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    fs = fsspec.filesystem("memory", skip_instance_cache=True)
    fs.store.clear()
    calls, results = 0, []
    while True:
        flaky, lines = Flaky(fs, calls), list[str]()
        store = Store(tmp_path / f"run-{calls}", Remote(flaky, "/bucket", "memory://bucket"), tell=lines.append)
        result = store.produce("train", KEY, lambda work: [(work / n).write_text(n) for n in "abc"] and None)
        assert _content(result) == {n: n.encode() for n in "abc"}
        results.append(Remote(fs, "/bucket", "whole").fetch("train", KEY, tmp_path / f"seen-{calls}"))
        if not flaky.cut:
            break
        assert lines and all("the network is gone" in line and "goes on with its own folder" in line for line in lines)
        assert results[-1] is False
        calls += 1
    assert calls > 5 and results[-1] is True
    remote = Remote(fs, "/bucket", "whole")
    begun = list(remote.leftovers())
    assert begun and all(row.size <= 3 for row in begun)  # what the cut uploads left
    for row in begun:
        remote.clear(row)
    assert list(remote.leftovers()) == [] and remote.fetch("train", KEY, tmp_path / "at last")


def test_results_of_one_disk_are_linked(made: Callable[..., Path], tmp_path: Path) -> None:
    shelf = Folder(tmp_path / "shelf")
    result = made("first")
    shelf.publish("train", KEY, result)
    assert os.path.samefile(result / "record.json", shelf.root / "train" / KEY / "record.json")


def test_results_are_copied_where_links_cannot_be(
    made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    shelf, result = Folder(tmp_path / "shelf"), made("first")
    assert shelf.publish("train", KEY, result)
    assert not os.path.samefile(result / "record.json", shelf.root / "train" / KEY / "record.json")
    assert shelf.damage(Artifact("train", KEY, Manifest.load(result))) is None


def test_folders_that_are_not_ours_are_never_listed(tmp_path: Path) -> None:
    (tmp_path / "photos" / "holiday").mkdir(parents=True)
    (tmp_path / "train" / "0123456789ABCDEF").mkdir(parents=True)
    assert list(Folder(tmp_path).artifacts()) == []
