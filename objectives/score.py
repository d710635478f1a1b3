"""What is one package worth on one target?  All readings of a saved package.

`static_score` needs no data and no training: milliseconds, so a search asks it before anything expensive.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from coreml_pareto.objectives.accuracy import Batches
from coreml_pareto.objectives.catalogue import OBJECTIVES, Subject
from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Device, Target
from coreml_pareto.objectives.latency import Measurement
from coreml_pareto.objectives.program import Cost, Program, load
from coreml_pareto.objectives.program.costs import BRANCHES, uncounted
from coreml_pareto.objectives.reading import Reading, at_least, exact
from coreml_pareto.objectives.workload import macs
from coreml_pareto.spaces.errors import UserError


def score_package(
    package: Path | str | Program,
    *,
    device: Device,
    os: int,
    compute_units: ComputeUnits = "ALL",
    batches: Batches | None = None,
    measurement: Measurement | None = None,
) -> dict[str, Reading]:
    """Readings of a package by name; without `batches` all but the accuracies, without `measurement` estimated latency.

    Raises:
        UserError: the device never ran that system, the package needs a newer one, or it cannot be read.
    """
    program = package if isinstance(package, Program) else load(Path(package))
    return _score(Subject(program, _fitting(program, Target(device, os, compute_units)), batches, measurement))


def static_score(program: Program, target: Target, measurement: Measurement | None = None) -> dict[str, Reading]:
    """What needs no data: macs, latency (estimated without `measurement`), size, memory and energy."""
    return _score(Subject(program, _fitting(program, target), measurement=measurement))


def counted_macs(costs: Iterable[Cost]) -> Reading:
    """Multiply-accumulates of one inference; a bound from below where operations may have some that nobody counts."""
    rows = list(costs)
    branches = "; of each cond the dearer branch" if any(cost.kind == BRANCHES for cost in rows) else ""
    counted = f"convolutions and matrix products, one inference{branches}"
    if missing := uncounted(rows):
        names = ", ".join(f"{count} × {kind}" for kind, count in missing.most_common())
        return at_least(macs(rows), "1", counted=counted, not_counted=names)
    return exact(macs(rows), "1", counted=counted)


def _score(subject: Subject) -> dict[str, Reading]:
    readings = {"macs": counted_macs(subject.costs)}
    for objective in OBJECTIVES.values():
        if not objective.needs_data or subject.batches is not None:
            readings |= objective.read(subject)
    return readings


def _fitting(program: Program, target: Target) -> Target:
    """The target, once it is known to open the package."""
    oldest = program.minimum_os.removeprefix("iOS")
    if oldest.isdigit() and int(oldest) > target.os:
        raise UserError(
            f"{program.path.name} needs {target.device.system(int(oldest))} or newer; the target runs "
            f"{target.device.system(target.os)}; raise the target or convert for it"
        )
    return target
