"""How are hundreds of searches started within an hour?  In forks of one process that has imported everything.

A command begins in a tenth of a second instead of six, as a process of its own in a session of its own, and can be killed
as any other. Requests and answers are lines of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLL = 0.02
"""Seconds between two looks at a command."""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COREML_PARETO_CACHE": ""}
"""One thread, for sums of other lengths are other sums; and no pictures are kept for the next command."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (a signal counts negative), what it printed, and seconds."""

    code: int
    text: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether a kill ended it."""
        return self.code == -signal.SIGKILL


Look = Callable[[str], bool]
"""Told what a command has printed so far; whether it is to be killed now."""


def by_then(seconds: float) -> Look:
    """Kill it when so many seconds are gone."""
    end = time.monotonic() + seconds
    return lambda text: time.monotonic() >= end


class Nursery:
    """Starts commands of `coreml-pareto`; one at a time."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def run(self, arguments: Sequence[str], log: Path, look: Look | None = None, *, group: bool = False) -> Ended:
        """Run a command to its end.

        Args:
            log: where it prints.
            look: asked again and again while it runs.
            group: kill its whole process group.
        """
        log.write_bytes(b"")
        pid = self._ask({"arguments": list(arguments), "log": str(log)})
        return _watched(pid, lambda: self._ask({"poll": pid}), log, look, group)

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


def cold(arguments: Sequence[str], log: Path, environment: dict[str, str], look: Look | None = None) -> Ended:
    """Run a command in an interpreter of its own, which begins with a larger environment."""
    command = [sys.executable, "-m", "coreml_pareto.search.cli", *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=ENVIRONMENT | environment)
        return _watched(process.pid, process.poll, log, look, group=False)


def _watched(pid: int, poll: Callable[[], int | None], log: Path, look: Look | None, group: bool) -> Ended:
    started = time.monotonic()
    while (code := poll()) is None:
        if look is not None and look(log.read_text(errors="replace")):
            (os.killpg if group else os.kill)(pid, signal.SIGKILL)
            look = None
        time.sleep(POLL)
    return Ended(code, log.read_text(errors="replace"), time.monotonic() - started)


def serve() -> None:
    """Import everything, then fork for every request."""
    from coreml_pareto.search import cli, session  # noqa: F401 - imported for the forks

    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork() or _become(request)
        print(json.dumps(answer), flush=True)


def _become(request: dict[str, Any]) -> int:
    """Be the command, in the child; does not return."""
    code = 1
    try:
        from coreml_pareto.search import cli

        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        handle = os.open(request["log"], os.O_WRONLY | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(handle, stream)
        code = cli.main(request["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
