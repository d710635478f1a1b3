"""One contract for every row of the table of compressions, and what is particular to some."""

from __future__ import annotations

import math
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coreml_pareto.objectives.program import Program
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.stages import compress as module
from coreml_pareto.search.stages.compress import Layer, compress, even_table, optimal_table, pruning_threshold
from coreml_pareto.spaces.candidate import Compression
from coreml_pareto.spaces.compression import every_compression, parse, spell
from coreml_pareto.spaces.errors import UserError

MAIN = "mobilenetv3_small"
FAMILIES = (MAIN, "efficientnet_b0", "squeezenet1_1")
WEIGHTS = tuple(c for c in every_compression() if c.scheme not in ("fp32", "fp16", "w8a8"))
OTHERS = [
    (name, parse(text))
    for name in ("mobilenetv1", "efficientnet_lite0")
    for text in ("int8/channel", "int4/block-32", "palette-4/tensor", "palette-4/group-16", "pruning-50")
]
CASES = [(name, compression) for name in FAMILIES for compression in WEIGHTS] + OTHERS
IDS = [f"{name}-{spell(compression)}" for name, compression in CASES]

# The same weights, decoded by the executor and by coremltools: the latter rounds them to fp16 once more.
TOLERANCE = 5e-3


@pytest.mark.parametrize(("name", "compression"), CASES, ids=IDS)
def test_agrees_with_the_package_decompressed_by_coremltools(
    packages: Any, name: str, compression: Compression
) -> None:
    model = packages.compressed(name, compression).model
    with quiet():
        plain = ct.optimize.coreml.decompress_weights(model)
    images = packages.images(name)
    program, second = packages.program(model), packages.program(plain)
    assert any(operation.constexpr for operation in program.operations)
    assert not any(operation.constexpr for operation in second.operations)
    got, expected = packages.logits(program, images), packages.logits(second, images)
    assert packages.errors(got, expected).max() < TOLERANCE
    first, runner_up = expected.topk(2, 1)[0].T
    clear = first - runner_up > 4 * TOLERANCE * expected.norm(dim=1)
    assert torch.equal(got.argmax(1)[clear], expected.argmax(1)[clear])
    assert clear.float().mean() > 0.3


@pytest.mark.parametrize(("name", "compression"), CASES, ids=IDS)
def test_every_layer_is_stored_as_recorded(packages: Any, name: str, compression: Compression) -> None:
    done = packages.compressed(name, compression)
    program = packages.program(done.model)
    stored = {weight.name: weight for weight in program.weights}
    assert all(layer.asked == spell(compression) for layer in done.layers)
    assert sum(layer.applied is not None for layer in done.layers) >= 10
    for layer in done.layers:
        if layer.applied is None:
            assert layer.reason
            assert stored[layer.name].scheme == "fp16"
            continue
        weight = next(stored[key] for key in stored if key.rsplit("_", 1)[0] == layer.name and key != layer.name)
        expected, slack = bits_of(layer, old=packages.oldest(name, compression) < 18)
        assert weight.shape == layer.shape
        assert expected - 1e-9 <= weight.bits_per_weight <= expected + slack + 1e-9, layer
        assert weight.bits_per_weight < 16


def bits_of(layer: Layer, *, old: bool) -> tuple[float, float]:
    """Closed form of a layer's bits per weight, and how much more padding or ties may take."""
    assert layer.applied is not None
    applied = parse(layer.applied)
    elements, outputs = math.prod(layer.shape), layer.shape[0]
    byte = 8 / elements  # the last byte of packed indices
    if applied.scheme == "pruning":
        return 1 + 16 * (1 - math.ceil(applied.sparsity * elements) / elements) - 0.3, 0.3 + 2 * byte
    if applied.scheme == "palette":
        tables = outputs // applied.group_size if applied.group_size else 1
        return applied.bits + tables * 2**applied.bits * 16 / elements, byte
    per_output = {"tensor": 1 / outputs, "channel": 1.0, "block": layer.shape[1] / max(applied.group_size, 1)}
    scale = 16 + (8 if old else 0)  # before iOS 18 a zero point of 8 bits goes with each scale
    slack = byte + (8 / elements if old else 0)
    return applied.bits + outputs * per_output[applied.granularity] * scale / elements - (8 / elements if old else 0) * (
        outputs if applied.granularity == "channel" else 1), slack + 8 * outputs / elements  # fmt: skip


