"""Compressed weights: every scheme of coremltools, decoded by us and by coremltools, and run both ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch

from coreml_pareto.objectives.program import Executor, Program, bits_per_weight, costs, load
from coreml_pareto.objectives.program.constexpr import CONSTEXPR, decode, lut_to_dense, lut_to_sparse, sparse_to_dense

THRESHOLD = 200


def linear(**options: Any) -> Callable[..., Any]:
    config = cto.OpLinearQuantizerConfig(weight_threshold=THRESHOLD, **({"mode": "linear_symmetric"} | options))
    return lambda model, **joint: cto.linear_quantize_weights(model, cto.OptimizationConfig(config), **joint)


def palette(bits: int, **options: Any) -> Callable[..., Any]:
    mode = "uniform" if bits == 8 else "kmeans"  # k-means of 256 entries in a few hundred weights says nothing
    config = cto.OpPalettizerConfig(weight_threshold=THRESHOLD, mode=mode, nbits=bits, **options)
    return lambda model, **joint: cto.palettize_weights(model, cto.OptimizationConfig(config), **joint)


def prune(**options: Any) -> Callable[..., Any]:
    config = cto.OpMagnitudePrunerConfig(weight_threshold=THRESHOLD, **options)
    return lambda model: cto.prune_weights(model, cto.OptimizationConfig(config))


def joint(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    return lambda model: second(first(model), joint_compression=True)


GROUPS: dict[str, Any] = {"granularity": "per_grouped_channel", "group_size": 8}
BLOCKS: dict[str, Any] = {"granularity": "per_block", "block_size": 8}
# (minimum OS, name) -> compression, the scheme names it must show beside fp16
SCHEMES: dict[tuple[str, str], tuple[Callable[..., Any], set[str]]] = {
    ("iOS17", "int8 per channel"): (linear(), {"int8"}),
    ("iOS17", "int8 per tensor"): (linear(granularity="per_tensor"), {"int8"}),
    ("iOS17", "uint8 with zero points"): (linear(mode="linear", dtype="uint8"), {"int8"}),
    **{("iOS17", f"palette {bits}"): (palette(bits), {f"palette-{bits}"}) for bits in (1, 2, 4, 6, 8)},
    ("iOS17", "pruned"): (prune(target_sparsity=0.6), {"sparse"}),
    ("iOS18", "int8 per channel"): (linear(), {"int8"}),
    ("iOS18", "int4 per channel"): (linear(dtype="int4"), {"int4"}),
    ("iOS18", "int4 per block"): (linear(dtype="int4", **BLOCKS), {"int4"}),
    ("iOS18", "uint4 with offsets"): (linear(mode="linear", dtype="uint4", **BLOCKS), {"int4"}),
    ("iOS18", "palette 3 grouped"): (palette(3, **GROUPS), {"palette-3"}),
    ("iOS18", "palette 6"): (palette(6), {"palette-6"}),
    ("iOS18", "palette of vectors"): (palette(4, cluster_dim=4), {"palette-4"}),
    ("iOS18", "pruned"): (prune(target_sparsity=0.6), {"sparse"}),
    ("iOS18", "pruned n:m"): (prune(n_m_ratio=(3, 4)), {"sparse"}),
    ("iOS18", "pruned palette"): (joint(prune(target_sparsity=0.6), palette(4)), {"sparse+palette-4"}),
    ("iOS18", "pruned int8"): (joint(prune(target_sparsity=0.6), linear()), {"sparse+int8"}),
    ("iOS18", "palette with int8 table"): (
        joint(palette(6, **GROUPS), linear(granularity="per_tensor")),
        {"palette-6+int8", "int8"},  # the head's 10 rows do not fall into groups of 8: it gets int8 alone
    ),
}


@pytest.fixture(scope="module")
def compressed(
    convert: Any, small: Any, quiet: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, Path]]:
    """(package, the same package decompressed by coremltools) for a scheme."""
    folder = tmp_path_factory.mktemp("compressed")

    def run(os: str, name: str) -> tuple[Path, Path]:
        paths = folder / f"{os} {name}.mlpackage", folder / f"{os} {name} again.mlpackage"
        if not paths[0].exists():
            source = convert(f"small_{os}", small, target=getattr(ct.target, os))
            with quiet():
                model = SCHEMES[os, name][0](ct.models.MLModel(str(source), skip_model_load=True))
                model.save(str(paths[0]))
                cto.decompress_weights(model).save(str(paths[1]))
                del model
        return paths

    return run


@pytest.mark.parametrize(("os", "name"), SCHEMES)
def test_scheme(os: str, name: str, compressed: Any, images: torch.Tensor) -> None:
    packed, dense = map(load, compressed(os, name))
    assert {weight.scheme for weight in packed.weights} - {"fp16"} == SCHEMES[os, name][1]
    assert {weight.scheme for weight in dense.weights} == {"fp16"}
    for ours, theirs in zip(packed.weights, dense.weights, strict=True):
        assert (ours.shape, ours.elements) == (theirs.shape, theirs.elements)
    got, expected = (Executor(p).run(images, [p.logits]) for p in (packed, dense))
    torch.testing.assert_close(got[packed.logits], expected[dense.logits], rtol=1e-5, atol=1e-5)
    assert torch.equal(got["classLabel"], expected["classLabel"])
    assert len(expected["classLabel"].unique()) > 2


@pytest.mark.parametrize(("os", "name"), SCHEMES)
def test_stored_bytes_are_the_weight_file(os: str, name: str, compressed: Any) -> None:
    path, _ = compressed(os, name)
    program = load(path)
    blobs = blob_sizes(path / "Data/com.apple.CoreML/weights/weight.bin")
    # What the file does not hold: tensors of less than ten elements, which stand in model.mlmodel.
    inline = sum(constant.type.nbytes for constant in stored_constants(program) if constant.offset is None)
    assert sum(weight.stored_bytes for weight in program.weights) == sum(blobs.values()) + inline
    assert sum(row.weight_bytes for row in costs(program)) == sum(weight.stored_bytes for weight in program.weights)
    assert all(w.bits_per_weight == pytest.approx(8 * w.stored_bytes / w.elements) for w in program.weights)


def stored_constants(program: Program) -> list[Any]:
    from coreml_pareto.objectives.program.weights import PARAMETERS

    found = []
    for operation in program.operations:
        for key, arguments in operation.inputs.items():
            wanted = (
                key not in ("shape", "axis", "vector_axis")
                if operation.constexpr
                else key in PARAMETERS.get(operation.kind, ())
            )
            found += [a for a in arguments if wanted and not isinstance(a, str)]
    return list({constant.name: constant for constant in found}.values())


def blob_sizes(path: Path) -> dict[int, int]:
    """Offset -> bytes of every blob, walking the file as StorageFormat.hpp describes it."""
    data = path.read_bytes()
    count, sizes, offset = int.from_bytes(data[:4], "little"), {}, 64
    for _ in range(count):
        assert data[offset : offset + 4] == bytes.fromhex("efbeadde")
        size, start = (int.from_bytes(data[offset + i : offset + i + 8], "little") for i in (8, 16))
        sizes[offset] = size
        offset = (start + size + 63) // 64 * 64
    return sizes


def test_bits_per_weight_of_known_schemes(compressed: Any) -> None:
    def heaviest(name: str, os: str = "iOS17") -> float:
        program = load(compressed(os, name)[0])
        return max(program.weights, key=lambda weight: weight.elements).bits_per_weight

    # `last`: 72 x 32 weights. int8 brings a scale (fp16) and a zero point (int8) per output channel up to iOS 17.
    assert heaviest("int8 per tensor") == pytest.approx(8 + 24 / 2304)
    assert heaviest("int8 per channel") == pytest.approx(8 + 72 * 24 / 2304)
    assert heaviest("palette 4") == pytest.approx(4 + 16 * 16 / 2304)
    assert heaviest("int4 per block", "iOS18") == pytest.approx(4 + 16 / 8)
    assert heaviest("palette 3 grouped", "iOS18") == pytest.approx(3 + 9 * 8 * 16 / 2304)
    assert heaviest("pruned") == pytest.approx(1 + 0.4 * 16, abs=0.1)
    assert bits_per_weight(load(compressed("iOS17", "int8 per tensor")[1])) == 16


@pytest.mark.parametrize(("os", "name"), SCHEMES)
def test_decoding_agrees_with_coremltools_tensor_by_tensor(os: str, name: str, compressed: Any) -> None:
    packed, dense = map(load, compressed(os, name))
    for ours, theirs in zip(packed.weights, dense.weights, strict=True):
        if ours.scheme != "fp16":
            np.testing.assert_array_equal(decode(packed, ours.name), dense.constants[theirs.name].value)


def test_every_decoder_is_reached(compressed: Any) -> None:
    kinds = {
        operation.kind for key in SCHEMES for operation in load(compressed(*key)[0]).operations if operation.constexpr
    }
    assert kinds | {"constexpr_cast"} == set(CONSTEXPR)


def test_cast() -> None:
    (value,) = CONSTEXPR["constexpr_cast"](np.float16([0.1, 2]), np.array("fp32"))
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, np.float16([0.1, 2]))


def test_documented_table_of_groups() -> None:
    """Case 1 of the documentation of iOS 18's `constexpr_lut_to_dense`."""
    indices = np.array([2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3], np.uint8).reshape(6, 2)
    lut = np.array([1, 5, 9, 13, 2, 10, 18, 26], np.float16).reshape(2, 1, 4, 1)
    (dense,) = lut_to_dense(indices, lut)
    assert dense.tolist() == [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]


