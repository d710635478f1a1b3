"""A package upgraded to iOS 16 is the one that coremltools converts for iOS 16, byte by byte; others are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.program.loader import main_function, read_spec
from coreml_pareto.search.stages.upgrade import upgrade

NAMES = ["mobilenetv3_small", "mobilenetv1", "efficientnet_lite0", "squeezenet1_1"]


def content(package: Path) -> dict[str, bytes]:
    """Every file but the manifest, whose identifiers are drawn; the program as its deterministic bytes."""
    files = {str(f.relative_to(package)): f.read_bytes() for f in package.rglob("*") if f.is_file()}
    del files["Manifest.json"]
    spec, model_file = read_spec(package)
    return files | {str(model_file.relative_to(package)): spec.SerializeToString(deterministic=True)}


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("name", NAMES)
def test_is_what_coremltools_converts(packages: Any, tmp_path: Path, name: str, precision: str) -> None:
    old, new = (packages.saved(packages.converted(name, os, precision)) for os in (15, 16))
    assert upgrade(old, tmp_path / "new.mlpackage")
    assert content(tmp_path / "new.mlpackage") == content(new)
    assert load(tmp_path / "new.mlpackage").minimum_os == "iOS16"
    assert load(old).minimum_os == "iOS15"


def test_what_is_not_for_ios_15_is_left(packages: Any, tmp_path: Path) -> None:
    assert not upgrade(packages.saved(packages.converted("squeezenet1_1", 16)), tmp_path / "new.mlpackage")
    assert not (tmp_path / "new.mlpackage").exists()


@pytest.mark.parametrize("operation", ["gather", "unheard_of"])
def test_an_operation_that_changed_or_is_unknown_is_left(packages: Any, tmp_path: Path, operation: str) -> None:
    package = packages.saved(packages.converted("squeezenet1_1", 15))
    spec, model_file = read_spec(package)
    block = main_function(spec, package).block_specializations["CoreML5"]
    next(row for row in block.operations if row.type == "conv").type = operation
    changed = tmp_path / "old.mlpackage"
    (changed / model_file.relative_to(package)).parent.mkdir(parents=True)
    (changed / model_file.relative_to(package)).write_bytes(spec.SerializeToString())
    for file in ("Manifest.json",):
        (changed / file).write_bytes((package / file).read_bytes())
    assert not upgrade(changed, tmp_path / "new.mlpackage")
