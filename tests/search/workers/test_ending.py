"""How ends are told: exit codes, signals, the kernel's kills for memory, last words."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coreml_pareto.search.workers.ending import LIMIT, LONGEST, bound, cause, kills_for_memory, last_words


@pytest.mark.parametrize(
    ("code", "last", "kills", "told"),
    [
        (0, "", (1, 1), "exit code 0, without a word"),
        (3, "ValueError: x", (1, 1), "exit code 3: ValueError: x"),
        (-signal.SIGSEGV, "", (1, 1), "SIGSEGV, without a word"),
        (-signal.SIGBUS, "", (None, None), "SIGBUS, without a word"),
        (-120, "", (1, 1), "signal 120, without a word"),
        (-signal.SIGKILL, "", (None, None), "SIGKILL, probably killed for memory, without a word"),
        (
            -signal.SIGKILL, "", (4, 5),
            "SIGKILL, probably killed for memory (the kernel ended a process for it meanwhile), without a word",
        ),
        (-signal.SIGKILL, "a", (4, 4), "SIGKILL, by somebody (the kernel ended no process for memory): a"),
    ],
)  # fmt: skip
def test_causes(code: int, last: str, kills: tuple[int | None, int | None], told: str) -> None:
    assert cause(code, last, *kills) == told


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/vmstat")
def test_the_kernel_counts_its_kills_for_memory() -> None:
    counted = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    assert kills_for_memory() == (int(counted["oom_kill"]) if "oom_kill" in counted else None)


def _said(log: Path, code: str, *options: str) -> int:
    with log.open("ab") as written:
        return subprocess.run(
            [sys.executable, *options, "-c", code], stderr=written, stdout=written, check=False
        ).returncode


def test_the_last_words_are_those_of_this_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert _said(log, "print('one')") == 0
    begins = log.stat().st_size
    assert last_words(log, begins) == ""
    assert _said(log, "print('two\\r 50 %\\rthree\\n\\n'); raise ValueError('four')") == 1
    assert last_words(log, begins).endswith(" | ValueError: four")
    assert last_words(log, 10**9).endswith(" | ValueError: four")  # the log has begun anew meanwhile


def test_a_fatal_signal_is_told_with_its_place_and_what_was_said_before(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import ctypes, threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
    assert _said(log, code + "print('terminate called', flush=True)\nctypes.string_at(0)", "-X", "faulthandler") < 0
    said, place = last_words(log, 0).split(" | ")
    assert said == "terminate called" and place.startswith(f'File "{ctypes.__file__}", line ')


def test_long_last_words_and_long_logs_are_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab") as written:
        written.write(b"x" * LIMIT + b"y")
        written.flush()
        assert last_words(log, 0) == "x" * (LONGEST - 1) + "y"
        bound(log)
        assert log.stat().st_size == 0
        written.write(b"z" * LIMIT)
        written.flush()
        bound(log)
        assert log.stat().st_size == LIMIT and log.read_bytes()[:1] == b"z"
