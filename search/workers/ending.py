"""How did a process end, in words?  Its exit code or signal, what the kernel says of it, and the last words in its log."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

LIMIT = 1_000_000
"""Bytes after which a log begins anew."""
TAIL = 65_536
LONGEST = 300
"""Characters of the last words."""
_STACKS = re.compile(r"^(?:Fatal Python error: |Thread 0x|Current thread 0x)", re.MULTILINE)
"""How `faulthandler` begins what it writes of a fatal signal, or where it is asked."""
_WHERE = re.compile(r"Current thread .*\n\s*(File .*)")


def cause(code: int, last: str, kills_before: int | None, kills_after: int | None) -> str:
    """Return why a process ended: its return code as `subprocess` gives it, its last words, kills for memory."""
    if code >= 0:
        ended = f"exit code {code}"
    else:
        ended = _name(-code)
        if -code == signal.SIGKILL:
            ended += f", {_killer(kills_before, kills_after)}"
    return f"{ended}: {last}" if last else f"{ended}, without a word"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _killer(before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return "probably killed for memory"
    if after > before:
        return "probably killed for memory (the kernel ended a process for it meanwhile)"
    return "by somebody (the kernel ended no process for memory)"


def kills_for_memory() -> int | None:
    """Return how many processes the kernel has killed for memory since it started; None where it does not say.

    Linux's /proc/vmstat counts kills for a container's limit as well.
    """
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def last_words(log: Path, begins: int) -> str:
    """Return the last two lines that a process wrote to its log, from this byte on, and where it was if that is told."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(begins if begins <= size else 0, size - TAIL))
        text = file.read().decode(errors="replace")
    said = _STACKS.split(text, maxsplit=1)[0]
    lines = [line.strip() for line in re.split(r"[\r\n]+", said) if line.strip(" \t~^")][-2:]  # ^ marks columns
    if where := _WHERE.search(text, len(said)):
        lines.append(where[1])
    return " | ".join(lines)[-LONGEST:]


def bound(log: Path) -> None:
    """Begin a log anew that has become too long; its process goes on writing behind what is there."""
    if log.stat().st_size > LIMIT:
        os.truncate(log, 0)
