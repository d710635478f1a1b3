"""What the loader reads, and what it says when it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.proto import Model_pb2

from coreml_pareto.objectives.program import Constant, Program, load
from coreml_pareto.objectives.program.weightfile import WeightFile
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


def test_loading_reads_no_weights(convert: Any, mobilenet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = convert("mobilenetv3_small_050_fp16", mobilenet)
    monkeypatch.setattr(WeightFile, "read", lambda *_: pytest.fail("a weight was read"))
    program = load(path)
    assert program.operations


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


def two(x: Any, *others: tuple[int, ...]) -> tuple[Any, ...]:
    """Outputs of the shapes [1, 4] and `others`."""
    from coremltools.converters.mil import Builder as mb

    return (mb.exp(x=x), *(mb.reshape(x=mb.sin(x=x), shape=shape) for shape in others))


@pytest.mark.parametrize(
    ("others", "found"), [([], True), ([(2, 2)], True), ([(1, 2, 2)], True), ([(1, 4)], False), ([(1, 4, 1, 1)], False)]
)
def test_scores_are_the_only_row_of_floats(
    others: list[tuple[int, ...]], found: bool, build: Callable[..., Program]
) -> None:
    program = build(lambda x: two(x, *others), (1, 4))
    assert len(program.output) == 1 + len(others)
    assert program.scores == (program.output[0] if found else None)
    assert not program.normalised


def test_scores_are_the_probabilities_where_there_are_some(build: Callable[..., Program]) -> None:
    from coremltools.converters.mil import Builder as mb

    program = build(lambda x: (mb.exp(x=x), mb.softmax(x=x)), (1, 4))
    assert program.scores == program.probabilities == program.output[1]
    assert program.normalised


# --- what is no ML program --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def neural_network() -> Any:
    """The specification of a real neural network of the older format: one inner product."""
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    builder = NeuralNetworkBuilder([("x", datatypes.Array(3))], [("y", datatypes.Array(2))])
    builder.add_inner_product("last", np.ones((2, 3)), None, 3, 2, False, "x", "y")
    return builder.spec


def test_a_neural_network_in_one_file(neural_network: Any, tmp_path: Path) -> None:
    (tmp_path / "old.mlmodel").write_bytes(neural_network.SerializeToString())
    with pytest.raises(
        UserError, match=r"not a folder, but a 'neuralNetwork' model in a single file; convert .* again"
    ):
        load(tmp_path / "old.mlmodel")


def test_a_neural_network_in_a_package(neural_network: Any, package: Path) -> None:
    (package / MODEL).write_bytes(neural_network.SerializeToString())
    with pytest.raises(
        UserError, match=r"copy.mlpackage is a 'neuralNetwork' model; convert the original network again"
    ):
        load(package)


@pytest.mark.parametrize(
    ("kind", "way_out"),
    [
        ("neuralNetworkClassifier", "convert the original network again"),
        ("neuralNetworkRegressor", "convert the original network again"),
        ("pipeline", "save the ML program in it by itself"),
        ("pipelineClassifier", "save the ML program in it by itself"),
        ("treeEnsembleClassifier", "this reads neural networks"),
        ("glmClassifier", "this reads neural networks"),
    ],
)
def test_every_other_type_has_its_way_out(kind: str, way_out: str, package: Path) -> None:
    rewrite(package, lambda spec: getattr(spec, kind).SetInParent())
    with pytest.raises(UserError, match=f"'{kind}' model; {way_out}.*mlprogram"):
        load(package)


def test_a_compiled_model(package: Path, tmp_path: Path) -> None:
    compiled = tmp_path / "model.mlmodelc"
    (compiled / "weights").mkdir(parents=True)
    (compiled / "weights" / "weight.bin").write_bytes((package / WEIGHTS).read_bytes())
    (compiled / "model.mil").write_text("program(1.0)\n{\n}\n")
    (compiled / "metadata.json").write_text("[]")
    (compiled / "coremldata.bin").write_bytes(b"\x00" * 64)
    with pytest.raises(UserError, match=r"model.mlmodelc is a compiled model \(.mlmodelc\).*compiled from"):
        load(compiled)
    with pytest.raises(UserError, match=r"renamed is a compiled model \(.mlmodelc\).*compiled from"):
        load(compiled.rename(tmp_path / "renamed"))


def test_a_folder_of_texts_and_a_folder_around_packages(package: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "labels.txt").write_text("cat\ndog\n")
    with pytest.raises(UserError, match=r"texts has no Manifest.json; check the path"):
        load(texts)
    with pytest.raises(UserError, match=r"has no Manifest.json; name one of those in it: copy.mlpackage"):
        load(package.parent)


def test_a_file_of_a_package_instead_of_the_package(package: Path) -> None:
    for name in (WEIGHTS, "Manifest.json"):
        with pytest.raises(UserError, match="is not a folder; name the package's folder"):
            load(package / name)
    with pytest.raises(UserError, match=r"not a folder, but the program of one; name the NAME.mlpackage around it"):
        load(package / MODEL)


def test_a_text_that_calls_itself_a_model(tmp_path: Path) -> None:
    (tmp_path / "notes.mlmodel").write_text("only words\n")
    with pytest.raises(UserError, match="is not a folder; name the package's folder"):
        load(tmp_path / "notes.mlmodel")


@pytest.mark.parametrize("path", [7, None, ["model.mlmodel"]])
def test_a_manifest_that_names_no_file(path: Any, package: Path) -> None:
    manifest = package / "Manifest.json"
    entries = json.loads(manifest.read_text())
    entries["itemInfoEntries"][entries["rootModelIdentifier"]]["path"] = path
    manifest.write_text(json.dumps(entries))
    with pytest.raises(UserError, match="root model"):
        load(package)


def test_a_truncated_program(package: Path) -> None:
    data = (package / MODEL).read_bytes()
    (package / MODEL).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="not a Core ML model"):
        load(package)
    (package / MODEL).write_bytes(b"")
    with pytest.raises(UserError, match=r"has no model in it.*empty or cut off"):
        load(package)


def test_a_program_without_a_function_or_its_body(package: Path) -> None:
    rewrite(package, lambda spec: spec.mlProgram.functions["main"].block_specializations.clear())
    with pytest.raises(UserError, match="has none: it is damaged"):
        load(package)
    rewrite(package, lambda spec: spec.mlProgram.functions.clear())
    with pytest.raises(UserError, match="has none: it is damaged"):
        load(package)


def test_a_package_without_its_folder_of_weights(package: Path) -> None:
    shutil.rmtree((package / WEIGHTS).parent)
    with pytest.raises(UserError, match=r"weight.bin is missing; copy the whole folder again"):
        load(package)


def test_operations_without_a_name_are_called_by_their_output(package: Path) -> None:
    def change(spec: Any) -> None:
        for operation in spec.mlProgram.functions["main"].block_specializations["CoreML7"].operations:
            if operation.type != "const":
                del operation.attributes["name"]

    rewrite(package, change)
    operations = load(package).operations
    assert [operation.name for operation in operations] == [operation.outputs[0][0] for operation in operations]
