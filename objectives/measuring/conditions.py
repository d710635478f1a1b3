"""Is this Mac hot, or saving power?  `NSProcessInfo.thermalState` and `isLowPowerModeEnabled` (macOS 12 and newer).

Foundation is asked through the Objective-C runtime, two messages without arguments. A measurement at `serious` or above
is of a throttled device, not of the device: it is waited for, then refused.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from coreml_pareto.spaces.errors import UserError

_FOUNDATION = "/System/Library/Frameworks/Foundation.framework/Foundation"
_STATES = ("nominal", "fair", "serious", "critical")  # NSProcessInfoThermalState, 0 to 3
COOLING: Final = 600.0
"""Seconds that a hot device is given to cool down."""
_BETWEEN: Final = 5.0


@dataclass(frozen=True)
class Conditions:
    """The thermal state by Apple's word, and whether low-power mode is on."""

    thermal: str
    low_power: bool

    @property
    def throttled(self) -> bool:
        """Whether a latency measured now would be another device's."""
        return self.thermal in _STATES[2:] or self.low_power


def conditions() -> Conditions | None:
    """The conditions at present; None where the system does not tell."""
    try:
        ctypes.CDLL(_FOUNDATION)
        runtime = ctypes.CDLL("/usr/lib/libobjc.A.dylib")
        runtime.objc_getClass.restype = ctypes.c_void_p
        process = _send(runtime, runtime.objc_getClass(b"NSProcessInfo"), b"processInfo", ctypes.c_void_p)
        state = int(_send(runtime, process, b"thermalState", ctypes.c_long))
        low = bool(_send(runtime, process, b"isLowPowerModeEnabled", ctypes.c_bool))
    except (OSError, AttributeError):
        return None
    return Conditions(_STATES[state] if 0 <= state < len(_STATES) else str(state), low)


def require_full_speed(found: Conditions | None) -> None:
    """UserError where a latency measured under these conditions would be another device's."""
    if found is None or not found.throttled:
        return
    why = "low power mode is on; switch it off" if found.low_power else f"it is hot ({found.thermal}); let it cool down"
    raise UserError(f"a device is measured at full speed, not when it is hot or saving power; {why} and measure again")


def cool_down(rest: Callable[[float], None] = time.sleep, longest: float = COOLING) -> None:
    """Wait while the device is hot; UserError when it stays so, or saves power."""
    waited = 0.0
    while (found := conditions()) is not None and found.throttled and not found.low_power and waited < longest:
        rest(_BETWEEN)
        waited += _BETWEEN
    require_full_speed(found)


def _send(runtime: Any, receiver: Any, selector: bytes, answer: Any) -> Any:
    """objc_msgSend with this result type; its C prototype is whatever the method's is."""
    runtime.sel_registerName.restype = ctypes.c_void_p
    prototype = ctypes.CFUNCTYPE(answer, ctypes.c_void_p, ctypes.c_void_p)
    message = prototype(("objc_msgSend", runtime))
    return message(receiver, runtime.sel_registerName(selector))
