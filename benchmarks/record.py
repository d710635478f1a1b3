"""Where every benchmark leaves its figures: `benchmarks/results/<name>.json`, with the conditions that they hold under."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from coreml_pareto.search.store import tool_versions
from coreml_pareto.search.workers.share import cores

RESULTS = Path(__file__).parent / "results"


def store(name: str, rows: Sequence[object], **conditions: object) -> None:
    """Write rows as JSON next to the machine, threads, tool versions and date."""
    common = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "tools": tool_versions(),
    }
    RESULTS.mkdir(exist_ok=True)
    content = {"conditions": common | conditions, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def others(
    name: str, rows: Sequence[Mapping[str, Any]], by: Sequence[str], **conditions: object
) -> list[dict[str, Any]]:
    """Return stored rows that `rows` do not replace, by these of their fields; none if they were taken otherwise.

    Each keeps the date it was taken on: the file's is that of the latest.
    """
    path = RESULTS / f"{name}.json"
    stored = json.loads(path.read_text()) if path.is_file() else {"conditions": {}, "rows": []}
    if any(stored["conditions"].get(key) != value for key, value in conditions.items()):
        return []
    new = {tuple(row[field] for field in by) for row in rows}
    kept = (row for row in stored["rows"] if tuple(row[field] for field in by) not in new)
    return [{"date": stored["conditions"]["date"], **row} for row in kept]


def _processor() -> str:
    """Return the processor's name: Linux keeps it in a file of its own."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
