"""A disk that is full or closed: nothing half-written is seen, one sentence, and the same goes on with room.

A real disk of two megabytes is mounted where that is allowed (root on Linux); elsewhere the calls are doubles.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coreml_pareto.search.stages.checkpoint import restore, save
from coreml_pareto.search.store import (
    DiskError,
    Folder,
    Store,
    disk,
    require_disk,
    watching_the_disk,
    write_atomically,
    write_whole,
)  # fmt: skip
from coreml_pareto.spaces.errors import UserError

KEY = "0123456789abcdef"
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB; `mount -o remount,...` changes it."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root on Linux, to mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)


def _megabytes(count: int) -> Any:
    def make(work: Path) -> None:
        (work / "weights").write_bytes(os.urandom(1_000_000) * count)

    return make


def test_a_full_disk_publishes_nothing_and_with_room_the_same_goes_on(small: Path) -> None:
    store = Store(small / "store")
    store.produce("train", "0" * 16, _megabytes(1))
    with pytest.raises(OSError) as told:
        store.produce("train", KEY, _megabytes(3))
    with pytest.raises(DiskError, match=rf"The disk of {small}/store is full .*same command then goes on"):
        require_disk(store.root, told.value)
    assert store.find("train", KEY) is None and store.find("train", "0" * 16) is not None
    _remount(small, "size=20m")
    assert (store.produce("train", KEY, _megabytes(3)) / "weights").stat().st_size == 3_000_000


def test_a_closed_disk_is_told_and_opened_the_same_goes_on(small: Path) -> None:
    store = Store(small / "store")
    store.produce("train", "0" * 16, _megabytes(1))
    _remount(small, "ro")
    assert store.produce("train", "0" * 16, _megabytes(1)).is_dir()  # reading goes on
    with pytest.raises(OSError) as told:
        store.produce("train", KEY, _megabytes(0))
    with pytest.raises(DiskError, match=rf"{small}/store cannot be written \(Read-only file system\)"):
        require_disk(store.root, told.value)
    _remount(small, "rw,size=20m")
    assert store.produce("train", KEY, _megabytes(0)).is_dir()


def test_a_shared_disk_that_is_full_is_done_without(small: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    store = Store(tmp_path / "run", Folder(small / "shared"), tell=lines.append)
    assert (store.produce("train", KEY, _megabytes(3)) / "weights").stat().st_size == 3_000_000
    (line,) = lines
    assert "No space left on device" in line and "the run goes on with its own folder" in line
    assert list(Folder(small / "shared").artifacts()) == [] and list(Folder(small / "shared").leftovers()) == []


def test_tensors_on_a_full_disk_keep_the_last_whole_checkpoint(small: Path) -> None:
    import torch

    path = small / "checkpoint.pt"
    save({"epoch": 1, "weights": torch.zeros(1000)}, path)
    with pytest.raises(OSError, match="No space left"):
        save({"epoch": 2, "weights": torch.rand(1_000_000)}, path)
    kept = restore(path)
    assert kept is not None and kept["epoch"] == 1 and list(small.iterdir()) == [path]


def test_a_damaged_checkpoint_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import torch

    path = tmp_path / "checkpoint.pt"
    assert restore(path) is None
    save({"epoch": 1, "weights": torch.rand(1000)}, path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:200] + bytes(200) + whole[400:]):
        path.write_bytes(content)
        assert restore(path) is None
        assert "the training begins anew" in caplog.text
        caplog.clear()
    path.write_bytes(whole)
    assert (restore(path) or {})["epoch"] == 1


@pytest.mark.parametrize("write", [write_atomically, lambda path, text: write_whole(path, text.encode())])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_that_cannot_be_finished_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, call: str
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="No space left"):
        write(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def _free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda place: SimpleNamespace(free=size))


def test_which_errors_are_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, 10**9)
    require_disk(tmp_path / "not" / "yet", ValueError("a defect"))
    require_disk(tmp_path, PermissionError(errno.EACCES, "of a picture"))
    for code in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(DiskError, match="is full"):
            require_disk(tmp_path / "not" / "yet", OSError(code, "full"))
    _free(monkeypatch, 1_500_000)
    with pytest.raises(DiskError, match=r"is full \(1.5 MB are free\)"):
        require_disk(tmp_path, RuntimeError("file write failed"))  # as torch and coremltools put it

    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", refuse)
    with pytest.raises(
        DiskError, match=rf"{tmp_path} cannot be written \(Permission denied\): make room, or give access"
    ):
        require_disk(tmp_path, RuntimeError("attempt to write a readonly database"))


def test_refusals_and_defects_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, 10**9)
    for error in (UserError("as it is"), ValueError("a defect"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as told, watching_the_disk(tmp_path):
            raise error
        assert told.value is error
    with pytest.raises(DiskError) as told, watching_the_disk(tmp_path):
        raise FULL
    assert told.value.__cause__ is FULL
