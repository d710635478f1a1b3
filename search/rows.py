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


def rows(results: Iterable[Result], run: Run, shares: Mapping[int, float] | None = None) -> list[dict[str, Any]]:
    """Several packages; `shares` of drawn fronts by trial (`noise.shares`), null where they were not drawn."""
    return [row(result, run, shares) for result in results]


def row(result: Result, run: Run, shares: Mapping[int, float] | None = None) -> dict[str, Any]:
    """One package: what it is, where it lies, all readings; estimates with `_low`, `_high` and `_how`."""
    score = result.score
    scored = result.outcome if isinstance(result.outcome, Scored) else None
    return {
        "trial": result.trial,
        "candidate": result.candidate.model_dump(mode="json"),
        "package": None if scored is None else str(scored.package.absolute()),
        **_ends("top1", score.get("top1")),
        "top5": _value(score.get("top5")),
        "test_top1": _value(result.test_top1),
        "top1_seeds": len(result.repeated),
        **_ends("top1_mean", result.mean_top1),
        "front_share": None if shares is None else shares.get(result.trial),
        **dict(cell for name in _READINGS for cell in cells(name, score.get(name))),
        "minimum_os": run.target.device.system(minimum_os(result.candidate.compression)),
        **run.target.conditions,
        "battery": battery(score),
        "test_reads": len(run.looks),
        "trials_at_first_test": run.looks[0].trials if run.looks else None,
        "trials": len(run.results),
    }


def _ends(name: str, reading: Reading | None) -> dict[str, float | None]:
    """A value with its interval."""
    ends = (("", "value"), ("_low", "low"), ("_high", "high"))
    return {f"{name}{suffix}": None if reading is None else getattr(reading, end) for suffix, end in ends}


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
    before = ("trial", "candidate", "package", *_ends("top1", None), "top5", "test_top1")
    repeated = ("top1_seeds", *_ends("top1_mean", None), "front_share")
    readings = (key for name in _READINGS for key, _ in cells(name, None))
    after = ("minimum_os", "device", "os", "compute_units", "battery")
    return (*before, *repeated, *readings, *after, "test_reads", "trials_at_first_test", "trials")


def _value(reading: Reading | None, as_count: bool = False) -> float | int | None:
    return None if reading is None else _number(reading.value, as_count)


def _number(value: float, as_count: bool) -> float | int:
    return round(value) if as_count else value


HEAD: Final = _head()
