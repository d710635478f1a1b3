"""Ratios of energies: against closed forms, published ratios and their own symmetry."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.devices import Target, find_device
from coreml_pareto.objectives.devices.priors import BYTE_PJ, DISPATCH_MJ, W8A8_MAC_PJ
from coreml_pareto.objectives.energy import energy
from coreml_pareto.objectives.energy_ratio import TERMS, Ratio, Terms, ratio
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.reading import Reading

MAC = Target(find_device("MacBook Air 13 (M2)"), 18)
PHONE = Target(find_device("iPhone 15 Pro"), 17)

parts = st.floats(0, 10)
some_terms = st.builds(Terms, dispatch=st.floats(0.01, 1), macs=parts, matrix_macs=parts, int8_macs=parts, bytes=parts)


def reading(terms: Terms, factor: float = 4, unit: str = "Neural Engine", device: str = "iPhone 15 Pro") -> Reading:
    value = terms.millijoules
    conditions = {"device": device, "unit": unit, TERMS: terms.text}
    return Reading(value, "mJ", value / factor, value * factor, "estimated", conditions)


def conv(macs: int, weights: int, bits: int = 16) -> list[Cost]:
    return [Cost("conv", "conv", "dense", "fp16", macs, weights * bits // 8, weights, 0, 0)]


@given(some_terms)
def test_terms_are_read_back(terms: Terms) -> None:
    back = Terms.of(reading(terms))
    assert back is not None
    assert dataclasses.astuple(back) == pytest.approx(dataclasses.astuple(terms), rel=1e-8, abs=1e-300)


@pytest.mark.parametrize("target", [MAC, PHONE])
def test_the_terms_of_an_estimate_add_up_to_it(target: Target, row) -> None:  # type: ignore[no-untyped-def]
    costs = [row(macs=10**9, weight_elements=10**6), row(macs=10**8, kind="linear", group="matrix", weight_elements=10)]
    costs.append(row(macs=10**8, precision="w8a8", weight_bytes=10**5, weight_elements=10**5))
    found = energy(costs, target)["energy_mj"]
    terms = Terms.of(found)
    assert terms is not None and terms.millijoules == pytest.approx(found.value)
    assert (terms.matrix_macs / terms.macs > 0.09) and (terms.int8_macs > 0) == (target is PHONE)


@given(some_terms)
def test_two_forms_of_one_network_with_the_same_terms_are_equal(terms: Terms) -> None:
    same = ratio(reading(terms), reading(terms), same_network=True)
    assert (same.low, same.value, same.high) == pytest.approx((1 / 1.03, 1, 1.03)) and not same.ranks


@given(some_terms, some_terms, st.booleans())
def test_the_other_way_round_is_one_over(one: Terms, other: Terms, same: bool) -> None:
    there, back = (ratio(reading(a), reading(b), same_network=same) for a, b in ((one, other), (other, one)))
    assert (1 / there.high, 1 / there.value, 1 / there.low) == pytest.approx((back.low, back.value, back.high))
    assert there.low <= there.value <= there.high and there.ranks == back.ranks


@given(some_terms, some_terms, st.floats(0.01, 100), st.floats(1.1, 9))
def test_the_factor_of_the_device_cancels(one: Terms, other: Terms, k: float, factor: float) -> None:
    scaled = [Terms(*(k * part for part in dataclasses.astuple(terms))) for terms in (one, other)]
    here = ratio(reading(one), reading(other))
    there = ratio(*(reading(terms, factor) for terms in scaled))
    assert (there.low, there.value, there.high) == pytest.approx((here.low, here.value, here.high), rel=1e-6)


@given(some_terms, some_terms)
def test_another_network_is_never_known_better_than_another_form(one: Terms, other: Terms) -> None:
    form, network = (ratio(reading(one), reading(other), same_network=same) for same in (True, False))
    assert math.log(network.high / network.low) >= 0.93 * math.log(form.high / form.low)  # quantiles of draws


def test_the_interval_in_closed_form() -> None:
    """E1 is a dispatch and E2 one plus bytes: E2 / E1 = 1 + x with x log-normal."""
    one, other = Terms(1, 0, 0, 0, 0), Terms(1, 0, 0, 0, 2)
    width = math.hypot(*(math.log(prior.high / prior.low) / 2 for prior in (DISPATCH_MJ, BYTE_PJ)))
    found = ratio(reading(other), reading(one), same_network=True)
    assert found.value == 3
    assert found.low == pytest.approx(1 + 2 * math.exp(-width), rel=0.03)
    assert found.high == pytest.approx(1 + 2 * math.exp(width), rel=0.03)
    only_bytes = ratio(reading(Terms(0, 0, 0, 0, 3)), reading(Terms(0, 0, 0, 0, 2)))  # what is left is 1.3, twice
    assert found.ranks and only_bytes.value == 1.5
    assert only_bytes.high == pytest.approx(1.5 * math.exp(math.sqrt(2) * math.log(1.3)), rel=0.02)


def test_what_int8_saves_is_known_as_well_as_its_constant() -> None:
    found = ratio(reading(Terms(0, 0, 0, 0.47, 0)), reading(Terms(0, 0.74, 0, 0, 0)), same_network=True)
    half = math.log(W8A8_MAC_PJ.high / W8A8_MAC_PJ.low) / 2
    assert found.value == pytest.approx(0.47 / 0.74)
    assert (found.low, found.high) == pytest.approx(
        (found.value * math.exp(-half), found.value * math.exp(half)), rel=0.03
    )


@pytest.mark.parametrize(("bits", "published"), [(8, 0.89), (4, 0.62)])
def test_published_products_on_the_m2(bits: int, published: float) -> None:
    """Ane-guide (arXiv 2606.22283): 4096 x 4096 weights, 1.50 mJ in fp16; every stored byte counts where they stream."""
    weights = 4096 * 4096
    whole, packed = (Terms(0.3, 0, 0.74e-9 * weights, 0, 35e-9 * weights * width / 8) for width in (16, bits))
    assert (whole.millijoules, packed.millijoules) == pytest.approx((1.50, published), rel=0.03)
    found = ratio(reading(packed), reading(whole), same_network=True)
    assert found.ranks and found.low < published / 1.50 < found.high


def test_published_networks_on_the_m2_pro() -> None:
    """Ane-guide: ViT-B 67.9 mJ, ResNet-18 2.6, 26 times as much: ranked rightly, while the terms say too little."""
    vit = [Cost("mlp", "linear", "matrix", "fp16", 17_500_000_000, 2 * 86_600_000, 86_600_000, 0, 0)]
    found = ratio(energy(vit, MAC)["energy_mj"], energy(conv(1_820_000_000, 11_700_000), MAC)["energy_mj"])
    assert found.ranks and 3 < found.low < found.value < 67.9 / 2.6 < 2 * found.high


def test_weight_only_compression_is_ranked_and_nothing_saved_is_not() -> None:
    """iOS 16 unpacks weights ahead of run time; of the traffic iOS 17 saves 15 % of the bytes saved, iOS 18 40 %."""
    for os, ranked in ((16, False), (17, False), (18, True)):
        target = Target(find_device("iPhone 14 Pro"), os)
        int8, fp16 = (energy(conv(10**8, 4 * 10**6, bits), target)["energy_mj"] for bits in (8, 16))
        found = ratio(int8, fp16, same_network=True)
        assert found.ranks is ranked and found.value <= 1
        assert int8.high > fp16.low  # their intervals alone would say nothing


def test_networks_that_are_all_dispatch_are_not_told_apart() -> None:
    one, other = (energy(conv(macs, 10_000), PHONE)["energy_mj"] for macs in (10**6, 2 * 10**6))
    found = ratio(other, one, same_network=True)
    assert 1 < found.value < 1.01 and not found.ranks


def test_two_units_keep_the_factor_between_them() -> None:
    terms = Terms(0.1, 0.2, 0, 0, 0.1)
    phone = ratio(reading(terms, unit="GPU"), reading(terms), same_network=True)
    extra = math.sqrt(math.log(5) ** 2 - math.log(4) ** 2 + (math.log(10.5 / 8.6) / 2) ** 2 + math.log(1.03) ** 2)
    assert (phone.low, phone.high) == pytest.approx((math.exp(-extra), math.exp(extra)))
    mac = "MacBook Air 13 (M2)"
    laptop = ratio(reading(terms, unit="GPU", device=mac), reading(terms, device=mac), same_network=True)
    assert laptop.high == pytest.approx(math.exp(math.hypot(math.log(10.5 / 8.6) / 2, math.log(1.03))))


def test_without_terms_the_intervals_are_independent() -> None:
    bare = Reading(2.0, "mJ", 1.0, 4.0, "estimated")
    measured = Reading(1.0, "mJ", 0.9, 1 / 0.9, "measured", {"device": "iPhone 15 Pro"})
    spread = math.hypot(math.log(2), math.log(0.9))
    found = ratio(bare, measured)
    assert (found.low, found.value, found.high) == pytest.approx((2 * math.exp(-spread), 2, 2 * math.exp(spread)))
    terms = Terms(0.1, 0, 0, 0, 0)
    other = ratio(reading(terms), reading(terms, device="iPhone 13"))
    assert other.high == pytest.approx(math.exp(math.hypot(math.log(4), math.log(4))))


@pytest.mark.parametrize(("low", "high", "ranks"), [(0.5, 0.9, True), (0.9, 1.1, False), (1.1, 2, True), (1, 2, False)])
def test_what_ranks(low: float, high: float, ranks: bool) -> None:
    assert Ratio((low + high) / 2, low, high).ranks is ranks
