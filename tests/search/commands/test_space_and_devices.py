"""`coreml-pareto space` and `coreml-pareto devices`"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.devices.catalogue import Device, devices
from coreml_pareto.objectives.devices.published import published
from coreml_pareto.search.config import load_plan, presets
from coreml_pareto.spaces.compression import minimum_os, parse


@pytest.mark.parametrize("preset", sorted(presets()))
def test_every_preset_is_described(command: Callable[..., Any], preset: str) -> None:
    answer = command("space", preset, "--json")
    told = json.loads(answer.out)
    plan = load_plan(preset)
    space = plan.space(classes=10)
    assert told["candidates"] == space.count()
    assert set(told["knobs"]) == {knob.name for knob in space.knobs()}
    assert set(told["knobs"]).isdisjoint(told["fixed"])
    for line in told["compressions"]:
        assert line["minimum_os"] == minimum_os(parse(line["compression"])) <= plan.target.os


def test_space_for_people(command: Callable[..., Any]) -> None:
    answer = command("space", "quickstart")
    assert answer.code == 0
    for part in ("candidates", "mobilenetv3_small", "width", "temperature", "iOS 16 / macOS 13", "(fixed)"):
        assert part in answer.out


def test_what_compressions_do_on_devices(command: Callable[..., Any], tmp_path: Path) -> None:
    study = tmp_path / "four.yaml"
    study.write_text("compression: [fp16, int8/channel, palette-4/tensor, w8a8]\n")
    told = {row["compression"]: row for row in json.loads(command("space", str(study), "--json").out)["compressions"]}
    assert told["w8a8"]["units"] == ["Neural Engine"] and told["fp16"]["latency_relative_to_fp16"] is None
    assert told["w8a8"]["latency_relative_to_fp16"] == [0.408, 0.855]
    assert told["int8/channel"]["figures"][0] == {
        "network": "MobileNetv2-1.0", "device": "iPhone 14 Pro", "system": "iOS 17", "form": "int8/channel",
        "ms": 0.45, "fp16_ms": 0.48, "source": "CT-Q", "relative": 0.938,
    }  # fmt: skip
    assert [report["reference"] for report in told["palette-4/tensor"]["open_reports"]] == ["apple/coremltools#2716"]
    assert {"CT-P", "apple/coremltools#2716"} <= set(told["palette-4/tensor"]["sources"])
    text = " ".join(command("space", str(study)).out.split())
    for row in told.values():
        assert row["speed"] in text and all(report["what"] in text for report in row["open_reports"])
    assert "0.41–0.86" in text and "CT-P opt-palettization-perf" in text


def test_knobs_of_compressions_are_shown_where_they_matter(command: Callable[..., Any], tmp_path: Path) -> None:
    study = tmp_path / "knobs.yaml"

    def told(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
        study.write_text(text)
        answer = json.loads(command("space", str(study), "--json").out)
        return answer["knobs"], answer["fixed"]

    ours = {"calibration", "calibration_images", "fine_tune_epochs"}
    knobs, fixed = told("compression: [fp16, int8/channel]\n")
    assert not ours & {*knobs, *fixed}
    knobs, fixed = told("compression: [fp16, w8a8]\n")
    assert not ours & set(knobs)
    assert {name: fixed[name] for name in ours & set(fixed)} == {"calibration": "min-max", "calibration_images": 128}
    knobs, fixed = told(
        "compression: [fp16, w8a8]\ntraining: {fine_tune_epochs: [3]}\ncalibration: {images: [64, 256]}\n"
    )
    assert knobs["calibration_images"] == [64, 256]
    assert (fixed["calibration"], fixed["fine_tune_epochs"]) == ("min-max", 3)
    knobs, _ = told("compression: [fp16, int8/channel]\ntraining: {fine_tune_epochs: [0, 2]}\n")
    assert knobs["fine_tune_epochs"] == [0, 2]


def test_backbones_are_shown_with_the_input_they_were_published_with(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    """EfficientNet's compound scaling: each one has its own."""
    published = {"mobilenetv2": 224, "efficientnet_b4": 380, "efficientnet_lite2": 260, "resnet10t": 176}
    study = tmp_path / "scaled.yaml"
    study.write_text(f"networks: {{backbones: [{', '.join(published)}], resolution: [64]}}\n")
    told = json.loads(command("space", str(study), "--json").out)
    assert {row["backbone"]: row["native_resolution"] for row in told["backbones"]} == published
    lines = command("space", str(study)).out.splitlines()
    for name, side in published.items():
        assert any(name in line and f"{side}x{side} pixels" in line for line in lines)


