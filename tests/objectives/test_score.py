"""All readings of real packages, loaded from disk."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from coreml_pareto.objectives.devices import Target, find_device
from coreml_pareto.objectives.latency import Measurement
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.score import score_package, static_score
from coreml_pareto.spaces.errors import UserError

STATIC = {"macs", "latency_ms", "fps", "size_bytes", "bits_per_weight", "memory_bytes", "energy_mj", "energy_mah"}
STATIC |= {"inferences_per_percent"}


def test_everything_is_read_with_data_and_the_rest_without(packages: dict[str, Path], images) -> None:  # type: ignore[no-untyped-def]
    phone = find_device("iPhone 15 Pro")
    data = [(images, np.arange(len(images)) % 7)]
    full = score_package(packages["fp16"], device=phone, os=17, batches=data)
    static = score_package(str(packages["fp16"]), device=phone, os=17)
    assert set(static) == STATIC
    assert full == static | {name: full[name] for name in ("top1", "top5")}


def test_macs_are_those_of_the_layers(packages: dict[str, Path], target) -> None:  # type: ignore[no-untyped-def]
    # stem 8x8 of 8x27, depthwise 8x8 of 8x9, pointwise 8x8 of 64x8, classifier 64x7
    by_hand = 64 * (8 * 27 + 8 * 9 + 64 * 8) + 64 * 7
    reading = static_score(load(packages["fp16"]), target())["macs"]
    assert (reading.value, reading.how) == (by_hand, "exact")


def test_compression_keeps_the_macs_and_shrinks_the_rest(packages: dict[str, Path], target) -> None:  # type: ignore[no-untyped-def]
    fp16, int8 = (static_score(load(packages[name]), target()) for name in ("fp16", "int8"))
    assert int8["macs"].value == fp16["macs"].value
    for name in ("latency_ms", "memory_bytes", "energy_mj", "bits_per_weight"):
        assert int8[name].value < fp16[name].value, name


def test_fp32_packages_are_estimated_off_the_neural_engine(packages: dict[str, Path], target) -> None:  # type: ignore[no-untyped-def]
    assert static_score(load(packages["fp32"]), target())["latency_ms"].conditions["unit"] in ("GPU", "CPU")
    assert static_score(load(packages["fp16"]), target())["latency_ms"].conditions["unit"] == "Neural Engine"


def test_a_package_newer_than_the_target_is_refused(packages: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"fp16.mlpackage needs iOS 17 or newer; the target runs iOS 16"):
        score_package(packages["fp16"], device=find_device("iPhone 14"), os=16)


def test_a_stopwatchs_result_takes_the_place_of_the_estimate(packages: dict[str, Path]) -> None:
    mac = find_device("MacBook Air 13 (M1)")
    watch = Measurement(Target(mac, 17, "ALL"), 0.3, 0.25, 0.4, 1000, "Core ML on this machine")
    score = score_package(packages["fp16"], device=mac, os=17, measurement=watch)
    assert (score["latency_ms"].value, score["latency_ms"].how) == (0.3, "measured")
    with pytest.raises(UserError, match="only for the target"):
        score_package(packages["fp16"], device=mac, os=18, measurement=watch)


def test_a_device_without_battery_leaves_charge_blank(packages: dict[str, Path]) -> None:
    score = score_package(packages["fp16"], device=find_device("Mac mini (M4)"), os=18)
    assert set(score) == STATIC - {"energy_mah", "inferences_per_percent"}


def test_static_readings_take_milliseconds(packages: dict[str, Path], target) -> None:  # type: ignore[no-untyped-def]
    program = load(packages["fp16"])
    static_score(program, target())
    started = time.perf_counter()
    for _ in range(5):
        static_score(program, target())
    assert (time.perf_counter() - started) / 5 < 0.1
