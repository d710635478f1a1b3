"""A laboratory without networks, for workers in processes of their own: what becomes of a candidate is told by its epochs.

It imports nothing heavy. Every start and every candidate is written into a diary, with the process's number.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.search.outcome import Outcome, Scored, Stopped
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.errors import UserError

SCORED, KILLED, CRASHED, LEFT, RAISES, UNSENDABLE, SLEEPS, FROZEN, GRIPS, TRAINS, MEETS, NOISY = range(1, 13)
"""Epochs, and what they stand for. From 100 on: scored after so many milliseconds, less 100."""

_UNITS = {
    "top1": "share", "top5": "share", "latency_ms": "ms", "fps": "1/s", "size_bytes": "B", "bits_per_weight": "bit",
    "memory_bytes": "B", "energy_mj": "mJ", "energy_mah": "mAh", "macs": "1",
}  # fmt: skip
SCORE = {name: exact(0.9, unit) for name, unit in _UNITS.items()}


@dataclass(frozen=True)
class Step:
    """Has what the search shows of a real one."""

    done: float
    epochs: int = 10
    loss: float = 1.0
    top1: float | None = None
    curve: tuple[float, ...] = ()
    stage: str = "training"
    seconds_left: float = 9.0


class UnpicklableError(Exception):
    """Holds what cannot be sent."""

    def __init__(self) -> None:
        super().__init__(lambda: None)


@dataclass(frozen=True)
class Double:
    """Writes `pid epochs digest` into a diary, one line for each candidate."""

    folder: Path

    def evaluate(self, candidate: Candidate, witness: Any, parent: str | None) -> Outcome:
        epochs = candidate.recipe.epochs
        write(self.folder, f"{os.getpid()} {epochs} {candidate.digest}")
        witness.note(f"at work on {epochs}")
        act = ACTIONS.get(epochs)
        if act:
            act(self.folder)
        if epochs == TRAINS:
            return self._train(witness.step)
        for line in range(30 if epochs == NOISY else 0):
            print("x" * 100_000, flush=True)
            witness.step(Step(line / 30))
        if epochs >= 100:
            time.sleep((epochs - 100) / 1000)
        if epochs == UNSENDABLE:
            return Scored({}, Path("p"), {"odd": lambda: 0})  # type: ignore[dict-item]
        return self._scored()

    def _train(self, progress: Callable[[Any], None]) -> Outcome:
        """Train until a verdict comes, or a file `enough` lies in the folder."""
        try:
            while not (self.folder / "enough").exists():
                progress(Step(0.5))
                time.sleep(0.01)
        except Stopped as stopped:
            return stopped.pruned
        return self._scored()

    def _scored(self) -> Scored:
        package = self.folder / "store" / "package" / "p.mlpackage"
        package.mkdir(parents=True, exist_ok=True)
        return Scored(SCORE, package, {"pid": str(os.getpid()), "training": "0", "curve": "0.9"})


def _crash(_: Path) -> None:
    ctypes.string_at(0)


def _leave(_: Path) -> None:
    print("loading weights\nno room for them", file=sys.stderr)
    sys.exit(3)


def _raise(_: Path) -> None:
    raise UnpicklableError


def _meet(folder: Path) -> None:
    """Wait until two are here."""
    (folder / f"here-{os.getpid()}").touch()
    while len(list(folder.glob("here-*"))) < 2:
        time.sleep(0.02)


ACTIONS: dict[int, Callable[[Path], Any]] = {
    KILLED: lambda _: os.kill(os.getpid(), signal.SIGKILL),
    CRASHED: _crash,
    LEFT: _leave,
    RAISES: _raise,
    SLEEPS: lambda _: time.sleep(1e6),
    FROZEN: lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    GRIPS: lambda _: ctypes.PyDLL(None).sleep(1000),  # with the interpreter's lock
    MEETS: _meet,
}


def write(folder: Path, line: str) -> None:
    with (folder / "diary").open("a") as diary:
        diary.write(line + "\n")


def diary(folder: Path) -> list[list[str]]:
    """The words of each line."""
    path = folder / "diary"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def open_double(order: dict[str, Any], talk: object) -> Double:
    """Open it in the order's folder; `start` says what goes wrong: refuse, die, die once."""
    folder: Path = order["folder"]
    write(folder, f"{os.getpid()} start")
    start = order.get("start", "")
    if start == "refuse":
        raise UserError("The pictures have changed.")
    if start == "die" or (start == "die once" and len(diary(folder)) == 1):
        sys.exit("no memory for the pictures")
    return Double(folder)


class AtHome:
    """The search's own laboratory, which evaluates nothing."""

    evidence = None

    def probe(self, candidate: Candidate) -> dict[str, Reading]:
        return {}

    def over(self, score: object) -> tuple[str, ...]:
        return ()

    def test_top1(self, *_: object) -> Reading:
        return exact(0.9, "share")


def install(session: Any, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let a search and its workers use these laboratories; the diary lies in the run folder."""
    put(session, "OPENER", f"{__name__}:open_double")
    put(session, "Order", lambda plan, run, data: {"folder": run})
    put(session, "open_laboratory", lambda *_: AtHome())
