"""Who makes what several want, what a kill leaves, and what damage costs: the store of a run before a shared one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coreml_pareto.search.store import MANIFEST, Folder, Manifest, Store

KEY = "0123456789abcdef"
MAKER = """
import sys, time
from pathlib import Path
from coreml_pareto.search.store import Folder, Store
own, shared, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
def make(work):
    with (own.parent / "makers").open("a") as file:
        file.write(own.name + "\\n")
    print("making", flush=True)
    time.sleep(seconds)
    (work / "answer").write_text(own.name)
found = Store(own, Folder(Path(shared)) if shared else None).produce("train", "0123456789abcdef", make)
print((found / "answer").read_text(), flush=True)
"""


def _process(own: Path, shared: Path | None, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAKER, str(own), str(shared or ""), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _write(text: str) -> Callable[[Path], None]:
    def make(work: Path) -> None:
        (work / "answer").write_text(text)

    return make


def _never(work: Path) -> None:
    raise AssertionError("it is there")


@pytest.mark.parametrize("sharing", [True, False])
def test_of_several_processes_one_makes_and_the_others_wait(tmp_path: Path, sharing: bool) -> None:
    """Runs with folders of their own share by a store; without one, processes of one run share its folder."""
    owns = [tmp_path / (f"run-{number}" if sharing else "run") for number in range(3)]
    processes = [_process(own, tmp_path / "shared" if sharing else None, 0.5) for own in owns]
    said = [process.communicate(timeout=120)[0].split()[-1] for process in processes]
    assert len((tmp_path / "makers").read_text().split()) == 1
    assert len(set(said)) == 1
    assert list((tmp_path / "shared" if sharing else tmp_path / "run").glob(".work/*")) == []


def test_a_maker_that_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    with _process(tmp_path / "run-0", tmp_path / "shared", 60) as first:
        assert first.stdout is not None and first.stdout.readline() == "making\n"
        waits: list[float] = []

        def waiting() -> None:
            waits.append(time.monotonic())
            os.kill(first.pid, signal.SIGKILL)

        store = Store(tmp_path / "run-1", Folder(tmp_path / "shared"), waiting)
        assert (store.produce("train", KEY, _write("second")) / "answer").read_text() == "second"
    assert len(waits) >= 1


def test_what_the_wait_raises_ends_it(tmp_path: Path) -> None:
    with _process(tmp_path / "run", None, 60) as first:
        assert first.stdout is not None and first.stdout.readline() == "making\n"

        def over() -> None:
            raise TimeoutError("over")

        with pytest.raises(TimeoutError, match="over"):
            Store(tmp_path / "run", waiting=over).produce("train", KEY, _never)
        first.kill()


CUT = """
import os, sys
from pathlib import Path
from coreml_pareto.search.store import Folder, Store
calls = int(sys.argv[3])
def cut(name):
    original = getattr(os, name)
    def call(*arguments, **options):
        global calls
        calls -= 1
        if calls < 0:
            os._exit(9)
        return original(*arguments, **options)
    setattr(os, name, call)
def make(work):
    (work / "weights").mkdir(exist_ok=True)
    (work / "weights" / "a").write_text("whole" * 1000)
    (work / "b").write_text("whole")
for name in ("link", "rename", "replace", "fsync", "mkdir", "unlink", "rmdir", "open"):
    cut(name)
