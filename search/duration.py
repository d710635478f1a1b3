"""Durations as people write them: `30m`, `8h`, `1h30m`, `90s`, or a bare number of seconds."""

from __future__ import annotations

import math
import re

from coreml_pareto.spaces.errors import UserError

_PARTS = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?"
)
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def parse_duration(text: str) -> float:
    """Return seconds.

    Raises:
        UserError: no duration, or none that is longer than zero and has an end.
    """
    match = _PARTS.fullmatch(text.strip().lower())
    seconds = sum(float(match[unit] or 0) * scale for unit, scale in _SECONDS.items()) if match else 0.0
    if not 0 < seconds < math.inf:
        raise UserError(f"A duration is written like 30m, 8h or 1h30m, or in seconds like 600; got {text!r}.")
    return seconds


def spell_duration(seconds: float) -> str:
    """Return a duration for people: `8 s`, `2 min 05 s`, `3 h 20 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