@pytest.mark.parametrize(("name", "compression"), CASES, ids=IDS)
def test_a_probe_has_the_bytes_of_the_trained_package(packages: Any, name: str, compression: Compression) -> None:
    trained = packages.package_bytes(packages.saved(packages.compressed(name, compression).model))
    probe = packages.package_bytes(packages.saved(packages.compressed(name, compression, probe=True).model))
    if compression.scheme == "pruning":  # weights tied at the threshold go too, and ties depend on the values
        assert probe == pytest.approx(trained, rel=2e-3)
    else:
        # Equal to the byte alone; 30 bytes apart in one run of the whole suite, cause open: search/TODO.md.
        assert abs(probe - trained) <= 64


@pytest.mark.parametrize("text", ["fp16", "fp32"])
def test_floats_pass_through(packages: Any, text: str) -> None:
    model = packages.converted(MAIN, 15, text)
    done = compress(model, parse(text))
    assert done.model is model
    assert done.layers == ()


def test_refuses_what_is_not_its_work(packages: Any) -> None:
    with pytest.raises(ValueError, match="w8a8"):
        compress(object(), parse("w8a8"))
    with pytest.raises(UserError, match="palette"):
        compress(object(), Compression(scheme="palette", bits=5, granularity="tensor"))


def test_too_old_a_program_is_refused_by_coremltools(packages: Any) -> None:
    with pytest.raises(ValueError, match="iOS18"):
        compress(packages.converted(MAIN, 16), parse("int4/channel"))


