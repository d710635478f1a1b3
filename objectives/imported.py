"""What do imported measurements say about a package on a target?  Its own time where it was measured, else a correction.

Measurements are pooled only where device, system, compute units and stopwatch agree: floors of two stopwatches lie up
to 0.5 ms apart. For a target that is the same device and units, under the asked system where that was measured, else
under a newer one (a target's system is the oldest that must load the model; the phone in hand runs what it runs); the
reading's conditions say which. So each stopwatch and system has a correction of its own, and its effect lies in there.
Series whose predictions lie apart come out too high, and count where there is nothing else. A package measured several
times counts by its latest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.correction import Fit, Sample, fit, own, strange, unseen
from coreml_pareto.objectives.devices.measurements import Measurements, Record
from coreml_pareto.objectives.latency import Measurement, doubt, fastest, latency, parts
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.reading import Reading


@dataclass(frozen=True)
class Evidence:
    """What one stopwatch saw on one target: the latest record and the operations of each package, by digest."""

    target: Target
    harness: str
    records: Mapping[str, Record]
    costs: Mapping[str, tuple[Cost, ...]]

    @property
    def apart(self) -> bool:
        """Whether predictions were not made back to back."""
        return any(not record.back_to_back for record in self.records.values())

    @cached_property
    def fit(self) -> Fit:
        """The correction of this target's estimates."""
        costs = [self.costs[digest] for digest in self.records]
        measured = [record.median_ms for record in self.records.values()]
        samples = [Sample(parts(rows, self.target), ms) for rows, ms in zip(costs, measured, strict=True)]
        widths = sorted(math.sqrt(reading.high / reading.low) for reading in (_estimate(r, self.target) for r in costs))
        (unit, _), *_ = Counter(fastest(rows, self.target) for rows in costs).most_common()  # few may run elsewhere
        unknown = strange(doubt(self.target, unit))
        return fit(samples, own(unknown), unseen(widths[len(widths) // 2]))


def evidence(measurements: Measurements) -> tuple[Evidence, ...]:
    """All measurements, grouped by where and with which stopwatch they were made."""
    groups: dict[tuple[str, ...], dict[str, Record]] = {}
    for record in sorted(measurements.records, key=lambda record: record.measured_at):
        place = (*record.target.conditions.values(), record.harness)
        groups.setdefault(place, {})[record.digest] = record
    costs = {package.digest: package.costs for package in measurements.packages}
    return tuple(_evidence(records, costs) for records in groups.values())


def _evidence(records: Mapping[str, Record], costs: Mapping[str, tuple[Cost, ...]]) -> Evidence:
    one = next(iter(records.values()))
    return Evidence(one.target, one.harness, records, {digest: costs[digest] for digest in records})


def evidence_for(target: Target, groups: Sequence[Evidence]) -> Evidence | None:
    """The measurements that count for a target, None without any: back to back, then its own or the next newer system."""
    fitting = [
        group
        for group in groups
        if (group.target.device, group.target.compute_units) == (target.device, target.compute_units)
        and group.target.os >= target.os
    ]
    return min(fitting, key=lambda group: (group.apart, group.target.os, -len(group.records)), default=None)


def readings(digest: str, costs: Sequence[Cost], found: Evidence) -> dict[str, Reading]:
    """`latency_ms` and `fps` of a package: measured if it was this very one, else corrected."""
    record = found.records.get(digest)
    if record is not None:
        return latency(costs, found.target, as_measurement(record, found.target))
    return _corrected(costs, found)


def differences(found: Evidence) -> Iterator[tuple[str, float, float, float]]:
    """Digest of each measured network with its estimated, corrected and measured milliseconds."""
    for digest, record in found.records.items():
        estimated = parts(found.costs[digest], found.target)
        yield digest, sum(estimated), found.fit.correction.apply(estimated), record.median_ms


def as_measurement(record: Record, target: Target) -> Measurement:
    """A record as the latency of its package on a target."""
    count = record.rounds * record.predictions_per_round
    clock = f"{record.harness} (system {record.os}, build {record.os_build})"
    return Measurement(target, record.median_ms, record.p10_ms, record.p90_ms, count, clock)


def _corrected(costs: Sequence[Cost], found: Evidence) -> dict[str, Reading]:
    estimate, learnt = _estimate(costs, found.target), found.fit
    value = learnt.correction.apply(parts(costs, found.target))
    counted = f"{learnt.networks} measured network{'s' if learnt.networks > 1 else ''}"
    conditions = dict(estimate.conditions) | {
        "stopwatch": found.harness,
        "method": f"estimate corrected ({learnt.correction.kind}) by {counted}; interval x/÷{learnt.factor:.2f}",
        "corrected_by": counted,
    }
    low, high = value / learnt.factor, value * learnt.factor
    reading = replace(estimate, value=value, low=low, high=high, how="corrected", conditions=conditions)
    method = {"method": "1000 / latency_ms, back to back; a live camera runs slower"}
    fps = Reading(1000 / value, "1/s", 1000 / high, 1000 / low, "corrected", conditions | method)
    return {"latency_ms": reading, "fps": fps}


def _estimate(costs: Sequence[Cost], target: Target) -> Reading:
    return latency(costs, target)["latency_ms"]
