"""How much energy does an inference take?  powermetrics, above idle, where this user may run it without being asked.

`powermetrics --samplers cpu_power,gpu_power,ane_power -f plist` needs the superuser. It is called directly by root, else
through `sudo -n`, which never asks for a password. It prints property lists parted by NUL bytes, each with `elapsed_ns`
and `processor`: `cpu_energy`, `gpu_energy` and `ane_energy` in mJ (on some systems only `..._power` in mW). The tool
itself says that these are estimates, not to be compared between devices.

Energy of an inference = (power in a loop of predictions - power at rest) / predictions per second, CPU, GPU and Neural
Engine together, because dispatching is the CPU's work: 10 s at rest, five loops of 10 s, their median.
"""

from __future__ import annotations

import os
import plistlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar
from xml.parsers.expat import ExpatError

from pydantic import ConfigDict

TOOL: tuple[str, ...] = ("powermetrics",)
SECONDS, LOOPS, PATIENCE = 10.0, 5, 3.0
_SAMPLE_MS = 100
_RAILS = ("cpu", "gpu", "ane")


class NoEnergy(Exception):
    """Why there is no figure; the measurement goes on without."""


@dataclass(frozen=True)
class Energy:
    """Millijoules of one inference above idle: median, smallest and largest of the loops; mW at rest."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    median_mj: float
    low_mj: float
    high_mj: float
    idle_mw: float


def energy(predict: Callable[[], Any], seconds: float = SECONDS, loops: int = LOOPS) -> Energy:
    """Millijoules above idle of one call of `predict`.

    Raises:
        NoEnergy: powermetrics is missing, not permitted, silent or unreadable, or the difference is lost in idle.
    """
    idle, _ = _power(lambda: time.sleep(_SAMPLE_MS / 1000), seconds)
    found = []
    for _ in range(loops):
        busy, rate = _power(predict, seconds)
        found.append((busy - idle) / rate)
    if median(found) <= 0:
        raise NoEnergy(f"energy is what comes on top of idle; the loop took no more than the idle {idle:.0f} mW")
    return Energy(median(found), min(found), max(found), idle)


def _power(work: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Mean mW while `work` is called again and again, and calls per second."""
    command = [*_permitted(), "--samplers", "cpu_power,gpu_power,ane_power", "-f", "plist"]
    command += ["-i", str(_SAMPLE_MS), "-n", str(max(1, round(1000 * seconds / _SAMPLE_MS)))]
    # Into files: a pipe would fill up while nobody reads it.
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdout=answer, stderr=errors, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise NoEnergy(f"energy needs powermetrics; {error}") from error
        rate = _loop(process, work, PATIENCE * seconds)
        answer.seek(0)
        errors.seek(0)
        if process.returncode:
            raise NoEnergy(_refused(errors.read() or answer.read()))
        return mean_milliwatts(answer.read()), rate


def _permitted() -> tuple[str, ...]:
    return TOOL if os.geteuid() == 0 else ("sudo", "-n", *TOOL)


def _loop(process: subprocess.Popen[bytes], work: Callable[[], Any], limit: float) -> float:
    started, calls = time.monotonic(), 0
    while process.poll() is None:
        work()
        calls += 1
        if time.monotonic() - started > limit:
            # One that sudo started belongs to root and cannot be stopped by us; it ends after its last sample.
            with suppress(PermissionError, subprocess.TimeoutExpired):
                process.kill()
                process.wait(1)
            raise NoEnergy(f"powermetrics answers within {limit:g} s; it did not end")
    return max(calls, 1) / (time.monotonic() - started)


def _refused(said: bytes) -> str:
    words = " ".join(said.decode(errors="replace").split()) or "no word of why"
    return f"powermetrics needs the superuser; it said: {words[:200]}; run `sudo -v` in this terminal first"


def mean_milliwatts(answer: bytes) -> float:
    """Mean power of all rails over the samples of an answer.

    Raises:
        NoEnergy: it is no answer of powermetrics.
    """
    try:
        samples = [_sample(plistlib.loads(part)) for part in answer.split(b"\0") if part.strip()]
    except (ValueError, ExpatError, KeyError, TypeError, AttributeError) as error:
        raise NoEnergy(
            f"powermetrics prints property lists with elapsed_ns and processor; unreadable: {error!r}"
        ) from error
    return _mean(samples)


def _mean(samples: Sequence[tuple[float, float]]) -> float:
    seconds = sum(elapsed for _, elapsed in samples)
    if seconds <= 0:
        raise NoEnergy("powermetrics prints at least one sample; it printed none")
    return sum(millijoules for millijoules, _ in samples) / seconds


def _sample(plist: dict[str, Any]) -> tuple[float, float]:
    """(mJ of all rails, seconds); a rail that a Mac does not have counts as nothing, but one must be there."""
    seconds, rails = plist["elapsed_ns"] / 1e9, plist["processor"]
    known = [rail for rail in _RAILS if f"{rail}_energy" in rails or f"{rail}_power" in rails]
    if not known:
        raise KeyError("cpu_energy")
    return sum(float(rails.get(f"{rail}_energy", rails.get(f"{rail}_power", 0) * seconds)) for rail in known), seconds