def test_a_layer_that_coremltools_skips_is_an_error(packages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does by itself where a block does not divide the channels."""
    monkeypatch.setattr(module, "_fitting", lambda shape, compression: compression.group_size)
    with pytest.raises(RuntimeError, match="skipped"):
        compress(packages.converted(MAIN, 18), parse("int4/block-32"))


@pytest.mark.parametrize(
    ("shape", "text", "applied"),
    [
        ((64, 96, 1, 1), "int4/block-32", "int4/block-32"),
        ((64, 72, 1, 1), "int4/block-32", "int4/block-24"),
        ((96, 1, 5, 5), "int4/block-32", "int4/block-1"),  # one scale per depthwise kernel
        ((64, 97, 1, 1), "int4/block-32", None),  # a scale for each weight
        ((72, 24, 1, 1), "palette-4/group-16", "palette-4/group-12"),
        ((97, 64), "palette-4/group-16", "palette-4/group-1"),
        ((72, 1, 3, 3), "palette-8/group-16", None),  # 256 entries for 108 weights
        ((72, 1, 3, 3), "palette-2/group-16", "palette-2/group-12"),
        ((16, 32, 1, 1), "int8/channel", None),  # 512 elements
        ((27, 19), "int8/channel", "int8/channel"),
        ((64, 64), "pruning-5", None),  # the mask weighs more than what goes
        ((64, 64), "pruning-10", "pruning-10"),
    ],
)
def test_layers_are_decided_by_their_shape(shape: tuple[int, ...], text: str, applied: str | None) -> None:
    layer = module._decide("w", np.zeros(shape, np.float16), parse(text))
    assert (layer.applied, layer.asked) == (applied, text)
    assert bool(layer.reason) == (applied != text)


@pytest.mark.parametrize("size", [1000, 65_504, 65_505, 100_000, 400_000])
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_threshold_of_large_weights(size: int, sparsity: float) -> None:
    value = np.random.default_rng(size).normal(0, 0.05, size).astype(np.float16)
    threshold = pruning_threshold(value, sparsity)
    magnitudes = np.sort(np.abs(value.astype(np.float64)))
    assert threshold == magnitudes[math.ceil(sparsity * size) - 1]  # brute force
    share = float((np.abs(value) <= np.float16(threshold)).mean())
    assert sparsity <= share < sparsity + 0.01


def test_realised_sparsity_beyond_65504_elements() -> None:
    """coremltools' own magnitude pruning computes the percentile's index in fp16, which ends at 65,504."""
    big = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 640), torch.nn.Linear(640, 160)).eval()
    with quiet():
        model = ct.convert(
            torch.export.export(big, (torch.zeros(1, 3, 8, 8),)).run_decompositions({}),
            inputs=[ct.TensorType(name="x", shape=(1, 3, 8, 8))],
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
    done = compress(model, parse("pruning-50"))
    assert [math.prod(layer.shape) for layer in done.layers] == [192 * 640, 640 * 160]
    with quiet():
        found = ct.optimize.coreml.get_weights_metadata(ct.optimize.coreml.decompress_weights(done.model), 1000)
    assert sorted(row.val.size for row in found.values()) == [640 * 160, 192 * 640]
    for row in found.values():
        assert 0.5 <= float((row.val == 0).mean()) < 0.51


@given(
    arrays(np.float16, st.integers(1, 60), elements=st.floats(-4, 4, width=16, allow_subnormal=False)),
    st.integers(1, 4),
)
@settings(max_examples=60)
def test_tables(value: np.ndarray[Any, Any], bits: int) -> None:
    for make in (optimal_table, even_table):
        table, indices = make(value, bits=bits)
        assert table.shape == (2**bits,)
        assert table.dtype == np.float16
        assert indices.shape == value.shape
        assert indices.dtype == np.uint8
        assert indices.max() < 2**bits

    def error(pair: tuple[Any, Any]) -> float:
        return float(((pair[0].astype(np.float64)[pair[1]] - value.astype(np.float64)) ** 2).sum())

    rounding = len(value) * (4 * 2**-11) ** 2
    assert error(optimal_table(value, bits=bits)) <= error(even_table(value, bits=bits)) + rounding
    if len(np.unique(value)) <= 2**bits:
        assert error(optimal_table(value, bits=bits)) <= rounding


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_even_tables_have_no_entry_too_many(bits: int) -> None:
    """Steps of half precision once led to entry 16 of 16 (seen with FastViT)."""
    for seed in range(200):
        value = np.random.default_rng(seed).normal(0, 10.0 ** (seed % 7 - 3), 50).astype(np.float16)
        assert even_table(value, bits=bits)[1].max() == 2**bits - 1


def test_table_of_two_entries_against_brute_force() -> None:
    """Two clusters in one dimension are a cut of the sorted values."""
    value = np.random.default_rng(3).normal(0, 1, 200).astype(np.float16)
    ordered = np.sort(value.astype(np.float64))
    best = min(
        ((ordered[:i] - ordered[:i].mean()) ** 2).sum() + ((ordered[i:] - ordered[i:].mean()) ** 2).sum()
        for i in range(1, len(ordered))
    )
    table, indices = optimal_table(value, bits=1)
    assert ((table.astype(np.float64)[indices] - value) ** 2).sum() == pytest.approx(best, rel=1e-4)


def test_bits_per_weight_of_packages(packages: Any) -> None:
    """Over all weights, biases included: the more bits, the larger, and within half a bit of the scheme's own."""
    texts = ["palette-1", "palette-2", "palette-3", "palette-4", "palette-6", "int8/tensor"]
    found = [program_bits(packages.program(packages.compressed(MAIN, parse(text)).model)) for text in texts]
    assert found == sorted(found)
    for text, bits in zip(texts, found, strict=True):
        assert parse(text).bits < bits < parse(text).bits + 0.5


def program_bits(program: Program) -> float:
    from coreml_pareto.objectives.program import bits_per_weight

    return bits_per_weight(program)


def test_only_weights_of_convolutions_and_linear_layers_are_considered(packages: Any) -> None:
    """And all of them: held against coremltools' own list."""
    model = packages.converted(MAIN, 16)
    with quiet():
        listed = ct.optimize.coreml.get_weights_metadata(model, weight_threshold=0)
    heavy = {
        name: row.val
        for name, row in listed.items()
        if any(
            op.op_type in ("conv", "linear") and op.params_name_mapping.get("weight") == name for op in row.child_ops
        )
    }
    found = module._weights(model)
    assert found.keys() == heavy.keys()
    assert all(np.array_equal(found[name], heavy[name]) for name in heavy)


def test_a_constant_that_is_joined_with_others_stops_nothing(tmp_path: Any) -> None:
    """As a vision transformer's class token is; coremltools' own list of weights fails on it."""

    class Token(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = torch.nn.Parameter(torch.rand(1, 1, 48))
            self.mix = torch.nn.Linear(48, 48)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mix(torch.cat([self.token, x], 1))

    with quiet():
        model = ct.convert(
            torch.export.export(Token().eval(), (torch.zeros(1, 3, 48),)).run_decompositions({}),
            inputs=[ct.TensorType(name="x", shape=(1, 3, 48))],
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
    assert [layer.applied for layer in compress(model, parse("int8/tensor")).layers] == ["int8/tensor"]
