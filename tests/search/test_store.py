"""The store publishes whole results or none."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.search.store import Store, stage_key, tool_versions, write_atomically


def _answer(text: str) -> Callable[[Path], None]:
    def make(work: Path) -> None:
        (work / "answer").write_text(text)

    return make


def test_a_result_is_made_once(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def make(work: Path) -> None:
        calls.append(work)
        (work / "answer").write_text("42")

    first, second = store.produce("stage", "key", make), store.produce("stage", "key", make)
    assert first == second == store.find("stage", "key")
    assert (first / "answer").read_text() == "42"
    assert len(calls) == 1


def test_what_raises_is_not_published_and_its_work_is_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def stumble(work: Path) -> None:
        (work / "checkpoint").write_text("half")
        raise RuntimeError("stumbled")

    with pytest.raises(RuntimeError, match="stumbled"):
        store.produce("stage", "key", stumble)
    assert store.find("stage", "key") is None
    seen: list[str] = []
    store.produce("stage", "key", lambda work: seen.append((work / "checkpoint").read_text()))
    assert seen == ["half"]


def test_keys_follow_content_and_tools() -> None:
    assert stage_key(a=1, b=[2]) == stage_key(b=[2], a=1)
    assert stage_key(a=1) != stage_key(a=2)
    # Ours included: after a release that mends the executor, no old accuracy is taken for a new one.
    assert set(tool_versions()) >= {"coreml-pareto", "coremltools", "numpy", "pillow", "timm", "torch", "torchvision"}


def test_two_makers_of_the_same_content_agree(tmp_path: Path) -> None:
    """The slower of two processes finds the result published and keeps it."""
    store = Store(tmp_path)

    def make(work: Path) -> None:
        (work / "answer").write_text("slow")
        Store(tmp_path / "elsewhere").produce("stage", "key", _answer("fast"))
        (tmp_path / "stage").mkdir()
        (tmp_path / "elsewhere" / "stage" / "key").rename(tmp_path / "stage" / "key")  # the faster publishes in between

    assert (store.produce("stage", "key", make) / "answer").read_text() == "fast"


def test_small_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def _make_slowly(root: Path, held: Any, made: Any) -> None:
    def make(work: Path) -> None:
        held.set()
        time.sleep(1.0)
        (work / "answer").write_text(str(os.getpid()))
        made.value += 1

    Store(root).produce("stage", "key", make)


def test_what_another_process_is_making_is_waited_for_and_made_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    held, made, waits = spawn.Event(), spawn.Value("i", 0), list[float]()
    other = spawn.Process(target=_make_slowly, args=(tmp_path, held, made))
    other.start()
    assert held.wait(60)
    store = Store(tmp_path, waiting=lambda: waits.append(time.monotonic()))
    answer = store.produce("stage", "key", lambda work: pytest.fail("made twice"))
    assert (answer / "answer").read_text() == str(other.pid) and made.value == 1 and waits
    assert list((tmp_path / ".work").iterdir()) == []
    other.join()


def test_what_is_raised_while_waiting_is_passed_on(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    held, made = spawn.Event(), spawn.Value("i", 0)
    other = spawn.Process(target=_make_slowly, args=(tmp_path, held, made))
    other.start()
    assert held.wait(60)

    def over() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        Store(tmp_path, waiting=over).produce("stage", "key", lambda work: pytest.fail("made twice"))
    other.join()
    assert made.value == 1 and (tmp_path / "stage" / "key").is_dir()


def test_who_waited_for_a_maker_that_was_killed_goes_on_with_its_work(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    other = spawn.Process(target=_write_slowly, args=(tmp_path,))
    other.start()
    while not (tmp_path / ".work" / "stage-key" / "20").exists():
        time.sleep(0.01)

    def kill() -> None:
        assert other.pid
        os.kill(other.pid, signal.SIGKILL)
        other.join()

    found: list[bool] = []
    Store(tmp_path, waiting=kill).produce("stage", "key", lambda work: found.append((work / "20").exists()))
    assert found == [True] and other.exitcode == -signal.SIGKILL


def _write_slowly(root: Path) -> None:
    def make(work: Path) -> None:
        for i in range(1000):
            (work / f"{i}").write_text("x" * 1000)
            time.sleep(0.001)

    Store(root).produce("stage", "key", make)


def test_a_killed_maker_publishes_nothing(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_write_slowly, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 60
    while not list((tmp_path / ".work").glob("*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert Store(tmp_path).find("stage", "key") is None
