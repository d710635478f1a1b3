"""One search at a time in a run folder, and no run folder where none can be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coreml_pareto.search.lock import LOCK, at_work, sole_search
from coreml_pareto.spaces.errors import UserError

HOLD = (
    "import sys, time; from pathlib import Path; from coreml_pareto.search.lock import sole_search\n"
    "with sole_search(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)\n"
)


def test_a_second_search_is_refused_until_the_first_one_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        assert at_work(folder)
        with pytest.raises(UserError, match=f"one is at work in {folder}"), sole_search(folder):
            pytest.fail("two searches in one folder")
        with sole_search(tmp_path / "runs" / "two"):
            pass
        os.kill(first.pid, signal.SIGKILL)
    with sole_search(folder):
        assert (folder / LOCK).is_file()


def test_it_is_free_again_after_the_end_and_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").touch()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), sole_search(tmp_path):
            raise ZeroDivisionError
    with sole_search(tmp_path), pytest.raises(UserError, match="one is at work"), sole_search(tmp_path):
        pytest.fail("two searches in one folder")


def test_folders_made_for_a_search_that_wrote_nothing_are_removed_again(tmp_path: Path) -> None:
    with sole_search(tmp_path / "runs" / "one"):
        pass
    assert list(tmp_path.iterdir()) == []
    with sole_search(tmp_path / "runs" / "one"):
        (tmp_path / "runs" / "one" / "study.yaml").touch()
    assert (tmp_path / "runs" / "one" / "study.yaml").is_file()
    given = tmp_path / "given"
    given.mkdir()
    with sole_search(given):
        pass
    assert given.is_dir()


def test_a_lock_that_its_holder_removed_meanwhile_guards_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking, the holder ends and removes the file; the next file is taken, and it guards."""
    opened, original = [], os.open

    def late(path: Path, *rest: int) -> int:
        handle = original(path, *rest)
        if not opened:
            Path(path).unlink()
        opened.append(handle)
        return handle

    monkeypatch.setattr(os, "open", late)
    with sole_search(tmp_path):
        assert len(opened) == 2
        with pytest.raises(UserError, match="one is at work"), sole_search(tmp_path):
            pytest.fail("two searches in one folder")


def test_what_is_no_folder_or_cannot_be_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    refused = {file: "it is a file", file / "run": "Not a directory"}
    for folder, reason in refused.items():
        with pytest.raises(UserError, match=f"{folder} is not: {reason}; choose another --run"), sole_search(folder):
            pytest.fail("no folder")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere, so it is only said here
    with pytest.raises(UserError, match="no permission to write"), sole_search(tmp_path):
        pytest.fail("not writable")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_whether_a_search_is_at_work_is_seen_without_making_a_file(tmp_path: Path) -> None:
    assert not at_work(tmp_path) and not list(tmp_path.iterdir())
    with sole_search(tmp_path):
        assert at_work(tmp_path)
    assert not at_work(tmp_path)


def test_a_look_at_the_lock_refuses_no_search(tmp_path: Path) -> None:
    """`at_work` holds it shared for an instant; here the instant is 0.2 seconds."""
    with sole_search(tmp_path):
        pass
    look = (
        "import fcntl, os, sys, time; handle = os.open(sys.argv[1], os.O_RDONLY)\n"
        "fcntl.flock(handle, fcntl.LOCK_SH); print('held', flush=True); time.sleep(0.2)\n"
    )
    command = [sys.executable, "-c", look, str(tmp_path / LOCK)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as looking:
        assert looking.stdout is not None and looking.stdout.readline() == "held\n"
        with sole_search(tmp_path):
            assert at_work(tmp_path)
