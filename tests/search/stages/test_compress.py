"""One contract for every row of the table of compressions, and what is particular to some."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch

from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.program import Program, load
from coreml_pareto.objectives.program.constexpr import decode
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.stages import compress as module
from coreml_pareto.search.stages.compress import Layer, compress, pruning_threshold, signal_to_noise
from coreml_pareto.search.stages.convert import save
from coreml_pareto.search.stages.rewrite import Source
from coreml_pareto.spaces.candidate import Compression
from coreml_pareto.spaces.compression import every_compression, minimum_os, parse, spell
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
# How a scheme is decoded does not depend on the network, and coremltools takes long: each scheme on one family in turn.
IN_TURN = [(FAMILIES[place % len(FAMILIES)], compression) for place, compression in enumerate(WEIGHTS)] + OTHERS

# The same weights, decoded by the executor and by coremltools: the latter rounds them to fp16 once more.
TOLERANCE = 5e-3


@pytest.mark.parametrize(("name", "compression"), IN_TURN, ids=[f"{name}-{spell(one)}" for name, one in IN_TURN])
def test_agrees_with_the_package_decompressed_by_coremltools(
    packages: Any, name: str, compression: Compression
) -> None:
    path = packages.compressed(name, compression).model
    with quiet():
        plain = ct.optimize.coreml.decompress_weights(ct.models.MLModel(str(path), skip_model_load=True))
    images = packages.images(name)
    program, second = packages.program(path), packages.program(plain)
    assert any(operation.constexpr for operation in program.operations)
    assert not any(operation.constexpr for operation in second.operations)
    got, expected = packages.logits(program, images), packages.logits(second, images)
    assert packages.errors(got, expected).max() < TOLERANCE
    first, runner_up = expected.topk(2, 1)[0].T
    clear = first - runner_up > 4 * TOLERANCE * expected.norm(dim=1)
    assert torch.equal(got.argmax(1)[clear], expected.argmax(1)[clear])
    # What two evenly spaced values leave of a network has no clear answers.
    assert clear.float().mean() > 0.3 or (compression.bits, compression.mode) == (1, "uniform")


@pytest.mark.parametrize(("name", "compression"), CASES, ids=IDS)
def test_every_layer_is_stored_as_recorded(packages: Any, name: str, compression: Compression) -> None:
    done = packages.compressed(name, compression)
    program = packages.program(done.model)
    stored = {weight.name: weight for weight in program.weights}
    if compression.scheme == "mixed":  # asked of each layer is what was chosen for it
        assert all(layer.asked == (layer.applied or "fp16") for layer in done.layers)
    else:
        assert all(layer.asked == spell(compression) for layer in done.layers)
    assert sum(layer.applied is not None for layer in done.layers) >= 10
    for layer in done.layers:
        if layer.applied is None:
            assert layer.reason or layer.asked == "fp16"
            assert stored[layer.name].scheme == "fp16"
            continue
        weight = stored[layer.name]
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
    if applied.scheme == "pruning" and applied.group_size:  # 2:4; of a last group of one channel nothing goes
        stay = sum(min(2, layer.shape[1] - first) for first in range(0, layer.shape[1], 4)) / layer.shape[1]
        return 1 + 16 * stay - 0.01, 0.01 + byte
    if applied.scheme == "pruning":
        return 1 + 16 * (1 - math.ceil(applied.sparsity * elements) / elements) - 0.3, 0.3 + 2 * byte
    if applied.scheme == "joint":
        kept = 1 - applied.sparsity
        return 1 + applied.bits * kept - 0.3 + 2**applied.bits * 16 / elements, 0.3 + 2 * byte
    if applied.scheme == "palette":
        tables = outputs // applied.group_size if applied.group_size else 1
        return applied.bits + tables * 2**applied.bits * 16 / elements, byte
    scales = {"tensor": 1, "channel": outputs, "block": outputs * layer.shape[1] // max(applied.group_size, 1)}
    offsets = scales if applied.mode == "asymmetric" else {}
    extra = offsets.get(applied.granularity, 1 if old else 0) * applied.bits
    return applied.bits + (scales[applied.granularity] * 16 + extra) / elements, 2 * byte


@pytest.mark.parametrize(("name", "compression"), CASES, ids=IDS)
def test_a_probe_has_the_bytes_of_the_trained_package(packages: Any, name: str, compression: Compression) -> None:
    trained = packages.package_bytes(packages.saved(packages.compressed(name, compression).model))
    probe = packages.package_bytes(packages.saved(packages.compressed(name, compression, probe=True).model))
    if compression.scheme == "mixed":  # a form that fits the budget for all, not the same one for each
        assert probe == pytest.approx(trained, rel=4e-2)
    elif compression.sparsity:  # weights tied at the threshold go too, and ties depend on the values
        assert probe == pytest.approx(trained, rel=2e-3)
    else:
        assert probe == trained


@pytest.mark.parametrize("text", ["fp16", "fp32"])
def test_floats_pass_through(packages: Any, tmp_path: Path, text: str) -> None:
    source = packages.saved(packages.converted(MAIN, 15, text))
    target = tmp_path / "same.mlpackage"
    assert compress(source, target, parse(text)) == ()
    images = packages.images(MAIN)
    assert torch.equal(packages.logits(load(target), images), packages.logits(load(source), images))
    assert packages.package_bytes(target) == packages.package_bytes(source)


def test_refuses_what_is_not_its_work(packages: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="w8a8"):
        compress(tmp_path, tmp_path, parse("w8a8"))
    with pytest.raises(UserError, match="palette"):
        compress(tmp_path, tmp_path, Compression(scheme="palette", bits=5, granularity="tensor"))


@pytest.mark.parametrize("text", ["int4/channel", "palette-3/tensor", "palette-4/group-16", "pruning-50+palette-4"])
def test_too_old_a_program_is_refused(packages: Any, tmp_path: Path, text: str) -> None:
    source = packages.saved(packages.converted("squeezenet1_1", 16))
    with pytest.raises(ValueError, match="iOS 16"):
        compress(source, tmp_path / "x.mlpackage", parse(text))
    assert not (tmp_path / "x.mlpackage").exists()


def test_the_record_tells_what_was_done_otherwise_and_the_noise(packages: Any) -> None:
    done = packages.compressed(MAIN, parse("int4/block-32"))
    record = json.loads(load(done.model).metadata[f"{PREFIX}layers"])
    assert record["asked"] == "int4/block-32"
    assert record["otherwise"] == {
        layer.name: [layer.applied, layer.reason] for layer in done.layers if layer.applied != layer.asked
    }
    assert len(record["otherwise"]) > 5
    noise = [float(text) for text in record["snr_db"].split()]
    assert noise == pytest.approx([layer.snr_db for layer in done.layers if layer.applied], abs=0.051)
    assert all(15 < value < 40 for value in noise)


def test_signal_to_noise_by_hand() -> None:
    value = np.array([3.0, 4.0], np.float16)
    assert signal_to_noise(value, np.array([3.0, 4.5])) == pytest.approx(20)
    assert signal_to_noise(value, value) == math.inf


SAME_AS_COREMLTOOLS = {
    "int8/tensor": ("linear_quantize_weights", {"mode": "linear_symmetric", "granularity": "per_tensor"}),
    "int8/channel": ("linear_quantize_weights", {"mode": "linear_symmetric"}),
    "int8/channel/asymmetric": ("linear_quantize_weights", {"mode": "linear", "dtype": "uint8"}),
    "int4/channel": ("linear_quantize_weights", {"mode": "linear_symmetric", "dtype": "int4"}),
    "int4/block-32/asymmetric": (
        "linear_quantize_weights", {"mode": "linear", "dtype": "uint4", "granularity": "per_block", "block_size": 32},
    ),
    "palette-4/tensor": ("palettize_weights", {"mode": "kmeans", "nbits": 4}),
    "palette-6/tensor/uniform": ("palettize_weights", {"mode": "uniform", "nbits": 6}),
    "palette-2/group-16": (
        "palettize_weights", {"mode": "kmeans", "nbits": 2, "granularity": "per_grouped_channel", "group_size": 16},
    ),
    "pruning-50": ("prune_weights", {"target_sparsity": 0.5}),
    "pruning-2:4": ("prune_weights", {"n_m_ratio": (2, 4)}),
}  # fmt: skip
_CONFIGS = {
    "linear_quantize_weights": ct.optimize.coreml.OpLinearQuantizerConfig,
    "palettize_weights": ct.optimize.coreml.OpPalettizerConfig,
    "prune_weights": ct.optimize.coreml.OpMagnitudePrunerConfig,
}


@pytest.mark.parametrize("text", SAME_AS_COREMLTOOLS)
def test_written_as_coremltools_writes_it(packages: Any, tmp_path: Path, text: str) -> None:
    """Operation by operation: kinds, operands, their types and shapes, and what they decode to."""
    name, compression = "squeezenet1_1", parse(text)
    function, settings = SAME_AS_COREMLTOOLS[text]
    source = packages.saved(packages.converted(name, minimum_os(compression)))
    with quiet():
        config = ct.optimize.coreml.OptimizationConfig(_CONFIGS[function](weight_threshold=600, **settings))
        theirs = getattr(ct.optimize.coreml, function)(ct.models.MLModel(str(source), skip_model_load=True), config)
    save(theirs, tmp_path / "theirs.mlpackage")
    ours, theirs = packages.program(packages.compressed(name, compression).model), load(tmp_path / "theirs.mlpackage")
    compared = 0
    for mine, other in zip(readers(ours), readers(theirs), strict=True):
        if mine is None or other is None:  # they leave a layer out whose channels a block does not divide
            continue
        compared += 1
        assert mine.kind == other.kind
        assert mine.inputs.keys() - {"offset"} == other.inputs.keys() - {"offset"}
        for key, (operand,) in mine.inputs.items():
            if key not in ("zero_point", "nonzero_data"):  # one zero is enough for all channels; ties
                assert operand.type == other.inputs[key][0].type, key
        assert mine.outputs[0][1] == other.outputs[0][1]
        got, expected = decode(ours, mine.outputs[0][0]), decode(theirs, other.outputs[0][0])
        if compression.scheme == "palette":  # ours errs less
            continue
        if compression.scheme == "pruning":  # of weights as large as the threshold either may go
            assert len(np.unique(np.abs(got + expected)[got != expected])) <= 1
            continue
        assert (got == expected).mean() > 0.99999
    assert compared >= 11


def readers(program: Program) -> list[Any]:
    """The operation that unpacks each convolution's weight; None where it is stored plainly."""
    weights = [operation.one("weight") for operation in program.operations if operation.kind == "conv"]
    return [program.producers[weight] if isinstance(weight, str) else None for weight in weights]


