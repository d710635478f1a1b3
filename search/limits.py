"""How does a person write a limit?  `10MB`, `5ms`, `1mJ`, `90%`: text to the reading's unit and back.

MB = 10^6 bytes, as the Finder and the App Store count; MiB = 2^20 where somebody means that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Final, final

from coreml_pareto.spaces.errors import UserError

_BYTES: Final = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}


@final
@dataclass(frozen=True)
class Notation:
    """How limits of one objective are written: units by name, the largest first when a limit is spelled out."""

    units: Mapping[str, float]
    spelled: tuple[str, ...]
    example: str
    at_least: bool = False


NOTATIONS: Final[Mapping[str, Notation]] = {
    "accuracy": Notation({"%": 0.01, "": 1.0}, ("%",), "0.9 or 90%", at_least=True),
    "latency": Notation({"µs": 1e-3, "us": 1e-3, "ms": 1.0, "s": 1e3}, ("s", "ms"), "5ms"),
    "size": Notation(_BYTES, ("GB", "MB", "KB", "B"), "10MB or 500KB"),
    "memory": Notation(_BYTES, ("GB", "MB", "KB", "B"), "20MB or 500KB"),
    "energy": Notation({"µJ": 1e-3, "uJ": 1e-3, "mJ": 1.0, "J": 1e3}, ("J", "mJ"), "1mJ or 300µJ"),
}

_FORM: Final = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[^\d\s.]*)$")


def parse_size(text: str) -> float:
    """Bytes of `10MB`, `500 KB` or `1MiB`; UserError for anything else."""
    return parse_limit("size", text)


def parse_limit(objective: str, text: str) -> float:
    """A limit in the unit of the objective's reading: share, ms, bytes or mJ.

    Raises:
        UserError: no positive number with a unit of this objective (accuracy: a share in (0, 1] or percent).
    """
    notation = NOTATIONS[objective]
    match = _FORM.match(text.strip())
    factor = _factor(notation, match["unit"]) if match else None
    value = float(match["number"]) * factor if match and factor is not None else math.nan
    if not 0 < value < math.inf or (notation.at_least and value > 1):
        units = ", ".join(unit for unit in notation.units if unit)
        form = "a share up to 1, or percent" if notation.at_least else f"a number above 0 with its unit ({units})"
        raise UserError(f"a limit on {objective} is {form}; got {text!r}; write e.g. {notation.example}")
    return value


def spell_limit(objective: str, value: float) -> str:
    """The limit so that `parse_limit` reads the same value back (to twelve digits)."""
    return _spell(NOTATIONS[objective], value, Context(prec=12))


def spell_relaxed(objective: str, value: float) -> str:
    """The limit in three digits, rounded to the generous side: what keeps `value` keeps this, too."""
    notation = NOTATIONS[objective]
    return _spell(notation, value, Context(prec=3, rounding=ROUND_FLOOR if notation.at_least else ROUND_CEILING))


def _factor(notation: Notation, unit: str) -> float | None:
    folded = {name.casefold(): factor for name, factor in notation.units.items()}
    unit = unit.replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}")
    return notation.units.get(unit, folded.get(unit.casefold()))


def _spell(notation: Notation, value: float, context: Context) -> str:
    unit = next((unit for unit in notation.spelled if value >= notation.units[unit]), notation.spelled[-1])
    number = context.divide(Decimal(repr(float(value))), Decimal(repr(notation.units[unit])))
    return f"{number.normalize():f}{unit}"
