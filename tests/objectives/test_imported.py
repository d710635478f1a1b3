"""What imported measurements make of a package's latency: measured, corrected, or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.measurements import Measurements, Record
from coreml_pareto.objectives.imported import differences, evidence, evidence_for, readings
from coreml_pareto.objectives.latency import latency
from coreml_pareto.objectives.program import Cost

MACS = {"a" * 64: 10**8, "b" * 64: 10**9, "c" * 64: 4 * 10**9}


def network(macs: int) -> tuple[Cost, ...]:
    return (Cost("conv", "conv", "dense", "fp16", macs, 2000, 1000, 4000, 4000),)


@pytest.fixture
def phone(target: Callable[..., Target]) -> Callable[..., Measurements]:
    """phone(factor, os=..., ...): a device that takes `factor` times its estimate for three networks."""

    def make(factor: float = 1.5, **fields: Any) -> Measurements:
        packages, records = [], []
        for digest, macs in MACS.items():
            median = factor * latency(network(macs), target())["latency_ms"].value
            rows = [vars(row) for row in network(macs)]
            packages.append({"digest": digest, "name": "n", "role": "other", "costs": rows})
            records.append(_record(digest, median) | fields)
        return Measurements.model_validate(
            {
                "format": "coreml-pareto-measurements",
                "version": 1,
                "unit": "ms",
                "packages": packages,
                "records": records,
            }
        )

    return make


def _record(digest: str, median: float) -> dict[str, Any]:
    return {
        "digest": digest, "device": "iPhone16,1", "os": "17.5.1", "os_build": "21F90", "harness": "test kit",
        "compute_units": "ALL", "median_ms": median, "p10_ms": 0.9 * median, "p90_ms": 1.2 * median,
        "load1_ms": 120.0, "load2_ms": 15.0, "rounds": 20, "predictions_per_round": 50, "warm_up": 7,
        "thermal": "nominal", "low_power": False, "measured_at": "2026-11-25T10:00:00Z",
    }  # fmt: skip


def test_the_very_package_is_measured(phone: Callable[..., Measurements], target: Callable[..., Target]) -> None:
    (found,) = evidence(phone())
    reading = readings("b" * 64, network(10**9), found)["latency_ms"]
    assert reading.how == "measured" and reading.value == found.records["b" * 64].median_ms
    assert (reading.low, reading.high) == (pytest.approx(0.9 * reading.value), pytest.approx(1.2 * reading.value))
    assert "test kit" in reading.conditions["stopwatch"] and "21F90" in reading.conditions["stopwatch"]
    assert "1000 predictions" in reading.conditions["method"]


def test_another_package_is_corrected(phone: Callable[..., Measurements], target: Callable[..., Target]) -> None:
    (found,) = evidence(phone(1.5))
    other = network(2 * 10**9)
    estimate = latency(other, target())["latency_ms"].value
    score = readings("d" * 64, other, found)
    reading, fps = score["latency_ms"], score["fps"]
    assert reading.how == fps.how == "corrected"
    assert reading.value == pytest.approx(1.5 * estimate, rel=0.02)
    assert reading.low < reading.value < reading.high
    assert fps.value == pytest.approx(1000 / reading.value) and fps.low == pytest.approx(1000 / reading.high)
    assert reading.conditions["corrected_by"] == "3 measured networks" and reading.conditions["unit"] == "Neural Engine"
    assert {digest for digest, *_ in differences(found)} == set(MACS)
    assert all(math.isclose(corrected, median, rel_tol=0.05) for *_, corrected, median in differences(found))


def test_one_network_that_runs_elsewhere_does_not_turn_the_correction(
    phone: Callable[..., Measurements], target: Callable[..., Target]
) -> None:
    """Whether it comes first or last: what is unknown is that of the unit that most of them run on."""
    (found,) = evidence(phone(1.5))
    gather = Cost("g", "gather", "other", "fp16", 0, 0, 0, 10**5, 10**5, off_engine="gathering")
    costs = dict(found.costs) | {"a" * 64: (*found.costs["a" * 64], gather)}
    assert latency(costs["a" * 64], target())["latency_ms"].conditions["unit"] == "CPU"
    last = dict(reversed(list(found.records.items())))
    fits = [replace(found, records=records, costs=costs).fit for records in (found.records, last)]
    assert fits[0].correction.factors == pytest.approx(fits[1].correction.factors, rel=0.01)


def test_only_the_same_device_and_units_count(
    phone: Callable[..., Measurements], target: Callable[..., Target]
) -> None:
    groups = evidence(phone())
    assert evidence_for(target(), groups) is groups[0]
    assert evidence_for(target("iPhone 14 Pro"), groups) is None
    assert evidence_for(target(compute_units="CPU_ONLY"), groups) is None


def test_its_own_system_counts_before_a_newer_one_and_an_older_one_never(
    phone: Callable[..., Measurements], target: Callable[..., Target]
) -> None:
    groups = (*evidence(phone(os="26.1")), *evidence(phone(os="18.2")), *evidence(phone()))
    assert [evidence_for(target(os=os), groups).target.os for os in (17, 18, 26)] == [17, 18, 26]  # type: ignore[union-attr]
    assert evidence_for(target(os=17), groups[:2]) is groups[1]
    assert evidence_for(target(os=26), groups[1:]) is None


def test_stopwatches_are_not_pooled_and_the_latest_record_counts(phone: Callable[..., Measurements]) -> None:
    first, other = phone(1.5), phone(2.0, harness="another kit")
    later = phone(1.6, measured_at="2026-11-26T10:00:00Z")
    both = Measurements.model_validate(
        first.model_dump() | {"records": [*later.records, *first.records, *other.records]}
    )
    groups = {group.harness: group for group in evidence(both)}
    assert set(groups) == {"test kit", "another kit"}
    ours: dict[str, Record] = dict(groups["test kit"].records)
    assert [record.median_ms for record in ours.values()] == [record.median_ms for record in later.records]


def test_predictions_that_lie_apart_count_where_there_is_nothing_else(
    phone: Callable[..., Measurements], target: Callable[..., Target]
) -> None:
    apart = {"harness": "at the cable", "back_to_back": False, "rounds": 1, "predictions_per_round": 30}
    cold, warm = evidence(phone(3.0, **apart)), evidence(phone(os="18.2"))
    assert evidence_for(target(), cold) is cold[0]
    assert evidence_for(target(), (*cold, *warm)) is warm[0]
