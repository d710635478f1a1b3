"""In which form is a measurement kept?  One JSON object per package and compute units, in a list.

A latency without device, system, compute units and harness cannot be pooled with others, so they always stand with it;
every statistic carries its unit. The package is named by the digest of its content: model and weights, not
`Manifest.json`, whose identifiers are drawn anew with every save.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from coreml_pareto.objectives.measuring.placement import Placed, counts
from coreml_pareto.objectives.measuring.protocol import Protocol, Series, milliseconds, statistics
from coreml_pareto.objectives.stopwatch import hardware, this_device

SCHEMA: Final = "coreml-pareto-measurement/1"
_CHUNK: Final = 1 << 20


def record(
    package: Path,
    compute_units: str,
    *,
    where: Mapping[str, Any],
    harness: str,
    protocol: Protocol | Mapping[str, Any],
    found: Mapping[str, Any],
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """One measurement; `found` holds its statistics by name and, where it is known, the placement."""
    return {
        "schema": SCHEMA,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "package": {"name": package.name, "digest": package_digest(package)},
        **where,
        "compute_units": compute_units,
        "harness": harness,
        "protocol": asdict(protocol) if isinstance(protocol, Protocol) else dict(protocol),
        **found,
        "warnings": list(warnings),
        "tools": tool_versions(),
    }


def package_digest(package: Path) -> str:
    """SHA-256 over names and bytes of everything below `Data/`."""
    hashed = hashlib.sha256()
    for file in sorted(path for path in (package / "Data").rglob("*") if path.is_file()):
        hashed.update(f"{file.relative_to(package).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while part := stream.read(_CHUNK):
                hashed.update(part)
    return f"sha256:{hashed.hexdigest()}"


def this_mac() -> dict[str, Any]:
    """Device and system of the machine that this runs on."""
    told, known = hardware(), this_device()
    device = {
        "name": told.get("machine_name", "Mac") if known is None else known.name,
        "identifier": told.get("machine_model"),
        "soc": told.get("chip_type", "").removeprefix("Apple ") or None,
    }
    return {"device": device, "os": {"name": "macOS", "version": platform.mac_ver()[0], "build": _build()}}


def timings(series: Series) -> dict[str, Any]:
    """The statistics of a series: by Core ML's clock where it spoke, by Python's besides, and round by round."""
    every = [clocked for one in series.rounds for clocked in one]
    own = all(clocked.coreml_ms is not None for clocked in every)
    cold = [milliseconds(clocked) for clocked in series.cold]
    return {
        "latency": statistics([milliseconds(clocked) for clocked in every]) | {"clock": "Core ML" if own else "Python"},
        "latency_cold": statistics(cold) if cold else None,
        "latency_python": statistics([clocked.wall_ms for clocked in every]),
        "round_medians_ms": [statistics([milliseconds(clocked) for clocked in one])["median"] for one in series.rounds],
        "warm_up": {"predictions": series.warm_up, "stable": series.stable},
    }


def placed(operations: Sequence[Placed] | None) -> dict[str, Any] | None:
    """The compute plan: operations by preferred unit, and each by itself; None where there is no plan."""
    if not operations:
        return None
    each = [asdict(operation) | {"supported": list(operation.supported)} for operation in operations]
    return {"preferred": counts(operations), "operations": each}


def tool_versions() -> dict[str, str]:
    """What measured."""
    found = {name: _version(name) for name in ("coreml-pareto", "coremltools", "numpy")}
    return found | {"python": platform.python_version()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _build() -> str | None:
    try:
        done = subprocess.run(["sw_vers", "-buildVersion"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
