"""Published latencies behind each device: counts by hand, lenders by rule, and every row of a known device and source."""

from __future__ import annotations

from importlib.resources import files

import pytest

from coreml_pareto.objectives.devices.catalogue import Device, devices, find_device
from coreml_pareto.objectives.devices.coverage import calibrating, coverage, published

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
def test_a_device_counts_its_own_then_its_chips_then_a_lenders(device: Device) -> None:
    found = coverage(device)
    assert {row.device for row in found.own} <= {device.name}
    assert {find_device(row.device).soc for row in found.chip} <= {device.soc}
    assert set(found.own) <= set(found.chip)
    assert (found.lender is None) == (calibrating(found.chip) > 0)
    if found.lender is not None:
        assert found.lender[0] == device.soc[0] and calibrating(found.lent) > 0


@pytest.mark.parametrize(
    ("name", "lender", "short"),
    [
        ("iPhone XS", "A14", "←A14 67"),  # the A13's own figures are whole milliseconds on iOS 13
        ("iPhone 11 Pro", "A14", "←A14 67"),
        ("iPhone 13", None, "104"),
        ("iPhone 14", None, "A15 106"),
        ("iPhone 16 Pro", "A17 Pro", "←A17 Pro 35"),
        ("iPhone 17 Pro", "A17 Pro", "←A17 Pro 35"),  # four figures through ExecuTorch, in whole milliseconds
        ("iPad Air 11 (M2)", "M2 Max", "←M2 Max 3"),
        ("Mac mini (M4)", "M3 Max", "←M3 Max 3"),
    ],
)
def test_who_lends_to_whom(name: str, lender: str | None, short: str) -> None:
    found = coverage(find_device(name))
    assert (found.lender, found.short) == (lender, short)


def test_what_cannot_calibrate_is_counted_apart() -> None:
    own = coverage(find_device("iPhone 11 Pro")).own
    assert sum(row.measurements for row in own) == 158 and calibrating(own) == 0
