"""The file of measurements: what is accepted, what is refused and how, and the schema that is published."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.devices.catalogue import devices
from coreml_pareto.objectives.devices.measurements import SCHEMA, Measurements, json_schema, merge, read
from coreml_pareto.spaces.errors import UserError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(plain, name): a file of it."""

    def make(plain: Any, name: str = "phone.json") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(plain, ensure_ascii=False), "utf-8")
        return path

    return make


def changed(plain: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The file with other fields in its first record."""
    other = copy.deepcopy(plain)
    other["records"][0] |= fields
    return other


def test_a_whole_file_is_read(measured: dict[str, Any], write: Write) -> None:
    found = read([write(measured)])
    assert [record.median_ms for record in found.records] == [0.5, 1.5]
    assert found.records[0].target.conditions == {"device": "iPhone 15 Pro", "os": "iOS 17", "compute_units": "ALL"}
    assert found.package(found.records[0].digest).costs[0].macs == 10**6
    assert Measurements.model_validate_json(found.text()) == found


def test_battery_and_memory_are_kept_and_may_be_left_out(measured: dict[str, Any], write: Write) -> None:
    told = {"battery_level": 0.5, "footprint_bytes": 3, "footprint_before_bytes": 10, "footprint_after_bytes": 12}
    first, second = read([write(changed(measured, details=told))]).records
    assert first.details is not None and second.details is None
    assert first.details.model_dump(include=set(told)) == told
    (older, _) = read([write(changed(measured, details={"footprint_bytes": 3}))]).records
    assert older.details is not None and older.details.battery_level is None


def test_names_may_hold_anything(measured: dict[str, Any], write: Write) -> None:
    name = 'a "quoted" \\ name 🐦 שלום \u202e end'
    measured["packages"][0]["name"] = name
    assert read([write(measured)]).packages[0].name == name


def test_two_files_with_the_same_record_are_one(measured: dict[str, Any], write: Write) -> None:
    once = read([write(measured)])
    assert read([write(measured, "a.json"), write(measured, "b.json")]) == once == merge([once, once])
    by_name = changed(measured, device="iphone 15 pro")
    with pytest.raises(UserError, match="came with two"):
        read([write(measured, "a.json"), write(changed(by_name, median_ms=0.51), "b.json")])


def test_another_day_is_another_measurement(measured: dict[str, Any], write: Write) -> None:
    later = changed(measured, measured_at="2026-11-26T10:00:00Z", median_ms=0.52)
    assert len(read([write(measured, "a.json"), write(later, "b.json")]).records) == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"median_ms": -0.5}, ["record 1 median_ms", "-0.5"]),
        ({"median_ms": 0}, ["median_ms"]),
        ({"load1_ms": -1}, ["record 1 load1_ms"]),
        ({"median_ms": "fast"}, ["median_ms", "fast"]),
        ({"median_ms": 1e9}, ["median_ms"]),
        ({"p90_ms": 0.45}, ["record 1", "p10_ms <= median_ms <= p90_ms"]),
        ({"compute_units": "ANE"}, ["compute_units", "ANE", "CPU_AND_NE"]),
        ({"compute_units": "all"}, ["compute_units", "nearest: ALL"]),
        ({"device": "iPhone16,9"}, ["record 1", "iPhone16,9", "nearest", "iPhone 15 Pro"]),
        ({"device": "Pixel 9"}, ["record 1", "Pixel 9", "coreml-pareto devices"]),
        ({"os": "14.1"}, ["record 1", "os"]),
        ({"os": "seventeen"}, ["os", "seventeen"]),
        ({"thermal": "serious"}, ["thermal", "cool"]),
        ({"low_power": True}, ["low_power", "low power mode"]),
        ({"rounds": 3}, ["rounds", "20"]),
        ({"predictions_per_round": 1}, ["predictions_per_round", "50"]),
        ({"digest": "0" * 64}, ["digest", "not among"]),
        ({"digest": "../../etc"}, ["digest"]),
        ({"measured_at": "2026-11-25T10:00:00"}, ["measured_at"]),
        ({"median_s": 0.0005}, ["median_s"]),
        ({"details": {"battery_level": 85}}, ["record 1 details battery_level", "85"]),
        ({"details": {"battery_level": -1}}, ["battery_level", "-1"]),
        ({"details": {"footprint_before_bytes": -1}}, ["footprint_before_bytes", "-1"]),
    ],
)
def test_a_bad_record_is_one_line(
    measured: dict[str, Any], write: Write, fields: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(UserError) as refusal:
        read([write(changed(measured, **fields))])
    text = str(refusal.value)
    assert "\n" not in text and "phone.json" in text
    assert all(words in text for words in said), text


def test_every_bad_record_has_its_line_and_nothing_counts(measured: dict[str, Any], write: Write) -> None:
    bad = copy.deepcopy(measured)
    bad["records"][0] |= {"median_ms": -1, "thermal": "critical"}
    del bad["records"][1]["device"]
    with pytest.raises(UserError) as refusal:
        read([write(measured, "good.json"), write(bad, "bad.json"), write(changed(measured, device="X"), "third.json")])
    head, *lines = str(refusal.value).splitlines()
    assert "nothing was imported" in head
    assert [line.split(":")[0].rsplit("/", 1)[1] for line in lines] == [
        "bad.json, record 1 median_ms", "bad.json, record 2 device", "third.json, record 1",
    ]  # fmt: skip


@pytest.mark.parametrize("change", [{"unit": "s"}, {"version": 2}, {"format": "other"}, {"records": []}, {"more": 1}])
def test_a_foreign_file_is_refused(measured: dict[str, Any], write: Write, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        read([write(measured | change)])


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"[]", b"null", b'{"a": NaN}'])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "phone.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"phone\.json"):
        read([path])
    with pytest.raises(UserError, match="cannot be read"):
        read([tmp_path / "missing.json"])
    with pytest.raises(UserError, match="cannot be read"):
        read([tmp_path])


def test_not_a_number_is_refused(measured: dict[str, Any], write: Write) -> None:
    with pytest.raises(UserError, match="median_ms"):
        read([write(changed(measured, median_ms=float("nan")))])


def test_every_device_of_the_catalogue_is_accepted(measured: dict[str, Any], write: Write) -> None:
    for device in devices():
        release = max(17, device.os_first or 17)
        system = release - 3 if device.is_mac and release < 26 else release
        plain = changed(measured, device=device.identifier or device.name, os=f"{system}.1")
        assert read([write(plain)]).records[0].target.os == release


def test_the_published_schema_is_this_one() -> None:
    published = (files("coreml_pareto.objectives.devices") / SCHEMA).read_text("utf-8")
    assert published == json_schema()
    assert json.loads(published)["properties"]["unit"]["const"] == "ms"


def test_a_record_that_the_schema_refuses_does_not_hide_one_of_an_unknown_device(
    measured: dict[str, Any], write: Write
) -> None:
    bad = changed(measured, median_ms=-1)
    bad["records"][1]["device"] = "Pixel 9"
    with pytest.raises(UserError) as refusal:
        read([write(bad)])
    head, first, second = str(refusal.value).splitlines()
    assert "2 records" in head and "record 1 median_ms" in first and "record 2: " in second and "Pixel 9" in second


@pytest.mark.parametrize("fields", [{"median_ms": "0.5"}, {"rounds": "20"}, {"measured_at": 1764064800}])
def test_texts_and_numbers_are_told_apart(measured: dict[str, Any], write: Write, fields: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"record 1 {next(iter(fields))}"):
        read([write(changed(measured, **fields))])


def test_predictions_that_lie_apart_are_accepted_from_twenty_on(measured: dict[str, Any], write: Write) -> None:
    apart = {"back_to_back": False, "rounds": 1, "load2_ms": None, "thermal": None, "low_power": None}
    found = read([write(changed(measured, **apart, predictions_per_round=30))])
    assert not found.records[0].back_to_back and found.records[1].back_to_back
    with pytest.raises(UserError, match="record 1: predictions that lie apart are at least 20; got 19"):
        read([write(changed(measured, **apart, predictions_per_round=19))])


def test_a_digest_of_another_form_is_refused(measured: dict[str, Any], write: Write) -> None:
    measured["packages"][0]["digest"] = measured["records"][0]["digest"] = "sha256:" + "a" * 64
    with pytest.raises(UserError, match="digest"):
        read([write(measured)])