def test_joint_compression_is_read_by_coremltools_as_pruned_and_palettized(packages: Any) -> None:
    done = packages.compressed(MAIN, parse("pruning-50+palette-4"))
    with quiet():
        model = ct.models.MLModel(str(done.model), skip_model_load=True)
        found = ct.optimize.coreml.get_weights_metadata(ct.optimize.coreml.decompress_weights(model), 600)
    values = [row.val for row in found.values() if row.val.ndim == 4]
    assert len(values) > 20
    for value in values:
        assert 0.5 <= (value == 0).mean() < 0.56
        assert len(set(value.astype(np.float32).reshape(-1).tolist())) <= 17


@pytest.mark.parametrize("text", ["int8/tensor/asymmetric", "int4/channel/asymmetric", "int8/channel"])
def test_large_weights_survive(text: str) -> None:
    """coremltools computes in the weight's type: 255 times 300 is infinite in fp16."""
    value = np.linspace(-6000, 6000, 64 * 64).astype(np.float16).reshape(64, 64)
    form = stored_form(value, text)
    assert signal_to_noise(value, form.decoded()) > (20 if text.startswith("int4") else 45)


@pytest.mark.parametrize("text", ["int8/channel", "int8/channel/asymmetric", "int4/block-32"])
@pytest.mark.filterwarnings("error")
def test_dead_channels_stay_dead(text: str) -> None:
    value = np.random.default_rng(0).normal(0, 0.1, (64, 64, 1, 1)).astype(np.float16)
    value[3], value[7] = 0, 5e-8  # all zero, and below the smallest scale of int8
    decoded = stored_form(value, text).decoded()
    assert (decoded[3] == 0).all()
    assert np.abs(decoded[7]).max() <= 1e-4
    assert signal_to_noise(value, decoded) > 15


