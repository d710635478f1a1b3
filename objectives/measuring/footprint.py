"""How much memory does this process hold, and how much has it held?  The kernel's own ledger, macOS only.

`proc_pid_rusage` with RUSAGE_INFO_V4 (macOS SDK, sys/resource.h): a 16-byte uuid, then 64-bit fields, of which the 7th
is `ri_phys_footprint` and the 28th `ri_lifetime_max_phys_footprint`, counted from 0. It is what Activity Monitor calls
Memory. What the Neural Engine's driver holds for a process is partly booked elsewhere, so the figure is a low end there.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass

_RUSAGE_INFO_V4, _FIELDS, _NOW, _PEAK = 4, 64, 2 + 7, 2 + 28


@dataclass(frozen=True)
class Footprint:
    """Bytes at present, and the largest number since the process began."""

    now: int
    peak: int


def footprint() -> Footprint | None:
    """This process's footprint; None where the system does not tell."""
    buffer = (ctypes.c_uint64 * _FIELDS)()
    try:
        failed = ctypes.CDLL("/usr/lib/libSystem.dylib").proc_pid_rusage(os.getpid(), _RUSAGE_INFO_V4, buffer)
    except (OSError, AttributeError):
        return None
    return None if failed else Footprint(int(buffer[_NOW]), int(buffer[_PEAK]))


class Watch:
    """How far the footprint rose above where it stood at the beginning."""

    def __init__(self, read: Callable[[], Footprint | None] = footprint) -> None:
        self._read = read
        self._start = read()
        self._highest = 0 if self._start is None else self._start.now

    def look(self) -> None:
        """Take note of the present footprint."""
        found = self._read()
        self._highest = max(self._highest, 0 if found is None else found.now)

    def rise(self) -> int | None:
        """Bytes of the peak above the start; None where nothing could be read.

        The kernel's peak counts where it rose; where imports had been higher before, what `look` saw is the best known.
        """
        end = self._read()
        if self._start is None or end is None:
            return None
        highest = end.peak if end.peak > self._start.peak else max(self._highest, end.now)
        return highest - self._start.now
