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
    assert len(names) == len(set(names)) == 69
    identifiers = [device.identifier for device in devices() if device.identifier]
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize("device", devices(), ids=lambda device: device.name)
def test_every_row_is_sound(device: Device) -> None:
    assert 2018 <= device.year <= 2026
    assert re.fullmatch(r"A\d\d( Pro)?|M\d( Pro| Max)?", device.soc)
    assert device.mem_bw_gb_s is None or 30 < device.mem_bw_gb_s < 600
    assert 3.7 < device.voltage[0] < 4.0
    assert device.energy_wh is None or 7 < device.energy_wh < 101
    assert device.os_first is None or device.os_latest is None or device.os_first <= device.os_latest


PHONES = """XS, XS Max, XR, 11, 11 Pro, 11 Pro Max, SE (2nd gen), 12 mini, 12, 12 Pro, 12 Pro Max, 13 mini, 13, 13 Pro,
13 Pro Max, SE (3rd gen), 14, 14 Plus, 14 Pro, 14 Pro Max, 15, 15 Plus, 15 Pro, 15 Pro Max, 16, 16 Plus, 16e, 16 Pro,
16 Pro Max, 17, 17e, Air, 17 Pro, 17 Pro Max"""


def test_every_phone_from_xs_to_17_is_there() -> None:
    expected = [f"iPhone {' '.join(name.split())}" for name in PHONES.split(",")]
    assert [device.name for device in devices() if device.name.startswith("iPhone")] == expected


@pytest.mark.parametrize(
    ("name", "first", "latest"),
    [
        ("iPad (8th gen)", "iPadOS 14", "iPadOS 26"),
        ("iPad (9th gen)", "iPadOS 15", "iPadOS 27"),
        ("iPad mini (A17 Pro)", "iPadOS 18", "iPadOS 27"),
        ("MacBook Air 13 (M1)", "macOS 11", "macOS 27"),
        ("MacBook Air 13 (M2)", "macOS 12", "macOS 27"),
        ("Mac mini (M4)", "macOS 15", "macOS 27"),
        ("iPhone SE (2nd gen)", "iOS 13", "iOS 27"),
    ],
)
def test_first_and_last_systems_as_published(name: str, first: str, latest: str) -> None:
    device = find_device(name)
    assert device.os_first is not None and device.os_latest is not None
    assert (device.system(device.os_first), device.system(device.os_latest)) == (first, latest)


@pytest.mark.parametrize(
    ("name", "watt_hours"),
    [("MacBook Air 13 (M2)", 52.6), ("MacBook Pro 14/16 (M3 Max)", 72.4), ("iPad Pro 12.9 (5th gen, M1)", 40.88)],
)
def test_batteries_as_published(name: str, watt_hours: float) -> None:
    assert find_device(name).energy_wh == watt_hours


def test_every_device_has_a_range_of_systems() -> None:
    assert all(device.os_first and device.os_latest for device in devices())


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
