"""What counts as throttled; Foundation itself exists on macOS only, so its answers are made up."""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace
from typing import Any

import pytest

from coreml_pareto.objectives.measuring import conditions as module
from coreml_pareto.objectives.measuring.conditions import Conditions, conditions, cool_down
from coreml_pareto.spaces.errors import UserError


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


def test_a_hot_device_is_waited_for_and_one_that_saves_power_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hot, rests = Conditions("critical", False), list[float]()
    states = iter([hot, hot, Conditions("fair", False)])
    monkeypatch.setattr(module, "conditions", lambda: next(states))
    cool_down(rests.append)
    assert rests == [5.0, 5.0]
    monkeypatch.setattr(module, "conditions", lambda: hot)
    with pytest.raises(UserError, match=r"it is hot \(critical\)"):
        cool_down(rests.append, longest=20)
    assert len(rests) == 2 + 4
    monkeypatch.setattr(module, "conditions", lambda: Conditions("serious", True))
    with pytest.raises(UserError, match="low power mode is on"):
        cool_down(lambda _: pytest.fail("nothing to wait for"))
