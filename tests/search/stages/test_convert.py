"""Packages in fp32 and fp16: agreement with torch, what Xcode shows, what lies in the folder."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import tqdm

from coreml_pareto.objectives.preprocessing import METADATA_KEY, PREFIX, Preprocessing
from coreml_pareto.objectives.program import ImageInput, load
from coreml_pareto.objectives.program.loader import read_spec
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.stages.convert import Classifier, convert, save

NAMES = ["mobilenetv3_small", "mobilenetv1", "efficientnet_lite0", "squeezenet1_1"]
# fp32: sums in another order; fp16: weights and normalisation rounded to 11 bits, over some 50 layers.
TOLERANCE = {"fp32": 1e-3, "fp16": 0.02}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_torch(packages: Any, name: str, precision: str) -> None:
    images = packages.images(name)
    program = packages.program(packages.converted(name, 15, precision))
    expected = packages.torch_logits(Classifier(packages.module(name), packages.network(name)).eval(), images)
    got = packages.logits(program, images)
    assert packages.errors(got, expected).max() < TOLERANCE[precision]
    first, second = expected.topk(2, 1)[0].T
    clear = first - second > 4 * TOLERANCE[precision] * expected.norm(dim=1)
    assert clear.float().mean() > 0.5
    assert len(expected.argmax(1).unique()) >= 8
    assert torch.equal(got.argmax(1)[clear], expected.argmax(1)[clear])
    assert program.precision == precision


@pytest.mark.parametrize("oldest", [15, 16, 17, 18])
def test_minimum_os(packages: Any, oldest: int) -> None:
    program = packages.program(packages.converted("squeezenet1_1", oldest))
    assert program.minimum_os == f"iOS{oldest}"


def test_an_ios_developer_finds_what_is_needed(packages: Any) -> None:
    path = packages.saved(packages.converted("squeezenet1_1", 15))
    program = load(path)
    assert program.input == ImageInput("image", 48, 48, "RGB", *_scale_and_bias(program))
    assert program.labels == tuple(f"class {i}" for i in range(10))
    assert program.metadata["com.coreml-pareto.trial"] == "7"
    assert Preprocessing.from_metadata(program.metadata) == Preprocessing(resolution=48)
    assert ".centerCrop" in program.metadata["short_description"]
    assert {program.metadata[key] for key in ("author", "version")} == {"coreml-pareto", "1.0"}
    assert program.metadata["license"]
    description = read_spec(path)[0].description
    assert "48x48" in description.input[0].shortDescription
    assert all(output.shortDescription for output in description.output)
    assert description.predictedFeatureName == "classLabel"


def _scale_and_bias(program: Any) -> tuple[Any, Any]:
    return program.input.scale, program.input.bias


def test_the_folder_holds_what_the_manifest_lists(packages: Any) -> None:
    path = packages.saved(packages.converted("squeezenet1_1", 15))
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    model = "Data/com.apple.CoreML/"
    assert files == {"Manifest.json", f"{model}model.mlmodel", f"{model}weights/weight.bin"}
    assert len(json.loads((path / "Manifest.json").read_text())["itemInfoEntries"]) == 2


def test_a_stray_file_is_refused(packages: Any, tmp_path: Path) -> None:
    class Model:
        def save(self, folder: str) -> None:
            packages.converted("squeezenet1_1", 15).save(folder)
            (Path(folder) / "notes.txt").write_text("stray")

    with pytest.raises(RuntimeError, match=r"notes\.txt"):
        save(Model(), tmp_path / "stray.mlpackage")


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenetv1"])
def test_random_weights_take_the_bytes_of_trained_ones(packages: Any, name: str) -> None:
    models = [packages.converted(name, 15, probe=probe) for probe in (False, True)]
    sizes = [packages.package_bytes(packages.saved(model)) for model in models]
    assert sizes[0] == sizes[1]


def test_the_module_is_not_changed(packages: Any) -> None:
    module = packages.randomised(packages.network("squeezenet1_1")).train()
    before = copy.deepcopy(module.state_dict())
    convert(module, packages.wrapping("squeezenet1_1"), minimum_os=15, precision="fp16")
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_metadata_survives_compression(packages: Any) -> None:
    from coreml_pareto.spaces.compression import parse

    model = packages.compressed("squeezenet1_1", parse("int8/channel")).model
    program = packages.program(model)
    assert program.metadata["com.coreml-pareto.trial"] == "7"
    assert METADATA_KEY in program.metadata
    before = packages.program(packages.converted("squeezenet1_1", 16)).metadata
    assert program.metadata.keys() - before.keys() == {f"{PREFIX}layers"}
    assert before.items() <= program.metadata.items()


def test_quiet(packages: Any, capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("coremltools")
    level = logger.level
    packages.saved(convert(packages.module("squeezenet1_1"), packages.wrapping("squeezenet1_1"),
                           minimum_os=15, precision="fp16"))  # fmt: skip
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValueError, match="passed on"), quiet():
        raise ValueError("passed on")
    assert logger.level == level
    with tqdm.tqdm([1, 2], desc="ours") as bar:
        list(bar)
    assert "ours" in capfd.readouterr().err


@pytest.mark.parametrize("stage", ["convert", "compress", "w8a8"])
def test_import_is_silent(stage: str) -> None:
    command = [sys.executable, "-c", f"import coreml_pareto.search.stages.{stage}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_temporary_packages_go_with_their_model(packages: Any) -> None:
    import gc

    model = convert(
        packages.module("squeezenet1_1"), packages.wrapping("squeezenet1_1"), minimum_os=15, precision="fp16"
    )
    path = Path(model.package_path)
    assert path.exists()
    del model
    gc.collect()
    assert not path.exists()