def test_the_count_is_that_of_the_knobs(command: Callable[..., Any], tmp_path: Path) -> None:
    study = tmp_path / "two.yaml"
    study.write_text(
        "networks: {backbones: [squeezenet1_1], width: [0.5, 1.0], resolution: [32, 64, 96]}\n"
        "compression: [fp16, int8/channel]\ntraining: {epochs: [2]}\ndistillation: {teachers: [none]}\n"
    )
    assert json.loads(command("space", str(study), "--json").out)["candidates"] == 2 * 3 * 2


def test_what_is_auto_is_neither_fixed_nor_counted(command: Callable[..., Any], tmp_path: Path) -> None:
    study = tmp_path / "auto.yaml"
    study.write_text("networks: {backbones: [squeezenet1_1], width: [0.5, 1.0]}\ncompression: [fp16]\n")
    told = json.loads(command("space", str(study), "--json").out)
    assert told["left_open"] == ["resolution", "epochs"] and "epochs" not in {**told["fixed"], **told["knobs"]}
    assert told["candidates"] % (2 * len(told["knobs"]["resolution"])) == 0
    text = command("space", str(study)).out
    assert "candidates (resolution auto: every value counted; epochs auto: not counted)" in text
    assert "epochs" not in "".join(line for line in text.splitlines() if "(fixed)" in line)
    study.write_text(study.read_text().replace("1.0]", "1.0], resolution: [32]") + "training: {epochs: [3]}\n")
    text = command("space", str(study)).out
    assert "auto: not counted" not in text and "every value counted" not in text and "3 (fixed)" in text


