"""The latency prior: by hand, against published milliseconds, and in the direction that physics wants."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.devices import Target, devices, find_device
from coreml_pareto.objectives.latency import Measurement, latency
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.workload import macs
from coreml_pareto.spaces.errors import UserError

PHONE, MAC = find_device("iPhone 15 Pro"), find_device("MacBook Air 13 (M1)")


def conv(macs: int, weights: int, bits: float, moved: int, group: str = "dense", precision: str = "fp16") -> Cost:
    """One convolution; `weights` are elements, `moved` are activation bytes."""
    return Cost("conv", "conv", group, precision, macs, int(weights * bits / 8), weights, moved, 0)  # type: ignore[arg-type]


tables = st.lists(
    st.builds(
        conv,
        macs=st.integers(0, 10**9),
        weights=st.integers(0, 10**7),
        bits=st.sampled_from([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0]),
        moved=st.integers(0, 10**8),
        group=st.sampled_from(["dense", "depthwise", "matrix"]),
        precision=st.sampled_from(["fp16", "w8a8"]),
    ),
    min_size=1,
    max_size=4,
)
targets = st.sampled_from(
    [
        Target(device, os, units)
        for device in devices()
        for os in (15, 16, 17, 18, 26)
        for units in ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")
        if (device.os_first or 15) <= os <= (device.os_latest or 26)
    ]
)


def milliseconds(costs: Sequence[Cost], target: Target) -> float:
    return latency(costs, target)["latency_ms"].value


def changed(costs: Sequence[Cost], **changes: object) -> list[Cost]:
    return [dataclasses.replace(cost, **changes) for cost in costs]  # type: ignore[arg-type]


# By hand


def test_neural_engine_by_hand() -> None:
    costs = [conv(10**9, 10**6, 16, 4 * 10**6), conv(10**8, 0, 16, 0, "depthwise"), conv(10**9, 10**6, 8, 0, "matrix")]
    # 0.05 + 2 GMAC x 0.064 + 0.1 GMAC x 0.3 + (2 MB + 2 MB (1 - 0.15 x 0.5)) x 0.012 + 4 MB x 0.010
    assert milliseconds(costs, Target(PHONE, 17)) == pytest.approx(0.05 + 0.128 + 0.03 + 0.0462 + 0.04)


def test_w8a8_by_hand() -> None:
    costs = [conv(10**9, 10**6, 8, 4 * 10**6, precision="w8a8")]
    above = 0.064 + 2 * 0.012 + 0.04  # the fp16 network's
    assert milliseconds(costs, Target(PHONE, 17)) == pytest.approx(0.05 + 0.55 * above)
    a15 = Target(find_device("iPhone 13"), 17)  # no published gain: weight-only int8
    assert milliseconds(costs, a15) == pytest.approx(0.37 + 0.064 + 2 * (1 - 0.15 / 2) * 0.012 + 0.04)
    assert "no gain is published for the A15" in latency(costs, a15)["latency_ms"].conditions["w8a8"]


@pytest.mark.parametrize(
    ("device", "units", "precision", "unit", "rate", "factor"),
    [
        (MAC, "CPU_AND_GPU", "fp16", "GPU", 0.25, 3),
        (MAC, "CPU_ONLY", "fp16", "CPU", 0.18, 3),
        (MAC, "ALL", "fp32", "GPU", 0.25, 3),
        (PHONE, "ALL", "fp32", "GPU", 0.25, 6),
        (PHONE, "CPU_AND_NE", "fp32", "CPU", 0.18, 6),
    ],
)
def test_other_units_by_hand(device, units, precision, unit, rate, factor) -> None:  # type: ignore[no-untyped-def]
    reading = latency([conv(10**9, 10**6, 16, 10**6, precision=precision)], Target(device, 17, units))["latency_ms"]
    assert reading.value == pytest.approx(1 / rate, abs=0.25)  # and the floor
    assert reading.value > 1 / rate
    assert reading.high / reading.value == pytest.approx(factor, rel=0.05)
    assert reading.conditions["unit"] == unit


# Published figures. Features of the fp16 packages at 224 px, 1000 classes: dense and depthwise GMAC, M weights, MB moved.

FEATURES = {
    "MobileNetV2": (0.2801, 0.0207, 3.488, 27.02),
    "MobileNetV3-small": (0.0490, 0.0075, 2.537, 6.55),
    "ResNet-50": (4.0892, 0.0, 25.530, 45.77),
}
PUBLISHED = [  # apple/coremltools, docs-guides, opt-quantization-perf and opt-palettization-perf, iOS 17
    ("MobileNetV2", "iPhone 15 Pro", "fp16", 0.49),
    ("MobileNetV2", "iPhone 15 Pro", "w8a8", 0.20),
    ("MobileNetV2", "iPhone 14 Pro", "fp16", 0.48),
    ("MobileNetV2", "iPhone 14 Pro", "w8a8", 0.27),
    ("MobileNetV3-small", "iPhone 14 Pro", "fp16", 0.13),
    ("ResNet-50", "iPhone 15 Pro", "fp16", 1.38),
    ("ResNet-50", "iPhone 15 Pro", "w8a8", 0.77),
    ("ResNet-50", "iPhone 14 Pro", "fp16", 1.52),
    ("ResNet-50", "iPhone 14 Pro", "w8a8", 0.94),
]


@pytest.mark.parametrize(("network", "device", "precision", "published"), PUBLISHED)
def test_published_milliseconds_lie_in_the_interval(
    network: str, device: str, precision: str, published: float
) -> None:
    dense, depthwise, weights, moved = FEATURES[network]
    bits = 8 if precision == "w8a8" else 16
    costs = [
        conv(int(dense * 1e9), int(weights * 1e6), bits, int(moved * 1e6), precision=precision),
        conv(int(depthwise * 1e9), 0, bits, 0, "depthwise", precision),
    ]
    reading = latency(costs, Target(find_device(device), 17))["latency_ms"]
    assert reading.low < published < reading.high
    assert 0.7 < reading.value / published < 1.45  # what the prior reaches; a calibration should narrow it


# Properties


@given(tables, targets)
def test_interval_contains_the_value_and_fps_is_its_inverse(costs: list[Cost], target: Target) -> None:
    readings = latency(costs, target)
    reading, fps = readings["latency_ms"], readings["fps"]
    assert 0 < reading.low <= reading.value <= reading.high
    assert reading.how == "estimated"
    assert fps.value == pytest.approx(1000 / reading.value)
    assert (fps.low, fps.high) == pytest.approx((1000 / reading.high, 1000 / reading.low))


@given(tables, targets, st.sampled_from(["macs", "read_bytes", "written_bytes", "weight_bytes"]), st.integers(0, 10**8))
def test_more_work_never_costs_less(costs: list[Cost], target: Target, what: str, more: int) -> None:
    more_work = [dataclasses.replace(costs[0], **{what: getattr(costs[0], what) + more}), *costs[1:]]
    assert milliseconds(more_work, target) >= milliseconds(costs, target) - 1e-12


@given(tables, targets)
def test_more_weights_of_the_same_bits_never_cost_less(costs: list[Cost], target: Target) -> None:
    doubled = [
        dataclasses.replace(c, weight_elements=2 * c.weight_elements, weight_bytes=2 * c.weight_bytes) for c in costs
    ]
    assert milliseconds(doubled, target) >= milliseconds(costs, target) - 1e-12


@given(tables, targets, st.floats(0, 1))
def test_fewer_bits_are_never_slower_on_the_same_system(costs: list[Cost], target: Target, kept: float) -> None:
    fewer = [dataclasses.replace(cost, weight_bytes=int(kept * cost.weight_bytes)) for cost in costs]
    assert milliseconds(fewer, target) <= milliseconds(costs, target) + 1e-12


@given(tables, st.sampled_from([17, 18, 26]))
def test_w8a8_is_never_slower_than_fp16_on_a17_pro(costs: list[Cost], os: int) -> None:
    fp16 = [dataclasses.replace(c, precision="fp16", weight_bytes=2 * c.weight_elements) for c in costs]
    w8a8 = [dataclasses.replace(c, precision="w8a8", weight_bytes=c.weight_elements) for c in costs]
    assert milliseconds(w8a8, Target(PHONE, os)) <= milliseconds(fp16, Target(PHONE, os))


@given(tables, targets)
def test_no_unit_and_no_precision_beats_fp16_on_the_neural_engine(costs: list[Cost], target: Target) -> None:
    fp16 = [dataclasses.replace(c, precision="fp16", weight_bytes=2 * c.weight_elements) for c in costs]
    fp32 = [
        dataclasses.replace(c, precision="fp32", weight_bytes=4 * c.weight_elements, read_bytes=2 * c.read_bytes)
        for c in costs
    ]
    everything = dataclasses.replace(target, compute_units="ALL")
    assert milliseconds(fp32, target) >= milliseconds(fp16, everything) - 1e-12
    assert milliseconds(fp16, target) >= milliseconds(fp16, everything) - 1e-12


@given(tables)
def test_weight_only_compression_gains_more_on_newer_systems(costs: list[Cost]) -> None:
    weight_only = changed(costs, precision="fp16")
    device = find_device("iPhone 14 Pro")
    times = [milliseconds(weight_only, Target(device, os)) for os in (16, 17, 18)]
    assert times[0] >= times[1] >= times[2]


def test_ios_16_gains_nothing_from_weight_only_compression() -> None:
    phone = Target(find_device("iPhone 14 Pro"), 16)
    assert milliseconds([conv(10**8, 10**6, 4, 0)], phone) == milliseconds([conv(10**8, 10**6, 16, 0)], phone)


def test_chips_without_data_keep_the_a17_pros_value_and_widen() -> None:
    costs = [conv(10**9, 10**6, 16, 10**6)]
    known = latency(costs, Target(PHONE, 26))["latency_ms"]
    unknown = latency(costs, Target(find_device("iPhone 17 Pro"), 26))["latency_ms"]
    assert unknown.value == known.value
    assert unknown.low < known.low < known.high < unknown.high
    assert "carried over from the A17 Pro" in unknown.conditions["stopwatch"]


@given(tables)
def test_fused_operations_cost_nothing(costs: list[Cost]) -> None:
    relu = Cost("relu", "relu", "other", "fp16", 0, 0, 0, 10**8, 10**8)
    assert milliseconds([*costs, relu], Target(PHONE, 17)) == milliseconds(costs, Target(PHONE, 17))
    assert macs([*costs, relu]) == macs(costs)


# Measurements


@pytest.fixture
def stopwatch() -> Callable[[Target], Measurement]:
    return lambda target: Measurement(target, 0.5, 0.45, 0.6, 1000, "median of a Swift runner")


def test_a_measurement_of_this_target_replaces_the_estimate(stopwatch) -> None:  # type: ignore[no-untyped-def]
    here = Target(MAC, 17)
    readings = latency([conv(10**9, 10**6, 16, 0)], here, stopwatch(here))
    reading = readings["latency_ms"]
    assert (reading.value, reading.low, reading.high, reading.how) == (0.5, 0.45, 0.6, "measured")
    assert readings["fps"].value == 2000


@pytest.mark.parametrize("other", [Target(PHONE, 17), Target(MAC, 18), Target(MAC, 17, "CPU_ONLY")])
def test_another_targets_milliseconds_are_refused(stopwatch, other) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="only for the target it was made on"):
        latency([conv(10**9, 10**6, 16, 0)], Target(MAC, 17), stopwatch(other))
