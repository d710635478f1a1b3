"""The device catalogue: every row sound, names forgiving, mistakes explained."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files

import pytest

from coreml_pareto.objectives.devices import Device, Target, devices, find_device
from coreml_pareto.objectives.devices.catalogue import ASSUMED_CELL_VOLTS
from coreml_pareto.spaces.errors import UserError

CITATIONS = (files("coreml_pareto.objectives.devices") / "CITATIONS.md").read_text(encoding="utf-8")


def test_all_devices_are_there_once() -> None:
    names = [device.name for device in devices()]
    assert len(names) == len(set(names)) == 51
    identifiers = [device.identifier for device in devices() if device.identifier]
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize("device", devices(), ids=lambda device: device.name)
def test_every_row_is_sound(device: Device) -> None:
    assert 2018 <= device.year <= 2026
    assert re.fullmatch(r"A\d\d( Pro)?|M\d( Pro| Max)?", device.soc)
    assert device.mem_bw_gb_s is None or 30 < device.mem_bw_gb_s < 500
    assert 3.7 < device.voltage[0] < 4.0
    assert device.energy_wh is None or 7 < device.energy_wh < 101
    assert device.os_first is None or device.os_latest is None or device.os_first <= device.os_latest


@pytest.mark.parametrize("device", devices(), ids=lambda device: device.name)
def test_every_figure_is_cited_and_every_tag_explained(device: Device) -> None:
    for value, column in (
        (device.mem_bw_gb_s, "mem_src"),
        (device.battery_mah or device.battery_wh, "battery_src"),
        (device.os_latest, "os_src"),
    ):
        assert value is None or column in device.sources
    for cell in device.sources.values():
        for tag in re.sub(r"\(.*?\)", "", cell).split(";"):
            assert f"`{tag.strip()}`" in CITATIONS, tag


@pytest.mark.parametrize("name", ["iPhone 15 Pro", "iphone 15 pro", "  IPHONE15PRO ", "iPhone16,1"])
def test_names_are_found_whatever_the_case(name: str) -> None:
    device = find_device(name)
    assert (device.name, device.soc) == ("iPhone 15 Pro", "A17 Pro")
    assert (device.battery_mah, device.battery_wh, device.os_first) == (3274, 12.7, 17)


def test_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UserError, match=r"got 'iPhone 15 Por'; nearest: iPhone 15 Pro"):
        find_device("iPhone 15 Por")
    with pytest.raises(UserError, match="nearest: none"):
        find_device("zzzzzz")


@pytest.mark.parametrize(("name", "os"), [("iPhone 15 Pro", 16), ("iPhone XS", 26), ("iPhone 17 Pro", 18)])
def test_a_system_that_the_device_never_ran_is_refused_with_its_range(name: str, os: int) -> None:
    with pytest.raises(UserError, match=rf"{name} runs iOS \d+ to \d+; got {os}") as caught:
        Target(find_device(name), os)
    assert "name a release in that range, or another device (--device; `coreml-pareto devices`" in str(caught.value)


def test_a_mac_is_refused_in_its_own_releases_and_in_those_that_are_counted() -> None:
    mac = replace(find_device("Mac mini (M4)"), os_first=18, os_latest=26)
    with pytest.raises(UserError, match=r"runs macOS 15 to 26 \(counted as iOS 18 to 26\); got 17"):
        Target(mac, 17)


@pytest.mark.parametrize("os", [14, 19, 25, 99])
def test_a_release_that_does_not_exist_is_refused(os: int) -> None:
    with pytest.raises(UserError, match="15, 16, 17, 18, 26"):
        Target(find_device("Mac mini (M4)"), os)


def test_compute_units_are_named_as_in_coremltools() -> None:
    with pytest.raises(UserError, match="CPU_AND_NE"):
        Target(find_device("iPhone 15"), 17, "ANE")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "os", "system"),
    [
        ("iPhone 15", 17, "iOS 17"),
        ("iPad (10th gen)", 17, "iPadOS 17"),
        ("Mac mini (M4)", 18, "macOS 15"),
        ("Mac mini (M4)", 26, "macOS 26"),
        ("MacBook Air 13 (M1)", 17, "macOS 14"),
    ],
)
def test_systems_carry_their_own_names(name: str, os: int, system: str) -> None:
    assert find_device(name).system(os) == system


def test_voltage_is_published_derived_or_assumed_and_says_so() -> None:
    assert find_device("iPhone XS").voltage == (3.81, "published")
    volts, origin = find_device("iPhone 15 Pro").voltage
    assert volts == pytest.approx(12.7 / 3.274)
    assert "Wh / mAh" in origin
    assert find_device("iPhone XR").voltage == (ASSUMED_CELL_VOLTS, "assumed, none published")


def test_battery_energy_is_published_derived_or_blank() -> None:
    assert find_device("iPhone 15 Pro").energy_wh == 12.7
    assert find_device("iPhone 16").energy_wh == pytest.approx(3.561 * 3.88)
    assert find_device("Mac mini (M4)").energy_wh is None
