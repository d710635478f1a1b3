"""Bytes on disk, to the byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.size import parts, size
from coreml_pareto.spaces.errors import UserError


def test_parts_by_hand(tmp_path: Path) -> None:
    data = tmp_path / "x.mlpackage" / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    (data / "weights" / "weight.bin").write_bytes(b"w" * 1000)
    (data / "model.mlmodel").write_bytes(b"p" * 200)
    (tmp_path / "x.mlpackage" / "Manifest.json").write_bytes(b"m" * 30)
    found = parts(tmp_path / "x.mlpackage")
    assert (found.weights, found.program, found.other, found.total) == (1000, 200, 30, 1230)
    assert parts(data / "model.mlmodel").total == 200


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_nothing_to_weigh_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found none at"):
        parts(tmp_path / name)


@pytest.mark.parametrize("name", ["fp16", "fp32", "int8"])
def test_a_package_weighs_what_the_file_system_says(packages: dict[str, Path], name: str) -> None:
    readings = size(load(packages[name]))
    walked = sum(os.path.getsize(Path(at, file)) for at, _, files in os.walk(packages[name]) for file in files)
    assert readings["size_bytes"].value == walked
    assert readings["size_bytes"].how == readings["bits_per_weight"].how == "exact"


def test_bits_per_weight_of_the_schemes(packages: dict[str, Path]) -> None:
    bits = {name: size(load(path))["bits_per_weight"].value for name, path in packages.items()}
    assert (bits["fp32"], bits["fp16"]) == (32, 16)
    assert 8 < bits["int8"] < 12  # scales, and biases that stay in fp16
