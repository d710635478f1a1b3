"""Published latencies behind each device: counts by hand, neighbours by the prior, rows of known devices and sources."""

from __future__ import annotations

from importlib.resources import files

import pytest

from coreml_pareto.objectives.devices.catalogue import Device, devices, find_device
from coreml_pareto.objectives.devices.coverage import calibrating, coverage, published
from coreml_pareto.objectives.devices.published import published as fitted_to

CITATIONS = (files("coreml_pareto.objectives.devices") / "CITATIONS.md").read_text(encoding="utf-8")
LEGEND = CITATIONS.split("# Sources of `coverage.csv`")[1].split("# Sources of")[0]


def count(source: str, device: str, scheme: str | None = None) -> int:
    """Figures of one source for one device, all of which can carry an estimate."""
    rows = [row for row in published() if row.source == source and row.device == device and row.calibrates]
    return sum(row.measurements for row in rows if scheme in (None, row.scheme))


def test_apples_tables_counted_by_hand() -> None:
    """Cells of the guide's tables with a latency, by device."""
    # opt-quantization-perf: three networks on two phones, fp16 (the 14 Pro's fp16 of two stand in CT-P), int8 and w8a8.
    assert (count("CT-Q", "iPhone 14 Pro", "int8"), count("CT-Q", "iPhone 14 Pro", "w8a8")) == (3, 3)
    assert (count("CT-Q", "iPhone 15 Pro", "int8"), count("CT-Q", "iPhone 15 Pro", "w8a8")) == (3, 3)
    assert count("CT-P", "iPhone 14 Pro", "palette") == 16  # four networks at 2, 4, 6 and 8 bits
    assert count("CT-S", "iPhone 14 Pro", "pruning") == 6  # three networks at 50 and 75 %
    assert count("CT-R", "iPhone 15 Pro") == 11  # fp16, six palettes, three sparsities, w8a8
    assert count("MO", "iPhone 12 Pro") == 5  # MobileOne S0 to S4
    assert count("MN4", "iPhone 13") == 18  # table 6


def test_every_row_is_of_a_known_device_and_source() -> None:
    keys = [(r.device, r.units, r.harness, r.scheme, r.calibrates, r.source) for r in published()]
    assert len(keys) == len(set(keys))
    for row in published():
        assert find_device(row.device).name == row.device
        assert f"`{row.source}`" in LEGEND and row.measurements > 0
        assert row.units in (None, "all", "Neural Engine", "GPU", "CPU")
        assert row.scheme in ("float", "int8", "palette", "pruning", "w8a8")


@pytest.mark.parametrize("device", devices(), ids=lambda device: device.name)
def test_the_fit_counts_by_chip_and_the_rest_is_what_was_published(device: Device) -> None:
    found = coverage(device)
    assert {row.device for row in found.own} <= {device.name}
    assert {find_device(row.device).soc for row in found.chip} <= {device.soc}
    assert set(found.own) <= set(found.chip)
    assert found.in_fit == sum(figure.chip == device.soc for figure in fitted_to())
    assert found.in_fit <= calibrating(found.chip)
    others = {one.chip: one.in_fit for one in found.neighbours}
    assert device.soc not in others and found.in_fit + sum(others.values()) == len(fitted_to()) == 156


def test_neighbours_are_those_of_the_fits_prior() -> None:
    """Generations between them, one more between a phone and a Mac, and 0.05 that each chip has to itself: by hand."""
    nearest = {name: coverage(find_device(name)).neighbours[0] for name in ("iPhone XS", "iPhone 17", "Mac mini (M4)")}
    assert (nearest["iPhone XS"].chip, nearest["iPhone XS"].in_fit) == ("A14", 52)
    assert nearest["iPhone XS"].generations_apart == pytest.approx(2 + 0.1)
    assert nearest["iPhone 17"].chip == "A17 Pro" and nearest["iPhone 17"].generations_apart == pytest.approx(2 + 0.1)
    found = {one.chip: one.generations_apart for one in coverage(find_device("Mac mini (M4)")).neighbours}
    assert found["M3 Max"] == pytest.approx(2 + 0.1) and found["A17 Pro"] == pytest.approx(1 + 1 + 0.1)
    assert min(found.values()) == pytest.approx(2 + 0.1)
    for one in devices():
        ordered = [near.generations_apart for near in coverage(one).neighbours]
        assert ordered == sorted(ordered)


def test_what_cannot_calibrate_is_counted_apart() -> None:
    own = coverage(find_device("iPhone 11 Pro")).own
    assert sum(row.measurements for row in own) == 158 and calibrating(own) == 0
