"""What do all measurements have in common?  Where they were made, when and with what, and how a series becomes figures.

A record is that of `devices/measurements.py`, which the app of `device-kit` writes, too: what is measured here can be
imported as it is.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from coreml_pareto.objectives.devices.measurements import MeasuredPackage, Placement
from coreml_pareto.objectives.measuring.machine import build, hardware, this_device
from coreml_pareto.objectives.measuring.placement import Placed, counts
from coreml_pareto.objectives.measuring.protocol import Protocol, Series, milliseconds, statistics
from coreml_pareto.objectives.program import Program, content_digest, costs

_UNITS: Final = {"neural_engine": "Neural Engine", "gpu": "GPU", "cpu": "CPU"}


def package_of(program: Program) -> MeasuredPackage:
    """How a file of measurements describes a package; UserError for a program with open shapes."""
    return MeasuredPackage(digest=content_digest(program), name=program.path.name[:500], costs=costs(program))


def this_mac() -> dict[str, Any]:
    """Device, system and build of the machine that this runs on, under the names of a record's fields."""
    known = this_device()
    device = hardware().get("machine_model", "unknown") if known is None else known.identifier or known.name
    return {"device": device, "os": platform.mac_ver()[0], "os_build": build()}


def now() -> datetime:
    """When something was measured."""
    return datetime.now(UTC)


def timings(series: Series, protocol: Protocol) -> dict[str, Any]:
    """The fields of a record that a series fills: by Core ML's clock where it spoke, else by Python's."""
    cold = [milliseconds(clocked) for clocked in series.cold]
    return {
        **statistics([milliseconds(clocked) for one in series.rounds for clocked in one]),
        "cold_ms": statistics(cold)["median_ms"] if cold else None,
        "rounds": protocol.rounds,
        "predictions_per_round": protocol.predictions,
        "warm_up": series.warm_up,
    }


def rounds(series: Series) -> dict[str, Any]:
    """The details of a record that a series fills: by Python's clock, and round by round."""
    every = [clocked.wall_ms for one in series.rounds for clocked in one]
    medians = [statistics([milliseconds(clocked) for clocked in one])["median_ms"] for one in series.rounds]
    return {"python_median_ms": statistics(every)["median_ms"], "round_medians_ms": tuple(medians)}


def placement_of(operations: Sequence[Placed]) -> Placement | None:
    """Operations by preferred unit; None where there is no plan."""
    found = counts(operations)
    return Placement(**{field: found.get(unit, 0) for field, unit in _UNITS.items()}) if operations else None


def tool_versions() -> dict[str, str]:
    """What measured."""
    found = {name: _version(name) for name in ("coreml-pareto", "coremltools", "numpy")}
    return found | {"python": platform.python_version()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