@pytest.mark.parametrize("text", ["pruning-50", "pruning-50+palette-4", "pruning-2:4"])
@pytest.mark.parametrize("level", [0.0, 0.25])
def test_weights_that_are_all_equal(text: str, level: float) -> None:
    value = np.full((64, 64, 1, 1), level, np.float16)
    decoded = stored_form(value, text).decoded()
    assert set(decoded.reshape(-1).tolist()) <= {0.0, level}


def test_a_layer_in_fp32_stays(packages: Any) -> None:
    layer = module._decided("w", np.ones((64, 64), np.float32), parse("int8/channel"))
    assert (layer.applied, layer.reason) == (None, "float32: only fp16 weights are compressed")


def stored_form(value: np.ndarray[Any, Any], text: str) -> Any:
    layer = module.decide("w", value.shape, parse(text))
    assert layer.applied == text
    return module.forms_of({"w": value}, [layer])["w"]


def test_n_of_m_weights_go(packages: Any) -> None:
    value = np.random.default_rng(0).normal(size=(8, 10, 3, 3)).astype(np.float16)
    mask = module.kept(value, parse("pruning-2:4"))
    for group in (slice(0, 4), slice(4, 8)):
        assert (mask[:, group].sum(1) == 2).all()
        removed = np.abs(np.where(mask, np.nan, value)[:, group]).astype(float)
        stayed = np.abs(np.where(mask, value, np.nan)[:, group]).astype(float)
        assert (np.nanmax(removed, 1) <= np.nanmin(stayed, 1)).all()
    assert (mask[:, 8:].sum(1) == 2).all()  # the last two are filled up with zeros, which go first


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
        ((10, 36, 1, 1), "int8/channel", None),  # 340 bytes less, and 400 to unpack it
        ((16, 32, 1, 1), "int8/channel", "int8/channel"),
        ((16, 16, 1, 1), "palette-1/tensor", "palette-1/tensor"),
        ((64, 64, 1, 1), "int4/block-32/asymmetric", "int4/block-32/asymmetric"),
        ((64, 70, 1, 1), "pruning-2:4", "pruning-2:4"),
        ((24, 1, 3, 3), "pruning-50+palette-4", None),
        ((64, 64), "pruning-5", None),  # the mask weighs more than what goes
        ((64, 64), "pruning-20", "pruning-20"),
        ((64, 1, 5, 5), "pruning-2:4", None),  # there is nothing to choose from
    ],
)
def test_layers_are_decided_by_their_shape(shape: tuple[int, ...], text: str, applied: str | None) -> None:
    layer = module.decide("w", shape, parse(text))
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


