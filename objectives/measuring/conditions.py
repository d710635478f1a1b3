"""Is this Mac hot, or saving power?  `NSProcessInfo.thermalState` and `isLowPowerModeEnabled` (macOS 12 and newer).

Foundation is asked through the Objective-C runtime, two messages without arguments. A measurement at `serious` or above
is of a throttled device, not of the device.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

_FOUNDATION = "/System/Library/Frameworks/Foundation.framework/Foundation"
_STATES = ("nominal", "fair", "serious", "critical")  # NSProcessInfoThermalState, 0 to 3


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


def _send(runtime: Any, receiver: Any, selector: bytes, answer: Any) -> Any:
    """objc_msgSend with this result type; its C prototype is whatever the method's is."""
    runtime.sel_registerName.restype = ctypes.c_void_p
    prototype = ctypes.CFUNCTYPE(answer, ctypes.c_void_p, ctypes.c_void_p)
    message = prototype(("objc_msgSend", runtime))
    return message(receiver, runtime.sel_registerName(selector))