Store(Path(sys.argv[1]), Folder(Path(sys.argv[2]))).produce("train", "0123456789abcdef", make)
os._exit(0)
"""


def test_killed_before_any_call_of_the_system_nothing_half_written_is_seen(tmp_path: Path) -> None:
    """Each call in turn is the last one; whoever comes next finds the result whole, or none, and makes it."""
    calls, ends, seen = 0, [], []
    while not ends or ends[-1]:
        own, shared = tmp_path / f"own-{calls}", tmp_path / f"shared-{calls}"
        script = [sys.executable, "-c", CUT, str(own), str(shared), str(calls)]
        ends.append(subprocess.run(script, check=False).returncode)
        lines: list[str] = []
        for root in (own, shared):
            found = Folder(root).find("train", KEY)  # raises if it is there and not whole
            seen.append(found is not None)
        store = Store(tmp_path / f"next-{calls}", Folder(shared), tell=lines.append)
        result = store.produce("train", KEY, _make_again)
        assert (result / "weights" / "a").read_text() == "whole" * 1000 and (result / "b").read_text() == "whole"
        same = Store(own, Folder(shared), tell=lines.append).produce("train", KEY, _make_again)
        assert (same / "b").read_text() == "whole" and lines == []
        calls += 3
    assert len(ends) > 5 and set(ends) == {0, 9} and set(seen) == {True, False}


def _make_again(work: Path) -> None:
    (work / "weights").mkdir(exist_ok=True)
    (work / "weights" / "a").write_text("whole" * 1000)
    (work / "b").write_text("whole")


def test_what_was_finished_and_not_yet_published_is_not_made_again(tmp_path: Path) -> None:
    """Killed between the manifest and the rename."""
    store = Store(tmp_path)
    result = store.produce("train", KEY, _write("42"))
    (tmp_path / ".work").mkdir(exist_ok=True)
    result.rename(tmp_path / ".work" / f"train-{KEY}")
    assert (store.produce("train", KEY, _never) / "answer").read_text() == "42"


@pytest.mark.parametrize("change", ["truncated", "flipped", "gone", "manifest"])
def test_a_damaged_result_of_the_run_is_made_anew(tmp_path: Path, change: str) -> None:
    lines: list[str] = []
    store = Store(tmp_path, tell=lines.append)
    answer = store.produce("train", KEY, _write("42")) / "answer"
    match change:
        case "truncated":
            answer.write_text("4")
        case "flipped":
            answer.write_text("43")
            os.utime(answer, ns=(answer.stat().st_atime_ns, answer.stat().st_mtime_ns + 1))
        case "gone":
            answer.unlink()
        case "manifest":
            (answer.parent / MANIFEST).write_text("{")
    assert (store.produce("train", KEY, _write("anew")) / "answer").read_text() == "anew"
    (line,) = lines
    assert f"train/{KEY} in {tmp_path} was damaged" in line and "made anew" in line
    assert Store(tmp_path).find("train", KEY) is not None


def test_another_process_sees_what_was_flipped_behind_unchanged_times(tmp_path: Path) -> None:
    """Bytes are read once by each process, whatever a file's times say."""
    answer = Store(tmp_path).produce("train", KEY, _write("42")) / "answer"
    times = answer.stat()
    answer.write_text("43")
    os.utime(answer, ns=(times.st_atime_ns, times.st_mtime_ns))
    lines: list[str] = []
    assert Store(tmp_path, tell=lines.append).find("train", KEY) is None and "answer has changed" in lines[0]


def test_a_shared_result_is_fetched_and_stays_when_the_store_is_gone(tmp_path: Path) -> None:
    shared = Folder(tmp_path / "shared")
    Store(tmp_path / "a", shared).produce("train", KEY, _write("42"), "net, 3 epochs")
    fetched = Store(tmp_path / "b", shared).produce("train", KEY, _never)
    assert fetched == tmp_path / "b" / "train" / KEY and (fetched / "answer").read_text() == "42"
    assert Manifest.load(fetched).about == "net, 3 epochs"
    (artifact,) = shared.artifacts()
    shared.remove(artifact)
    assert (Store(tmp_path / "b").produce("train", KEY, _never) / "answer").read_text() == "42"


def test_the_first_that_was_published_is_taken_by_all(tmp_path: Path) -> None:
    """Two machines without a common lock: the slower one takes the other's, or packages would not fit their training."""
    shared = Folder(tmp_path / "shared")

    def slow(work: Path) -> None:
        (work / "answer").write_text("slow")
        fast = Store(tmp_path / "fast").produce("train", KEY, _write("fast"))
        assert shared.publish("train", KEY, fast)

    found = Store(tmp_path / "slow", shared).produce("train", KEY, slow)
    assert (found / "answer").read_text() == "fast"
    assert list((tmp_path / "slow" / ".work").iterdir()) == []


def test_a_shared_store_that_refuses_is_told_once_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Folder, "fetch", refuse)
    monkeypatch.setattr(Folder, "publish", refuse)
    monkeypatch.setattr(Folder, "lock", _lock_here(tmp_path))
    lines: list[str] = []
    store = Store(tmp_path / "run", Folder(tmp_path / "shared"), tell=lines.append)
    for number in range(3):
        assert (store.produce("train", f"{number:016}", _write("42")) / "answer").is_file()
    assert len(lines) == 2 and all("Permission denied" in line for line in lines)
    assert "cannot be read" in lines[0] and "cannot be written" in lines[1]


def _lock_here(tmp_path: Path) -> Callable[[Folder, str, str], Path]:
    def lock(folder: Folder, stage: str, key: str) -> Path:
        if folder.root.name == "shared":
            raise PermissionError(13, "Permission denied")
        return tmp_path / "lock"

    return lock
