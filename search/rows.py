"""What do machines read of a package?  One flat row per result, the same keys in `--json` and in front.csv.

Units are in the names. What could not be read is null, never zero.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from coreml_pareto.objectives.reading import Reading, Score
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.compression import minimum_os

ESTIMATED: Final = frozenset({"latency_ms", "fps", "memory_bytes", "energy_mj", "energy_mah"})
_READINGS: Final = (
    "latency_ms", "fps", "size_bytes", "bits_per_weight", "memory_bytes", "energy_mj", "energy_mah", "macs",
)  # fmt: skip
COUNTS: Final = frozenset({"size_bytes", "memory_bytes", "macs"})


def row(result: Result, run: Run) -> dict[str, Any]:
    """One package: what it is, where it lies, all readings; estimates with `_low`, `_high` and `_how`."""
    score = result.score
    scored = result.outcome if isinstance(result.outcome, Scored) else None
    top1 = score.get("top1")
    return {
        "trial": result.trial,
        "candidate": result.candidate.model_dump(mode="json"),
        "package": None if scored is None else str(scored.package.absolute()),
        "top1": None if top1 is None else top1.value,
        "top1_low": None if top1 is None else top1.low,
        "top1_high": None if top1 is None else top1.high,
        "top5": _value(score.get("top5")),
        "test_top1": _value(result.test_top1),
        **dict(cell for name in _READINGS for cell in cells(name, score.get(name))),
        "minimum_os": run.target.device.system(minimum_os(result.candidate.compression)),
        **run.target.conditions,
        "battery": battery(score),
    }


def battery(score: Score) -> str | None:
    """Which battery a charge was reckoned with, `12.70 Wh, 3.87 V (published)`; None without a charge."""
    charge = score.get("energy_mah")
    return None if charge is None else charge.conditions.get("battery")


def cells(name: str, reading: Reading | None) -> Iterator[tuple[str, Any]]:
    """A reading under its name, an estimate's interval and origin behind it."""
    as_count = name in COUNTS
    yield name, _value(reading, as_count)
    if name in ESTIMATED:
        yield f"{name}_low", None if reading is None else _number(reading.low, as_count)
        yield f"{name}_high", None if reading is None else _number(reading.high, as_count)
        yield f"{name}_how", None if reading is None else reading.how


def write_csv(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """The rows as CSV; the candidate as its JSON, null as an empty cell; without rows only the head."""
    table = [{**line, "candidate": json.dumps(line["candidate"], sort_keys=True)} for line in rows]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=HEAD)
        writer.writeheader()
        writer.writerows(table)


def _head() -> tuple[str, ...]:
    before = ("trial", "candidate", "package", "top1", "top1_low", "top1_high", "top5", "test_top1")
    readings = (key for name in _READINGS for key, _ in cells(name, None))
    return (*before, *readings, "minimum_os", "device", "os", "compute_units", "battery")


def _value(reading: Reading | None, as_count: bool = False) -> float | int | None:
    return None if reading is None else _number(reading.value, as_count)


def _number(value: float, as_count: bool) -> float | int:
    return round(value) if as_count else value


HEAD: Final = _head()