def test_realised_sparsity_beyond_65504_elements(tmp_path: Path) -> None:
    """coremltools' own magnitude pruning computes the percentile's index in fp16, which ends at 65,504."""
    big = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 640), torch.nn.Linear(640, 160)).eval()
    with quiet():
        model = ct.convert(
            torch.export.export(big, (torch.zeros(1, 3, 8, 8),)).run_decompositions({}),
            inputs=[ct.TensorType(name="x", shape=(1, 3, 8, 8))],
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
    save(model, tmp_path / "big.mlpackage")
    layers = compress(tmp_path / "big.mlpackage", tmp_path / "pruned.mlpackage", parse("pruning-50"))
    assert [math.prod(layer.shape) for layer in layers] == [192 * 640, 640 * 160]
    with quiet():
        pruned = ct.models.MLModel(str(tmp_path / "pruned.mlpackage"), skip_model_load=True)
        found = ct.optimize.coreml.get_weights_metadata(ct.optimize.coreml.decompress_weights(pruned), 1000)
    assert sorted(row.val.size for row in found.values()) == [640 * 160, 192 * 640]
    for row in found.values():
        assert 0.5 <= float((row.val == 0).mean()) < 0.51


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
    path = packages.saved(packages.converted(MAIN, 16))
    with quiet():
        listed = ct.optimize.coreml.get_weights_metadata(ct.models.MLModel(str(path), skip_model_load=True), 0)
    heavy = {
        name: row.val
        for name, row in listed.items()
        if any(
            op.op_type in ("conv", "linear") and op.params_name_mapping.get("weight") == name for op in row.child_ops
        )
    }
    found = module.heavy_weights(load(path))
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
    save(model, tmp_path / "token.mlpackage")
    layers = compress(tmp_path / "token.mlpackage", tmp_path / "int8.mlpackage", parse("int8/tensor"))
    assert [layer.applied for layer in layers] == ["int8/tensor"]


def test_a_source_is_read_once_for_all_its_compressions(packages: Any, tmp_path: Path) -> None:
    """And every one is what it is from a fresh reading, in whatever order they are written."""
    path = packages.saved(packages.converted("squeezenet1_1", 16))
    source = Source.read(path)
    before = source.spec.SerializeToString(deterministic=True)
    for text in ("palette-4/tensor", "int8/channel", "pruning-50", "palette-4/tensor", "fp16"):
        compress(source, tmp_path / "once.mlpackage", parse(text), {"key": text})
        compress(path, tmp_path / "anew.mlpackage", parse(text), {"key": text})
        once, anew = (_content(tmp_path / name) for name in ("once.mlpackage", "anew.mlpackage"))
        assert once == anew
        assert source.spec.SerializeToString(deterministic=True) == before


def _content(package: Path) -> dict[str, bytes]:
    return {str(file.relative_to(package)): file.read_bytes() for file in package.rglob("*") if file.is_file()}
