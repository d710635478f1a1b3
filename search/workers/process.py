"""One worker as the search sees it: a process with a pipe, a log, and an end.

Decision: `subprocess` starts it, not `multiprocessing`: its environment and its log are set before its interpreter starts,
it has a session of its own (Ctrl-C reaches the search alone), and the search's own script is not run again in it. Pipe and
pickling are multiprocessing's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, final

from coreml_pareto.search.workers import ending

MODULE = "coreml_pareto.search.workers.worker"
GRACE = 5.0
"""Seconds that a process has to leave after SIGTERM, before SIGKILL."""
STACKS = 0.5
"""Seconds that a process has to write where it is."""


@final
class Process:
    """Starts a worker. What it prints goes to the end of `log`; it lives as long as the lifeline's other end."""

    def __init__(self, environment: Mapping[str, str], log: Path, lifeline: int) -> None:
        self.connection, theirs = Pipe()
        command = [sys.executable, "-P", "-X", "faulthandler", "-m", MODULE, str(theirs.fileno()), str(lifeline)]
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as written, theirs:
            self._begins = written.tell()
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=written, stderr=written, env=environment,
                pass_fds=(theirs.fileno(), lifeline), start_new_session=True,
            )  # fmt: skip
        self._kills = ending.kills_for_memory()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def say(self, message: Any) -> None:
        """Tell the worker something; one that is dead is found out when it is next heard."""
        with suppress(OSError):
            self.connection.send(message)

    def begin(self, job: Any) -> None:
        """Hand a job over; from now on the kernel's kills for memory are counted."""
        self._kills = ending.kills_for_memory()
        self.say(job)

    def bound_log(self) -> None:
        """Keep the log short."""
        ending.bound(self._log)

    def obituary(self) -> str:
        """Return why a worker ended that is no longer heard."""
        kills = self._kills
        with suppress(subprocess.TimeoutExpired):  # it closed its pipe first, and is on its way
            self._process.wait(GRACE)
        end([self])
        last = ending.last_words(self._log, self._begins)
        return ending.cause(self._process.returncode, last, kills, ending.kills_for_memory())

    def silenced(self, silence: str) -> str:
        """End a worker that gave no sign of life for so long, and return that as the cause, with the place if it says."""
        self.signal(signal.SIGUSR1)  # faulthandler writes the stacks into the log
        self.left(STACKS)
        end([self])
        last = ending.last_words(self._log, self._begins)
        cause = f"no sign of life for {silence}, so it was ended"
        return f"{cause}: {last}" if last else cause

    def signal(self, number: int) -> None:
        """Send a signal to the process and those that it started."""
        with suppress(ProcessLookupError):
            if self.alive:
                os.killpg(self._process.pid, number)

    def left(self, seconds: float) -> bool:
        """Wait that long for its end; tell whether it came."""
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True


def end(processes: Sequence[Process]) -> None:
    """End processes: SIGTERM, and SIGKILL to what is left of them some seconds later."""
    for process in processes:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for process in processes:
        if not process.left(deadline - time.monotonic()):
            process.signal(signal.SIGKILL)
            process.left(GRACE)  # what the kernel itself waits for may take longer: it ends when it can
        process.connection.close()
