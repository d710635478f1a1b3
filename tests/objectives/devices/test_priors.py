"""The table of priors: values inside their ranges, sources named, every chip of the catalogue covered."""

from __future__ import annotations

import pytest

from coreml_pareto.objectives.devices import devices, priors
from coreml_pareto.objectives.devices.priors import Prior

PRIORS = {name: value for name, value in vars(priors).items() if isinstance(value, Prior)}
PRIORS |= priors.TERMS
PRIORS |= {f"eta {os}": priors.realised_saving(os) for os in (15, 16, 17, 18, 26)}
LEGEND = (priors.__doc__ or "").split("Sources, by tag:")[1]


@pytest.mark.parametrize("name", PRIORS)
def test_value_lies_in_its_range_and_has_unit_and_source(name: str) -> None:
    prior = PRIORS[name]
    assert 0 <= prior.low <= prior.value <= prior.high
    assert prior.unit
    assert prior.source


@pytest.mark.parametrize("tag", ["CT", "MO", "IF", "WF", "CZ", "EX", "ANEG", "MX", "AT"])
def test_every_source_tag_is_explained(tag: str) -> None:
    assert f"- {tag} " in LEGEND


@pytest.mark.parametrize("soc", sorted({device.soc for device in devices()}))
def test_every_chip_of_the_catalogue_has_a_generation(soc: str) -> None:
    assert 12 <= priors.GENERATIONS[soc] <= 19


def test_int8_chips_gain_from_w8a8() -> None:
    assert priors.INT8_CHIPS < priors.W8A8_CHIPS
    assert {device.soc for device in devices()} >= priors.W8A8_CHIPS


def test_newer_systems_never_realise_less() -> None:
    savings = [priors.realised_saving(os).value for os in (15, 16, 17, 18, 26, 27)]
    assert savings == sorted(savings) == [0, 0, 0.15, 0.6, 0.6, 0.6]
