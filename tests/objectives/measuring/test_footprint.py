"""Where the peak is read from; the kernel's ledger itself exists on macOS only."""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace
from typing import Any

import pytest

from coreml_pareto.objectives.measuring.footprint import Footprint, Watch, footprint


@pytest.mark.skipif(platform.system() == "Darwin", reason="the ledger is there")
def test_off_macos_nothing_is_read() -> None:
    assert footprint() is None
    assert Watch().rise() is None


def test_fields_of_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """rusage_info_v4: a uuid of 16 bytes, then ri_phys_footprint as 7th and the lifetime's maximum as 28th number."""

    def ledger(process: int, flavor: int, buffer: Any) -> int:
        assert flavor == 4 and ctypes.sizeof(buffer) >= 16 + 8 * 35
        fields = (ctypes.c_uint64 * 40).from_buffer(buffer, 16)
        fields[7], fields[28] = 300, 500
        return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda path: SimpleNamespace(proc_pid_rusage=ledger))
    assert footprint() == Footprint(now=300, peak=500)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: SimpleNamespace(proc_pid_rusage=lambda *_: -1))
    assert footprint() is None


@pytest.mark.parametrize(
    ("seen", "rise"),
    [
        ([(100, 400), (250, 400), (180, 460)], 360),  # the kernel's peak rose
        ([(100, 400), (250, 400), (180, 400)], 150),  # it did not: the highest that was seen
        ([(100, 400), (120, 400), (180, 400)], 80),
    ],
)
def test_the_rise_above_the_start(seen: list[tuple[int, int]], rise: int) -> None:
    answers = iter(Footprint(*one) for one in seen)
    watch = Watch(lambda: next(answers))
    watch.look()
    assert watch.rise() == rise
