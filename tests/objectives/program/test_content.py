"""One digest of what a package computes: copies and re-saved packages keep it, any other number or type changes it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import coremltools as ct
import pytest

from coreml_pareto.objectives.program import content_digest, load
from coreml_pareto.objectives.program.loader import read_spec
from coreml_pareto.objectives.program.twin import visible, with_outputs


@pytest.fixture
def package(packages: dict[str, Path]) -> Path:
    return packages["fp16"]


def digest(path: Path) -> str:
    return content_digest(load(path))


def test_a_copy_keeps_it_whatever_the_manifest_and_the_times_say(package: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(package, tmp_path / "other name.mlpackage"))
    manifest = copy / "Manifest.json"
    text = manifest.read_text()
    for number, identifier in enumerate(json.loads(text)["itemInfoEntries"]):
        text = text.replace(identifier, f"00000000-0000-0000-0000-{number:012}")
    assert text != manifest.read_text()
    manifest.write_text(text)
    for path in copy.rglob("*"):
        os.utime(path, (0, 0))
    assert digest(copy) == digest(package)


def test_a_package_saved_again_keeps_it(package: Path, tmp_path: Path) -> None:
    model = ct.models.MLModel(str(package), skip_model_load=True)
    ct.models.utils.save_spec(model.get_spec(), str(tmp_path / "again.mlpackage"), weights_dir=str(model.weights_dir))
    assert (tmp_path / "again.mlpackage/Manifest.json").read_bytes() != (package / "Manifest.json").read_bytes()
    model.short_description = "for people"
    model.user_defined_metadata["note"] = "more"
    model.save(str(tmp_path / "described.mlpackage"))
    assert digest(tmp_path / "again.mlpackage") == digest(tmp_path / "described.mlpackage") == digest(package)


def test_other_weights_types_or_forms_change_it(packages: dict[str, Path], tmp_path: Path) -> None:
    assert len({digest(path) for path in packages.values()}) == len(packages)
    copy = Path(shutil.copytree(packages["fp16"], tmp_path / "copy.mlpackage"))
    weights = next(copy.rglob("weight.bin"))
    content = bytearray(weights.read_bytes())
    first = next(c for c in load(copy).constants.values() if c.offset is not None and c.type.dtype == "fp16")
    assert first.offset is not None
    content[first.offset + 64] ^= 1 << 3  # in the data that follow 64 bytes of metadata
    weights.write_bytes(content)
    assert digest(copy) != digest(packages["fp16"])


def test_other_labels_and_outputs_change_it(package: Path, tmp_path: Path) -> None:
    program = load(package)
    twin = with_outputs(program, visible(program)[:1], tmp_path / "twin.mlpackage")
    assert digest(twin) != content_digest(program)
    copy = Path(shutil.copytree(package, tmp_path / "copy.mlpackage"))
    spec, file = read_spec(copy)
    file.write_bytes(spec.SerializeToString().replace(b"class 1", b"class X"))
    assert digest(copy) != content_digest(program)
