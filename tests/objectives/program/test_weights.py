"""The rows of the weights: their order, what they are stored in, and numbers that no network has."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb

from coreml_pareto.objectives.program import Program, load, require_finite
from coreml_pareto.objectives.program.weights import weights_of
from coreml_pareto.spaces.errors import UserError

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture(scope="module")
def compressed(convert: Any, small: Any, quiet: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network with one int8 scale per output channel."""
    path = tmp_path_factory.mktemp("weights") / "int8.mlpackage"
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=200))
    with quiet():
        source = ct.models.MLModel(str(convert("small_fp16", small)), skip_model_load=True)
        cto.linear_quantize_weights(source, config).save(str(path))
    return path


def damage(package: Path, role: str, value: float, target: Path) -> Path:
    """A copy whose first heavy weight (`nth` 0) or bias has one number replaced in the weight file."""
    copy = Path(shutil.copytree(package, target / "damaged.mlpackage"))
    program = load(copy)
    conv = next(operation for operation in program.operations if operation.kind == "conv")
    row = weights_of(program, conv)[("weight", "bias").index(role)]
    constant = next(c for c in row.constants if c.type.dtype == "fp16" and c.offset is not None)
    data = bytearray((copy / WEIGHTS).read_bytes())
    (start,) = struct.unpack_from("<Q", data, constant.offset + 16)
    data[start + 2 : start + 4] = np.float16(value).tobytes()
    (copy / WEIGHTS).write_bytes(data)
    return copy


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("role", ["weight", "bias"])
def test_numbers_that_are_none_are_refused(role: str, value: float, convert: Any, small: Any, tmp_path: Path) -> None:
    package = damage(convert("small_fp16", small), role, value, tmp_path)
    program = load(package)  # lazily: opening reads no numbers
    with pytest.raises(UserError, match=r"of damaged.mlpackage \('conv'\) stores 1 that are NaN or infinite.*again"):
        require_finite(program)


def test_a_broken_scale_is_found_under_integers(compressed: Path, tmp_path: Path) -> None:
    require_finite(load(compressed))
    with pytest.raises(UserError, match="stores 1 that are NaN"):
        require_finite(load(damage(compressed, "weight", np.nan, tmp_path)))


@pytest.mark.parametrize(("value", "legal"), [(-np.inf, True), (np.nan, False)])
def test_infinity_is_legal_in_masks_and_nan_nowhere(value: float, legal: bool, build: Callable[..., Program]) -> None:
    mask = np.where(np.eye(4), 0, value).astype(np.float32)
    program = build(lambda x: mb.softmax(x=mb.add(x=x, y=mask)), (4, 4))
    assert [weight.elements for weight in program.weights] == [16]
    if legal:
        require_finite(program)
    else:
        with pytest.raises(UserError, match="stores 12 that are NaN"):
            require_finite(program)


def test_weights_come_before_biases_each_time(convert: Any, small: Any) -> None:
    """Protobuf's maps have no order of their own."""
    for _ in range(5):
        program = load(convert("small_fp16", small))
        for operation in program.operations:
            if operation.kind in ("conv", "linear"):
                assert [len(weight.shape) for weight in weights_of(program, operation)] in ([4, 1], [2, 1])


def test_bytes_are_those_of_the_constants(compressed: Path) -> None:
    program = load(compressed)
    assert any(len(weight.constants) > 2 for weight in program.weights)
    for weight in program.weights:
        assert weight.stored_bytes == sum(constant.type.nbytes for constant in weight.constants)


@pytest.mark.parametrize("channels", [4, 8, 0])
def test_channels_that_share_a_table(convert: Any, small: Any, quiet: Any, tmp_path: Path, channels: int) -> None:
    """coremltools' own grouped tables, which need iOS 18; one table for all counts as none."""
    granularity = "per_grouped_channel" if channels else "per_tensor"
    config = cto.OpPalettizerConfig(
        mode="kmeans", nbits=2, granularity=granularity, group_size=channels or 32, weight_threshold=200
    )
    with quiet():
        source = ct.models.MLModel(str(convert("small_ios18", small, target=ct.target.iOS18)), skip_model_load=True)
        cto.palettize_weights(source, cto.OptimizationConfig(config)).save(str(tmp_path / "tables.mlpackage"))
    found = [weight for weight in load(tmp_path / "tables.mlpackage").weights if weight.scheme.startswith("palette")]
    assert found
    for weight in found:
        assert weight.table_channels == (channels if weight.shape[0] > channels > 0 else 0)
