"""A package written anew is the same program; its text is shorter, and coremltools reads it as before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import coremltools as ct
import pytest
import torch

from coreml_pareto.objectives.program import Executor, load
from coreml_pareto.objectives.program.loader import main_function, read_spec
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.objectives.program.record import heavy_weights
from coreml_pareto.search.stages.forms import Sparse
from coreml_pareto.search.stages.rewrite import Source, _refer, rewrite, slim
from coreml_pareto.spaces.compression import parse

NAMES = ["mobilenetv3_small", "efficientnet_lite0", "squeezenet1_1"]


def operations(path: Path) -> list[Any]:
    spec, _ = read_spec(path)
    function = main_function(spec, path)
    return list(function.block_specializations[function.opset].operations)


@pytest.fixture(params=NAMES)
def both(request: Any, packages: Any, tmp_path: Path) -> tuple[str, Path, Path]:
    """A network's name, its package as coremltools writes it, and the same shortened."""
    long, short = tmp_path / "long.mlpackage", tmp_path / "short.mlpackage"
    with quiet():
        packages.converted(request.param, 16).save(str(long))
    (long / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    shutil.copytree(long, short)
    slim(short)
    return request.param, long, short


def test_a_shorter_text_computes_the_same(packages: Any, both: tuple[str, Path, Path]) -> None:
    name, long, short = both
    images = packages.images(name)
    assert torch.equal(packages.logits(load(short), images), packages.logits(load(long), images))
    texts = [next(path.rglob("*.mlmodel")).stat().st_size for path in (long, short)]
    assert texts[1] < 0.55 * texts[0]
    before, after = load(long), load(short)
    assert (after.labels, after.output, after.input, after.metadata) == (
        before.labels, before.output, before.input, before.metadata,
    )  # fmt: skip
    assert [o.kind for o in after.operations] == [o.kind for o in before.operations]
    assert [o.outputs[0][1] for o in after.operations] == [o.outputs[0][1] for o in before.operations]


def test_constants_are_shared_and_every_name_is_there_once(both: tuple[str, Path, Path]) -> None:
    _, _, short = both
    constants = [o for o in operations(short) if o.type == "const"]
    small = [o.attributes["val"] for o in constants if o.attributes["val"].WhichOneof("value") == "immediateValue"]
    assert len({value.SerializeToString(deterministic=True) for value in small}) == len(small)
    made = [output.name for operation in operations(short) for output in operation.outputs]
    assert len(made) == len(set(made))
    bindings = [b for o in operations(short) for argument in o.inputs.values() for b in argument.arguments]
    read = {binding.name for binding in bindings if binding.HasField("name")}
    assert read <= {*made, "image"}
    assert any(name == "conv_1_weight" for name in made)


def test_coremltools_reads_it(both: tuple[str, Path, Path]) -> None:
    """Its frontend checks every type and shape again."""
    _, long, short = both
    with quiet():
        found = [
            ct.optimize.coreml.get_weights_metadata(ct.models.MLModel(str(path), skip_model_load=True), 100)
            for path in (long, short)
        ]
    shapes = [sorted(row.val.shape for row in weights.values()) for weights in found]
    assert shapes[0] == shapes[1]


def test_the_same_twice(both: tuple[str, Path, Path], tmp_path: Path) -> None:
    _, _, short = both
    text = next(short.rglob("*.mlmodel")).read_bytes()
    slim(short)
    assert next(short.rglob("*.mlmodel")).read_bytes() == text
    rewrite(Source.read(short), tmp_path / "copy.mlpackage", {}, {})
    assert (
        next((tmp_path / "copy.mlpackage").rglob("weight.bin")).read_bytes()
        == next(short.rglob("weight.bin")).read_bytes()
    )


def test_metadata_is_added(both: tuple[str, Path, Path], tmp_path: Path) -> None:
    _, _, short = both
    rewrite(Source.read(short), tmp_path / "copy.mlpackage", {}, {"key": "text"})
    assert load(tmp_path / "copy.mlpackage").metadata == {**load(short).metadata, "key": "text"}


def test_an_unknown_weight_is_an_error(both: tuple[str, Path, Path], tmp_path: Path) -> None:
    import numpy as np

    _, _, short = both
    forms = {"nothing_weight": Sparse(np.zeros((2, 2), np.float16))}
    with pytest.raises(KeyError, match="nothing_weight"):
        rewrite(Source.read(short), tmp_path / "copy.mlpackage", forms, {})


def test_new_names_keep_clear_of_those_that_stay(tmp_path: Path) -> None:
    """The output of two linear layers in a row is called `linear_1` by coremltools, as the first is by `slim`."""
    big = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 64), torch.nn.Linear(64, 16)).eval()
    with quiet():
        model = ct.convert(
            torch.export.export(big, (torch.zeros(1, 3, 8, 8),)).run_decompositions({}),
            inputs=[ct.TensorType(name="c_0", shape=(1, 3, 8, 8))],
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
        model.save(str(tmp_path / "long.mlpackage"))
    path = tmp_path / "long.mlpackage"
    (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    before = load(path)
    images = torch.rand(3, 3, 8, 8)
    expected = Executor(before).run(images)
    slim(path)
    after = load(path)
    assert (after.input, after.output) == (before.input, before.output)
    made = [output.name for operation in operations(path) for output in operation.outputs]
    assert len({*made, "c_0"}) == len(made) + 1
    for name, values in Executor(after).run(images).items():
        assert torch.equal(values, expected[name])


@pytest.mark.parametrize("text", ["palette-4/tensor", "pruning-50+palette-4", "int4/block-32"])
def test_what_is_unpacked_is_called_by_its_layer(packages: Any, tmp_path: Path, text: str) -> None:
    """Also where one operation unpacks for another; nothing else changes."""
    source = packages.saved(packages.compressed("squeezenet1_1", parse(text)).model)
    shutil.copytree(source, tmp_path / "odd.mlpackage")
    spec, file = read_spec(tmp_path / "odd.mlpackage")
    block = next(iter(main_function(spec, file).block_specializations.values()))
    outputs = [output for o in block.operations for output in o.outputs if o.type.startswith("constexpr_")]
    odd = {output.name: f"op_{number}" for number, output in enumerate(outputs)}
    _refer(block, odd)
    for output in outputs:
        output.name = odd[output.name]
    file.write_bytes(spec.SerializeToString(deterministic=True))
    before = load(tmp_path / "odd.mlpackage")
    assert any(name.startswith("op_") for name in heavy_weights(before))
    images = packages.images("squeezenet1_1")
    expected = packages.logits(before, images)
    slim(tmp_path / "odd.mlpackage")
    after = load(tmp_path / "odd.mlpackage")
    assert list(heavy_weights(after)) == list(heavy_weights(load(source)))
    assert torch.equal(packages.logits(after, images), expected)
