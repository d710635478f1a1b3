"""The energy prior: by hand, against the published millijoules, and as battery charge."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.devices import Target, find_device
from coreml_pareto.objectives.energy import battery_readings, energy, format_mah
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.reading import Reading

MAC = Target(find_device("MacBook Air 13 (M1)"), 17)


def millijoules(costs: list[Cost], target: Target) -> float:
    return energy(costs, target)["energy_mj"].value


def test_resnet18_on_a_mac_is_the_published_check(row) -> None:  # type: ignore[no-untyped-def]
    # 1.82 GMAC, 11.7 M weights: 2.5 mJ by these terms, 2.6 measured (ane-guide, arXiv 2606.22283).
    resnet18 = [row(macs=1_820_000_000, weight_elements=11_700_000)]
    assert millijoules(resnet18, MAC) == pytest.approx(0.3 + 1.82 * 0.74 + 23.4e-3 * 35)
    assert 0.9 < millijoules(resnet18, MAC) / 2.6 < 1.1


def test_distilbert_on_a_phone_is_within_the_interval(row) -> None:  # type: ignore[no-untyped-def]
    # Apple, "Deploying Transformers on the Apple Neural Engine": 3.47 ms at 0.454 W and 9.44 ms at 0.072 W, iPhone 13.
    distilbert = [row(macs=5_600_000_000, weight_elements=66_000_000, kind="linear", group="matrix")]
    reading = energy(distilbert, Target(find_device("iPhone 13"), 16))["energy_mj"]
    assert reading.low < 0.68 < 1.58 < reading.high


def test_the_terms_by_hand(row, target) -> None:  # type: ignore[no-untyped-def]
    spilling = [row(macs=10**9, weight_elements=10**6, read_bytes=3 * 10**6, written_bytes=10**6)]
    phone = 0.3 * (0.3 + 0.74 + 35e-9 * (2e6 + 2e6))
    assert millijoules(spilling, target()) == pytest.approx(phone)
    assert millijoules(spilling, target(compute_units="CPU_AND_GPU")) == pytest.approx(10 * phone)
    w8a8 = [dataclasses.replace(spilling[0], precision="w8a8", weight_bytes=10**6)]  # int8 activations fit on chip
    assert millijoules(w8a8, target()) == pytest.approx(0.3 * (0.3 + 0.47 + 35e-9 * 1e6))


def test_int8_arithmetic_saves_only_where_the_chip_has_it(row, target) -> None:  # type: ignore[no-untyped-def]
    fp16, w8a8 = [row(macs=10**9)], [row(macs=10**9, precision="w8a8")]
    assert millijoules(w8a8, target("iPhone 14 Pro")) == millijoules(fp16, target("iPhone 14 Pro"))
    assert millijoules(w8a8, target("iPhone 15 Pro")) < millijoules(fp16, target("iPhone 15 Pro"))


def test_what_is_handed_over_takes_the_cpus_energy_and_a_dispatch_of_its_own(row, target) -> None:  # type: ignore[no-untyped-def]
    kept = [row(macs=10**10)]
    gather = row(kind="gather", group="other", off_engine="gathering", read_bytes=3 * 10**6)
    reading = energy([*kept, gather], target())["energy_mj"]
    assert reading.conditions["unit"] == "Neural Engine"
    assert reading.value == pytest.approx(millijoules(kept, target()) + 10 * 0.3 * (0.3 + 35e-9 * 1e6))
    assert (reading.low, reading.high) == pytest.approx((reading.value / 5, reading.value * 5))
    assert "hands over runs on the CPU" in reading.conditions["assumes"]
    small = [row(macs=10**7), gather]  # whole on the CPU
    assert millijoules(small, target()) == millijoules(small, target(compute_units="CPU_ONLY"))


@pytest.mark.parametrize(
    ("device", "units", "factor"),
    [
        ("iPhone 15 Pro", "ALL", 4),
        ("iPhone 15 Pro", "CPU_AND_GPU", 5),
        ("MacBook Air 13 (M1)", "ALL", 3),
        ("iPad Pro 11 (M4)", "ALL", 3),
    ],
)
def test_intervals_are_as_wide_as_the_evidence_is_thin(row, target, device, units, factor) -> None:  # type: ignore[no-untyped-def]
    reading = energy([row(macs=10**8)], target(device, 17, units))["energy_mj"]
    assert (reading.low, reading.high) == pytest.approx((reading.value / factor, reading.value * factor))


def test_fp32_runs_on_the_gpu_and_costs_about_ten_times(row, target) -> None:  # type: ignore[no-untyped-def]
    fp32 = [row(macs=10**10, precision="fp32", weight_elements=10**6, weight_bytes=4 * 10**6)]
    fp16 = [row(macs=10**10, weight_elements=10**6)]
    assert energy(fp32, target())["energy_mj"].conditions["unit"] == "GPU"
    assert 9.9 < millijoules(fp32, target()) / millijoules(fp16, target()) < 11


def test_energy_is_no_constant_times_latency(row) -> None:  # type: ignore[no-untyped-def]
    from coreml_pareto.objectives.latency import latency

    arithmetic, traffic = [row(macs=10**9)], [row(weight_elements=10**7)]
    ratios = [millijoules(c, MAC) / latency(c, MAC)["latency_ms"].value for c in (arithmetic, traffic)]
    assert ratios[0] > 1.2 * ratios[1]


@given(
    macs=st.integers(0, 10**9),
    weights=st.integers(0, 10**7),
    moved=st.integers(0, 10**7),
    more=st.integers(0, 10**7),
    bits=st.sampled_from([2, 4, 8, 16]),
)
def test_more_work_and_more_bits_never_take_less(macs: int, weights: int, moved: int, more: int, bits: int) -> None:
    base = Cost("conv", "conv", "dense", "fp16", macs, weights * bits // 8, weights, moved, 0)
    for target in (MAC, Target(find_device("iPhone 16"), 18)):
        before = millijoules([base], target)
        for change in (
            {"macs": macs + more},
            {"read_bytes": moved + more},
            {"weight_bytes": weights * 2, "weight_elements": weights},
        ):
            assert millijoules([dataclasses.replace(base, **change)], target) >= before * (1 - 1e-12)  # type: ignore[arg-type]


def test_battery_arithmetic() -> None:
    one = Reading(1.0, "mJ", 0.5, 4.0, "estimated")
    readings = battery_readings(one, find_device("iPhone 16"))  # 3561 mAh at 3.88 V
    assert readings["energy_mah"].value == pytest.approx(1e-3 / (3.6 * 3.88))
    joules = 3.561 * 3.88 * 3600
    percent = readings["inferences_per_percent"]
    assert percent.value == pytest.approx(joules / 100 / 1e-3)
    assert (percent.low, percent.high) == pytest.approx((percent.value / 4, percent.value * 2))
    # one per cent, inference by inference, is one per cent of the charge
    assert percent.value * readings["energy_mah"].value == pytest.approx(35.61)


def test_an_assumed_voltage_is_told_and_no_battery_is_blank() -> None:
    one = Reading(1.0, "mJ", 0.5, 4.0, "estimated")
    assert "3.85 V (assumed" in battery_readings(one, find_device("iPhone XR"))["energy_mah"].conditions["battery"]
    assert battery_readings(one, find_device("Mac mini (M4)")) == {}
    assert set(energy([], Target(find_device("Mac mini (M4)"), 18))) == {"energy_mj"}


@pytest.mark.parametrize(
    ("mah", "text"),
    [
        (7.2e-5, "72 nAh"),
        (1.784e-5, "17.8 nAh"),
        (1e-9, "0.001 nAh"),
        (9.996e-4, "1 µAh"),
        (0.0123, "12.3 µAh"),
        (0.99951, "1 mAh"),
        (2.5, "2.5 mAh"),
    ],
)
def test_charge_for_people(mah: float, text: str) -> None:
    assert format_mah(mah) == text
