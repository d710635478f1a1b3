"""What the loader reads, and what it says when it cannot."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.proto import Model_pb2

from coreml_pareto.objectives.program import Constant, Program, load
from coreml_pareto.spaces.errors import UserError

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture
def package(convert: Any, small: Any, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(convert("small_fp16", small), tmp_path / "copy.mlpackage"))


def rewrite(package: Path, change: Callable[[Any], None]) -> None:
    spec = Model_pb2.Model()
    spec.ParseFromString((package / MODEL).read_bytes())
    change(spec)
    (package / MODEL).write_bytes(spec.SerializeToString())


def test_what_a_classifier_says_about_itself(package: Path) -> None:
    program = load(package)
    assert program.path == package
    assert (program.input.name, program.input.width, program.input.height) == ("image", 48, 48)
    assert (program.input.color_layout, program.input.scale) == ("RGB", pytest.approx(1 / 255))
    assert (program.minimum_os, program.precision) == ("iOS17", "fp16")
    assert program.labels == tuple(f"class {i}" for i in range(10))
    assert program.output == ("classLabel", "classLabel_probs")
    assert program.types[program.probabilities].shape == program.types[program.logits].shape == (1, 10)
    assert program.producers[program.logits].kind == "linear"
    assert program.metadata["author"] == "somebody"
    assert program.metadata["license"] == "Apache-2.0"
    assert program.metadata["version"] == "1.0"
    assert program.metadata["short_description"] == "a test"
    assert program.metadata["com.github.apple.coremltools.version"] == "9.0"


def test_operations_and_constants(package: Path) -> None:
    program = load(package)
    kinds = [operation.kind for operation in program.operations]
    assert "const" not in kinds
    assert kinds.count("conv") == 4
    stem = next(operation for operation in program.operations if operation.kind == "conv")
    weight = stem.one("weight")
    assert isinstance(weight, Constant)
    assert program.constants[weight.name] is weight
    assert (weight.type.dtype, weight.type.shape, weight.type.nbytes) == ("fp16", (32, 3, 3, 3), 2 * 32 * 27)
    assert (stem.parameter("strides"), stem.parameter("groups"), stem.parameter("pad_type")) == ([2, 2], 1, "custom")
    assert stem.parameter("nonsense", 7) == 7


def test_weights_are_the_networks(convert: Any, small: Any) -> None:
    program = load(convert("small_fp32", small, fp16=False))
    stem = next(operation for operation in program.operations if operation.kind == "conv")
    np.testing.assert_array_equal(stem.one("weight").value, small.network.stem.weight.detach())


def test_loading_reads_no_weights_and_is_quick(convert: Any, mobilenet: Any) -> None:
    path = convert("mobilenetv3_small_050_fp16", mobilenet)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        load(path)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


def test_not_a_package(tmp_path: Path) -> None:
    (tmp_path / "file.mlmodel").write_bytes(b"")
    (tmp_path / "empty.mlpackage").mkdir()
    for name, came in (("file.mlmodel", "not a folder"), ("empty.mlpackage", "no Manifest"), ("none", "not exist")):
        with pytest.raises(UserError, match=came):
            load(tmp_path / name)


def test_broken_manifest(package: Path) -> None:
    manifest = package / "Manifest.json"
    entries = json.loads(manifest.read_text())
    manifest.write_text("{")
    with pytest.raises(UserError, match="root model"):
        load(package)
    entries["rootModelIdentifier"] = "unknown"
    manifest.write_text(json.dumps(entries))
    with pytest.raises(UserError, match="root model"):
        load(package)


def test_missing_or_garbled_model(package: Path) -> None:
    (package / MODEL).write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="not a Core ML model"):
        load(package)
    (package / MODEL).unlink()
    with pytest.raises(UserError, match="is missing"):
        load(package)


def test_other_model_types_are_named(package: Path) -> None:
    rewrite(package, lambda spec: spec.neuralNetwork.SetInParent())
    with pytest.raises(UserError, match=r"'neuralNetwork'.*mlprogram"):
        load(package)


def test_several_functions(package: Path) -> None:
    rewrite(package, lambda spec: spec.mlProgram.functions["other"].CopyFrom(spec.mlProgram.functions["main"]))
    with pytest.raises(UserError, match="main, other"):
        load(package)


def test_several_inputs(package: Path) -> None:
    def change(spec: Any) -> None:
        inputs = spec.mlProgram.functions["main"].inputs
        inputs.add().CopyFrom(inputs[0])
        inputs[1].name = "mask"

    rewrite(package, change)
    with pytest.raises(UserError, match="image, mask"):
        load(package)


def test_missing_weights(package: Path) -> None:
    (package / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"weight.bin is missing"):
        load(package)


def test_truncated_weights(package: Path) -> None:
    data = (package / WEIGHTS).read_bytes()
    for length in (10, 100, len(data) // 2, len(data) - 1000):
        (package / WEIGHTS).write_bytes(data[:length])
        with pytest.raises(UserError, match="damaged"):
            load(package)


def test_overwritten_weights(package: Path) -> None:
    data = bytearray((package / WEIGHTS).read_bytes())
    data[64:68] = b"ABCD"
    (package / WEIGHTS).write_bytes(data)
    with pytest.raises(UserError, match="no weight begins at byte 64"):
        load(package)


def test_unknown_operations_are_read(package: Path) -> None:
    def change(spec: Any) -> None:
        block = spec.mlProgram.functions["main"].block_specializations["CoreML7"]
        next(
            operation for operation in block.operations if operation.type == "relu6" or operation.type == "clip"
        ).type = "new"

    rewrite(package, change)
    assert "new" in {operation.kind for operation in load(package).operations}


def test_open_shapes_are_read_but_not_priced(dynamic: Program) -> None:
    assert -1 in dynamic.types[dynamic.input.name].shape
    with pytest.raises(UserError, match="static shape"):
        dynamic.require_static()
    with pytest.raises(UserError, match="static shape"):
        _ = dynamic.types[dynamic.input.name].nbytes


@pytest.mark.parametrize(
    ("softmax", "logits"), [(True, True), (False, False)], ids=["softmax head", "head without softmax"]
)
def test_logits(softmax: bool, logits: bool, build: Callable[..., Program]) -> None:
    from coremltools.converters.mil import Builder as mb

    program = build(lambda x: mb.softmax(x=mb.exp(x=x)) if softmax else mb.exp(x=x), (1, 4))
    assert (program.logits is not None) == logits
    assert (program.probabilities is not None) == logits
    assert program.labels is None