@pytest.mark.parametrize("axis", [1, 2])
def test_documented_table_of_vectors(axis: int) -> None:
    """Case 2 of the same documentation."""
    indices = np.array([0, 0, 1, 0, 1, 1, 0, 0], np.uint8).reshape(2, 2, 2)
    lut = np.array([10, 11, 12, 20, 21, 22], np.int8).reshape(1, 1, 1, 2, 3)
    (dense,) = lut_to_dense(indices, lut, None, np.array(axis))
    a, b = [10, 11, 12], [20, 21, 22]
    along_last = [[a + a, b + a], [b + b, a + a]]
    between = [[[p, q] for u, v in rows for p, q in zip(u, v, strict=True)]
               for rows in ([(a, a), (b, a)], [(b, b), (a, a)])]  # fmt: skip
    assert dense.tolist() == (between if axis == 1 else along_last)


def test_documented_sparse_tables() -> None:
    """Both examples of the documentation of `constexpr_lut_to_sparse`."""
    mask = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]], np.uint8)
    picks = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1], np.uint8)
    same, values = lut_to_sparse(mask, picks, np.array([2, 3], np.float16).reshape(1, 1, 2, 1))
    assert same.tolist() == mask.tolist()
    assert values.tolist() == [2, 3, 3, 2, 3, 3, 2, 2, 3]
    pairs = np.array([[2, 2], [3, 3]], np.float16).reshape(1, 1, 2, 2)
    wide, values = lut_to_sparse(mask, picks, pairs, np.array(0))
    assert wide.tolist() == np.repeat(mask, 2, 0).tolist()
    (dense,) = sparse_to_dense(values, wide)
    assert dense[:2].tolist() == [[2, 3, 0, 0, 0, 0]] * 2
