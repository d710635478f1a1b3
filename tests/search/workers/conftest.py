"""The double of a laboratory, importable by the tests and by the workers that they start."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module `laboratory_double`; workers find it by the search's own path."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("laboratory_double")


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")  # one that nobody has collected yet has ended, too
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture
def wait_until_gone() -> Callable[[set[int]], None]:
    """Fail unless these processes have ended within a few seconds."""

    def wait(pids: set[int]) -> None:
        deadline = time.monotonic() + 10
        while left := {pid for pid in pids if not _gone(pid)}:
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.05)

    return wait
