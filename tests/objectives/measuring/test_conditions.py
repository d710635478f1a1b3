"""What counts as throttled; Foundation itself exists on macOS only, so its answers are made up."""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace
from typing import Any

import pytest

from coreml_pareto.objectives.measuring import conditions as module
from coreml_pareto.objectives.measuring.conditions import Conditions, conditions


@pytest.mark.skipif(platform.system() == "Darwin", reason="Foundation is there")
def test_off_macos_nothing_is_known() -> None:
    assert conditions() is None


@pytest.mark.parametrize(
    ("state", "low", "expected", "throttled"),
    [
        (0, False, Conditions("nominal", False), False),
        (1, False, Conditions("fair", False), False),
        (2, False, Conditions("serious", False), True),
        (3, False, Conditions("critical", False), True),
        (0, True, Conditions("nominal", True), True),
        (7, False, Conditions("7", False), False),
    ],
)
def test_states(state: int, low: bool, expected: Conditions, throttled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class GetClass:
        def __call__(self, name: bytes) -> int:
            assert name == b"NSProcessInfo"
            return 1

    def send(runtime: Any, receiver: Any, selector: bytes, answer: Any) -> Any:
        return {b"processInfo": 2, b"thermalState": state, b"isLowPowerModeEnabled": low}[selector]

    monkeypatch.setattr(ctypes, "CDLL", lambda path: SimpleNamespace(objc_getClass=GetClass()))
    monkeypatch.setattr(module, "_send", send)
    found = conditions()
    assert found == expected and found.throttled is throttled
