"""Is memory kept inside the block, and given back behind it?  Page faults and resident pages, as the kernel counts them."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import numpy as np
import pytest

from coreml_pareto.search.stages import allocator
from coreml_pareto.search.stages.allocator import keeping_memory

MEGABYTES, PAGE = 80, resource.getpagesize()
PAGES = MEGABYTES * 2**20 // PAGE


def faults_of(rounds: int) -> int:
    """Page faults while a large block is filled and freed so many times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.ones(MEGABYTES * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone is told to keep memory")
def test_memory_is_kept_inside_the_block_and_given_back_behind_it() -> None:
    outside = faults_of(4)
    with keeping_memory():
        faults_of(1)
        inside, held = faults_of(4), resident()
    assert inside < outside / 4
    assert resident() < held - PAGES / 2
    assert faults_of(4) > outside / 2, "behind the block large blocks go back to the system as before"


def test_nothing_is_changed_on_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    with keeping_memory():
        pass


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone is told to keep memory")
def test_memory_is_given_back_after_an_error() -> None:
    with pytest.raises(KeyError), keeping_memory():
        faults_of(1)
        held = resident()
        raise KeyError
    assert resident() < held - PAGES / 2
