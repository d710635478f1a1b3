"""Draws of what readings of several packages do not share."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.devices.fit import Z80
from coreml_pareto.objectives.energy_ratio import TERMS, Terms, ratio
from coreml_pareto.objectives.errors import Errors, Subject, errors
from coreml_pareto.objectives.latency_terms import SCATTER, Parts
from coreml_pareto.objectives.reading import Reading, exact

TARGET = Target(find_device("iPhone 15 Pro"), 17)
DRAWS = 20_000
ONE, SISTER, OTHER = Subject("net", "net-a"), Subject("net", "net-b"), Subject("other", "other-a")
ENGINE = {"unit": "Neural Engine", "device": "iPhone 15 Pro"}


def latency(ms: float = 1.0, *, unit: str = "Neural Engine", factor: float = 1.3, share: float = 0.5) -> Reading:
    """Half of it the floor, the rest one term, on the Neural Engine."""
    parts = Parts(share * ms, ((1 - share) * ms, *[0.0] * (len(priors.TERMS) - 1)), 0.0)
    carried = {"terms": parts.text} if unit == "Neural Engine" else {}
    return Reading(ms, "ms", ms / factor, ms * factor, "estimated", {"unit": unit, "device": "iPhone 15 Pro"} | carried)


def energy(terms: Terms, unit: str = "Neural Engine") -> Reading:
    value = terms.millijoules
    return Reading(value, "mJ", value / 4, value * 4, "estimated", ENGINE | {"unit": unit, TERMS: terms.text})


def drawn(name: str, readings: list[Reading], subjects: list[Subject], draws: int = DRAWS) -> Errors:
    found = errors(name, readings, subjects, TARGET, draws)
    assert found is not None and found.between.shape == found.own.shape == (draws, len(readings))
    return found


def test_what_is_counted_or_measured_has_no_errors() -> None:
    assert errors("size", [exact(1.0, "B")], [ONE], TARGET, 5) is None
    assert errors("latency", [Reading(1, "ms", 0.9, 1.2, "measured")], [ONE], TARGET, 5) is None
    mixed = drawn("latency", [Reading(1, "ms", 0.9, 1.2, "measured"), latency()], [ONE, OTHER], 50)
    assert not mixed.own[:, 0].any() and not mixed.between[:, 0].any() and mixed.own[:, 1].all()


def test_compressions_of_one_network_share_its_scatter_and_others_do_not() -> None:
    found = drawn("latency", [latency(), latency(), latency()], [ONE, SISTER, OTHER])
    assert (found.own[:, 0] == found.own[:, 1]).all() and found.between[:, 0] == pytest.approx(found.between[:, 1])
    assert found.own[:, 0].std() == pytest.approx(SCATTER, rel=0.03) == found.own[:, 2].std()
    assert abs(np.corrcoef(found.own[:, 0], found.own[:, 2])[0, 1]) < 0.03
    apart = found.between[:, 0] - found.between[:, 2]
    assert apart.std() == pytest.approx(math.sqrt(2) * SCATTER, rel=0.03)  # the same mixture: no slope tells them apart


def test_more_of_one_term_is_off_by_its_slope_as_well() -> None:
    found = drawn("latency", [latency(share=0.9), latency(share=0.1)], [ONE, SISTER])
    assert (found.between[:, 0] - found.between[:, 1]).std() > 0.02 and (found.own[:, 0] == found.own[:, 1]).all()


def test_what_all_share_is_not_drawn_and_between_units_it_is() -> None:
    alone = drawn("latency", [latency(unit="CPU", factor=6), latency(unit="CPU", factor=6)], [ONE, OTHER])
    miss = priors.UNIT_MISS["CPU"]
    assert np.abs(alone.own[:, 0]).mean() == pytest.approx(miss, rel=0.03)
    assert (alone.between == alone.own).all()
    both = drawn("latency", [latency(), latency(unit="CPU", factor=6)], [ONE, OTHER])
    assert (both.between[:, 1] - both.own[:, 1]).std() == pytest.approx(math.log(6) / Z80, rel=0.03)


@pytest.mark.parametrize(("networks", "by_terms"), [(1, True), (2, True), (3, False), (8, False)])
def test_a_correction_tells_its_own_error_from_three_networks_on(networks: int, by_terms: bool) -> None:
    plain, factor = latency(), 1.5
    told = dict(plain.conditions) | {"corrected_by": f"{networks} measured networks"}
    reading = replace(plain, how="corrected", low=1 / factor, high=factor, conditions=told)
    found = drawn("latency", [reading, reading], [ONE, OTHER])
    expected = SCATTER if by_terms else math.log(factor) / Z80 / math.sqrt(1 + 2 / networks)
    assert found.own[:, 0].std() == pytest.approx(expected, rel=0.03)
    assert by_terms or (found.between == found.own).all()


def test_memory_has_one_planner_for_all() -> None:
    wide, narrow = Reading(10, "B", 8, 25, "estimated"), Reading(12, "B", 12, 13, "estimated")
    found = drawn("memory", [wide, narrow, wide], [ONE, OTHER, SISTER])
    assert not found.own.any()
    assert (found.between[:, 0] == found.between[:, 2]).all()
    shares = np.quantile(10 * np.exp(found.between[:, 0]), (0.1, 0.5, 0.9))
    assert shares == pytest.approx((8, 10, 25), rel=0.03)  # an 80 % interval
    above = found.between[:, 0] > 0
    assert (found.between[above, 1] > 0).all() and not found.between[~above, 1].any()


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("unit", ["Neural Engine", "GPU"])
def test_two_energies_are_drawn_as_their_ratio_says(same: bool, unit: str) -> None:
    first, second = energy(Terms(0.09, 0.02, 0, 0, 0.08)), energy(Terms(0.09, 0.06, 0.01, 0, 0.02), unit)
    found = drawn("energy", [first, second], [ONE, SISTER if same else OTHER])
    logs = found.between[:, 0] - found.between[:, 1] + math.log(first.value / second.value)
    told = ratio(first, second, same_network=same)
    assert np.exp(np.quantile(logs, (0.1, 0.9))) == pytest.approx((told.low, told.high), rel=0.05)


def test_energies_without_terms_have_their_interval_for_each_network() -> None:
    plain = Reading(1, "mJ", 0.25, 4, "estimated")
    found = drawn("energy", [plain, plain, plain], [ONE, SISTER, OTHER])
    assert (found.own[:, 0] == found.own[:, 1]).all() and (found.between == found.own).all()
    assert np.exp(np.quantile(found.own[:, 2], (0.1, 0.9))) == pytest.approx((0.25, 4), rel=0.05)


@pytest.mark.parametrize("name", ["latency", "memory", "energy"])
def test_others_that_come_or_go_and_their_order_change_nothing(name: str) -> None:
    made = {
        "latency": [latency(), latency(2.0, share=0.2), latency(0.5)],
        "memory": [Reading(v, "B", v / 2, v * 3, "estimated") for v in (1, 2, 3)],
        "energy": [energy(Terms(0.09, v, 0, 0, 0.1)) for v in (0.1, 0.2, 0.3)],
    }[name]
    subjects = [ONE, SISTER, OTHER]
    every = drawn(name, made, subjects, 40)
    turned = drawn(name, made[::-1], subjects[::-1], 40)
    assert turned.between == pytest.approx(every.between[:, ::-1], abs=1e-12)
    assert (turned.own == every.own[:, ::-1]).all()
    assert drawn(name, made[:1], subjects[:1], 40).between == pytest.approx(every.between[:, :1], abs=1e-12)