def test_names_that_look_like_markup_are_printed_as_they_are(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a[red]b").mkdir()
    teacher = tmp_path / "a[red]b" / "model.pt"
    study = tmp_path / "teacher.yaml"
    study.write_text(f"distillation: {{teachers: [none, '{teacher}']}}\n")
    assert "a[red]b" in "".join(command("space", str(study)).out.split())


def test_systems_are_named_as_their_devices_do(command: Callable[..., Any]) -> None:
    mac = next(device for device in devices() if device.is_mac)
    told = json.loads(command("space", "consulting", "--json").out)
    text = command("space", "consulting").out
    for line in told["compressions"]:
        assert f"iOS {line['minimum_os']} / {mac.system(line['minimum_os'])}" in text


def test_an_unknown_study(command: Callable[..., Any]) -> None:
    answer = command("space", "quickstrat")
    assert answer.code == 2 and answer.err.startswith("error: ") and "quickstart" in answer.err


def test_devices_lists_the_catalogue(command: Callable[..., Any]) -> None:
    told = json.loads(command("devices", "--json").out)
    assert [line["device"] for line in told] == [device.name for device in devices()]
    text = command("devices").out
    assert all(device.name in text for device in devices())


def test_one_device(command: Callable[..., Any]) -> None:
    (told,) = json.loads(command("devices", "iphone 15 pro", "--json").out)
    assert told["chip"] == "A17 Pro" and told["latency_floor_ms_low"] <= told["latency_floor_ms"]
    answer = command("devices", "iPhone 15 Pro")
    assert "A17 Pro" in answer.out and "not measurements" in answer.out


def test_what_is_not_published_stays_blank(command: Callable[..., Any]) -> None:
    for line in json.loads(command("devices", "--json").out):
        if line["battery_wh"] is None:
            assert line["battery_v"] is None and line["battery_v_how"] is None


def test_a_part_of_a_name_and_an_unknown_one(command: Callable[..., Any]) -> None:
    names = [line["device"] for line in json.loads(command("devices", "macbook", "--json").out)]
    assert names and all("MacBook" in name for name in names)
    answer = command("devices", "Nokia 3310")
    assert answer.code == 2 and "a device is named as in the catalogue" in answer.err


def test_coverage_by_published_latencies(command: Callable[..., Any]) -> None:
    told = {line["device"]: line for line in json.loads(command("devices", "--json").out)}
    thirteen, air, seventeen = (told[name] for name in ("iPhone 13", "iPhone 14", "iPhone 17"))
    assert (thirteen["latencies_published"], air["latencies_published"]) == (106, 0)  # 104, and 2 too coarse
    assert thirteen["latencies_published_of_chip"] == air["latencies_published_of_chip"] == 108
    assert thirteen["latencies_in_fit_of_chip"] == air["latencies_in_fit_of_chip"] == 81
    assert seventeen["latencies_in_fit_of_chip"] == 0 and seventeen["other_chips_in_fit"][0]["chip"] == "A17 Pro"
    assert {
        "device": "iPhone 13", "units": "Neural Engine", "harness": None, "scheme": "float", "calibrates": True,
        "source": "MN4", "measurements": 18,
    } in air["published"]  # fmt: skip
    for line in told.values():
        assert sum(row["measurements"] for row in line["published"]) == line["latencies_published_of_chip"]
        others = sum(other["in_fit"] for other in line["other_chips_in_fit"])
        assert line["latencies_in_fit_of_chip"] + others == line["latencies_in_fit"] == len(published())


def test_coverage_for_people(command: Callable[..., Any]) -> None:
    answer = command("devices").out
    lines = answer.splitlines()
    assert max(map(len, lines)) <= 100 and "…" not in answer and "268" not in answer
    assert any(line.split()[-2:] == ["0", "1"] for line in lines if line.startswith("iPhone 17 "))
    assert any(line.split()[-2:] == ["81", "108"] for line in lines if line.startswith("iPhone 13 "))
    assert "fitted to 156 published latencies" in " ".join(answer.split())
    text = " ".join(command("devices", "iPhone 17").out.split())
    assert "fitted to 156 published latencies, 0 of them of the A19" in text
    assert "the nearest by generations in the prior: A17 Pro (2.1; 8), " in text
    assert "ExecuTorch delegate" in text and "(1)" in text


@pytest.mark.parametrize("device", devices(), ids=lambda device: device.name)
def test_every_device_is_shown(command: Callable[..., Any], device: Device) -> None:
    text = command("devices", device.name).out
    assert device.soc in text and "published latencies" in text and "latencies in fit" in text and "sources" in text


def test_with_limits_the_table_of_search_is_shown(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By real probes of a space of one network in two compressions; without pictures nothing is probed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    study = tmp_path / "one.yaml"
    networks = "{backbones: [squeezenet1_1], width: [0.25], resolution: [32], pretrained: false}"
    study.write_text(f"networks: {networks}\ncompression: [fp16, int8/channel]\nlimits: {{accuracy: 0.9}}\n")
    assert json.loads(command("space", str(study), "--json").out)["limits"] is None
    assert "give --data" not in command("space", str(study)).out
    assert "size ≤ 1MB can be kept depends on the pictures" in " ".join(
        command("space", str(study), "--max-size", "1MB").out.split()
    )
    limits = json.loads(command("space", str(study), "--data", "digits", "--max-size", "1MB", "--json").out)["limits"]
    assert limits.keys() == {"size", "all"}
    assert limits["size"]["limit"] == 1e6 and limits["size"]["kept_by_at_least"] == 1.0
    assert "int8" in limits["size"]["reached_by"] and 5e4 < limits["size"]["least"] < 2e5
    between = f"{limits['size']['least']:.0f}B"
    text = " ".join(command("space", str(study), "--data", "digits", "--max-size", between).out.split())
    assert "Can the limits be kept?" in text and "50 %" in text and "not known before training" in text
    refused = " ".join(command("space", str(study), "--data", "digits", "--max-size", "1KB").out.split())
    assert "Nothing in this space can keep size ≤ 1KB" in refused and "would admit squeezenet1_1" in refused
