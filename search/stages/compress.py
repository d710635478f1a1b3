"""How are a converted program's weights stored in fewer bits? Core ML's weight compression, with a record per layer.

coremltools skips layers without telling (weights of at most 2,048 elements by default, channels that a block or group
does not divide). Here each layer is decided by name, by a rule that looks at shapes only, so a probe from random
weights is decided like the trained network:

- Considered are the weights of convolutions and linear layers; biases and batch norms stay as they are.
- Weights of at most 512 elements stay as they are: at 8 bits they would save half a kilobyte at most, the operation
  that unpacks them costs about as much program text, and small kernels suffer most.
- Blocks run along the input channels, groups along the output channels. One that does not divide the layer's channels
  is replaced by the largest divisor below it.
- Where tables, scales or masks would weigh more than the compression saves, the layer stays as it is.

Two defects of coremltools 9.0 are avoided: `enable_per_channel_scale` corrupts layers that are skipped and is not used
(apple/coremltools, pull request 2777); magnitude pruning computes its percentile in fp16 and loses the threshold of
weights beyond 65,504 elements, so the threshold is found here, exactly.

Palettes up to 6 bits are the optimal ones of one-dimensional k-means (Grønlund et al. 2017, arXiv:1701.07204, as in
coremltools' `kmeans1d`) for every size of layer; coremltools by itself stops early below 10,000 weights, at a squared
error 5 to 17 % higher (4 and 6 bits, heavy-tailed random weights). At 8 bits its own clustering is kept: five times as
fast where the error is negligible either way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.program import Constant, load
from coreml_pareto.objectives.program.quiet import coremltools as ct
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.stages.convert import temporary
from coreml_pareto.spaces.candidate import Compression, Scheme
from coreml_pareto.spaces.compression import check, spell

Array = NDArray[Any]

SMALLEST = 512
"""Weights of at most this many elements stay as they are."""

_OPTIMAL_BITS = 6

_HEAVY = ("conv", "linear")


@final
@dataclass(frozen=True)
class Layer:
    """What happened to one weight: as asked, adapted to its shape, or left alone; `reason` is empty when as asked.

    Attributes:
        name: of the weight in the program.
        shape: [output channels, input channels (per group), ...].
        asked: the compression that was asked for, as `spaces.compression.spell` writes it.
        applied: what was done; None: the weight stays as it was.
    """

    name: str
    shape: tuple[int, ...]
    asked: str
    applied: str | None
    reason: str = ""


@final
@dataclass(frozen=True)
class Compressed:
    """A compressed `MLModel` and the record of its layers."""

    model: Any
    layers: tuple[Layer, ...]


def compress(model: Any, compression: Compression, *, probe: bool = False) -> Compressed:
    """Compress the weights of a converted model; fp32 and fp16 pass through.

    Args:
        model: `MLModel` in fp16, converted for the compression's minimum OS at least.
        probe: only the size will be read: palettes are drawn evenly instead of optimally, at the same size.

    Raises:
        UserError: no legal cell of the table of compressions.
        ValueError: W8A8, which is made in torch before the conversion.
    """
    check(compression)
    if compression.scheme in ("fp32", "fp16"):
        return Compressed(model, ())
    if compression.scheme not in _APPLY:
        raise ValueError(f"{spell(compression)} is no compression of a converted program.")
    weights = _weights(model)
    layers = tuple(_decide(name, value, compression) for name, value in weights.items())
    chosen = {layer.name: _config(weights[layer.name], layer, compression, probe) for layer in layers if layer.applied}
    if not chosen:
        return Compressed(model, layers)
    with quiet():
        config = ct.optimize.coreml.OptimizationConfig(op_name_configs=chosen)
        compressed = temporary(_APPLY[compression.scheme](model, config))
    _verify(compressed, layers)
    return Compressed(compressed, layers)


def _weights(model: Any) -> dict[str, Array]:
    """The weights of convolutions and linear layers by name.

    Read by us: coremltools' `get_weights_metadata` fails where a constant is one of several that an operation joins
    (the class token of a vision transformer).
    """
    readers = [operation for operation in load(Path(model.package_path)).operations if operation.kind in _HEAVY]
    found = (operation.one("weight") for operation in readers)
    return {weight.name: weight.value for weight in found if isinstance(weight, Constant)}


def _decide(name: str, value: Array, compression: Compression) -> Layer:
    """Decide by a weight's shape what is done to it."""
    asked = spell(compression)
    row = partial(Layer, name, tuple(value.shape), asked)
    if value.size <= SMALLEST:
        return row(None, f"{value.size} elements, at most {SMALLEST} stay as they are")
    size = _fitting(value.shape, compression)
    applied = compression.model_copy(update={"group_size": size})
    if _stored_bits(value.shape, applied) >= 8 * value.nbytes:
        return row(None, f"{spell(applied)} would not make it smaller")
    if size == compression.group_size:
        return row(asked)
    channels = _channels(value.shape, compression)
    return row(spell(applied), f"{channels} channels are no multiple of {compression.group_size}")


def _channels(shape: tuple[int, ...], compression: Compression) -> int:
    """The channels that blocks (input) or groups (output) divide."""
    return shape[1] if compression.granularity == "block" else shape[0]


def _fitting(shape: tuple[int, ...], compression: Compression) -> int:
    """The largest block or group up to the asked one that divides the channels; 0 where there is none to fit."""
    channels = _channels(shape, compression)
    return max((size for size in range(1, compression.group_size + 1) if channels % size == 0), default=0)


def _stored_bits(shape: tuple[int, ...], compression: Compression) -> float:
    """Bits of indices, tables, scales and masks of one fp16 weight under a compression."""
    elements, outputs = math.prod(shape), shape[0]
    if compression.scheme == "pruning":
        return elements * (1 + 16 * (1 - compression.sparsity))
    size = max(compression.group_size, 1)
    parts = {"tensor": 1, "channel": outputs, "group": outputs // size, "block": outputs * shape[1] // size}
    entries = 2**compression.bits if compression.scheme == "palette" else 1
    return elements * compression.bits + parts[compression.granularity] * entries * 16


def _config(value: Array, layer: Layer, compression: Compression, probe: bool) -> Any:
    """coremltools' configuration of one layer."""
    size = _fitting(layer.shape, compression)
    return _CONFIGS[compression.scheme](value, compression, size, probe)


def _quantization(value: Array, compression: Compression, size: int, probe: bool) -> Any:
    granularity = f"per_{compression.granularity}"
    return ct.optimize.coreml.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype=f"int{compression.bits}", granularity=granularity, weight_threshold=0,
        **({"block_size": size} if size else {}),
    )  # fmt: skip


def _palette(value: Array, compression: Compression, size: int, probe: bool) -> Any:
    grouped = {"granularity": "per_grouped_channel", "group_size": size} if size else {"granularity": "per_tensor"}
    if compression.bits > _OPTIMAL_BITS and not probe:
        clusters = {"mode": "kmeans", "nbits": compression.bits}
    else:
        table = partial(even_table if probe else optimal_table, bits=compression.bits)
        clusters = {"mode": "custom", "lut_function": table}
    return ct.optimize.coreml.OpPalettizerConfig(**clusters, **grouped, weight_threshold=0)


def _pruning(value: Array, compression: Compression, size: int, probe: bool) -> Any:
    return ct.optimize.coreml.OpThresholdPrunerConfig(
        threshold=pruning_threshold(value, compression.sparsity), minimum_sparsity_percentile=0.0, weight_threshold=0
    )


_CONFIGS: Mapping[Scheme, Callable[[Array, Compression, int, bool], Any]] = {
    "int8": _quantization,
    "int4": _quantization,
    "palette": _palette,
    "pruning": _pruning,
}

_APPLY: Mapping[Scheme, Callable[[Any, Any], Any]] = {
    "int8": ct.optimize.coreml.linear_quantize_weights,
    "int4": ct.optimize.coreml.linear_quantize_weights,
    "palette": ct.optimize.coreml.palettize_weights,
    "pruning": ct.optimize.coreml.prune_weights,
}


_SUFFIXES = ("quantized", "palettized", "sparsified")
"""What coremltools appends to a weight's name."""


def optimal_table(value: Array, *, bits: int) -> tuple[Array, Array]:
    """Return the table [2^bits] with the least squared error, and the indices of all weights (flat, uint8)."""
    levels, inverse, counts = np.unique(value, return_inverse=True, return_counts=True)
    found = ct._deps._kmeans1d.cluster(levels.astype(np.float64), min(len(levels), 2**bits), weights=counts)
    table = np.zeros(2**bits, value.dtype)
    table[: len(found.centroids)] = found.centroids
    return table, np.asarray(found.clusters, np.uint8)[inverse.reshape(-1)]


def even_table(value: Array, *, bits: int) -> tuple[Array, Array]:
    """Return an evenly spaced table and its indices: as large as the optimal one, in no time."""
    table = np.linspace(float(value.min()), float(value.max()), 2**bits)
    step = (table[-1] - table[0]) / (len(table) - 1) or 1.0
    indices = np.round((value.reshape(-1).astype(np.float64) - table[0]) / step)
    return table.astype(value.dtype), indices.clip(0, len(table) - 1).astype(np.uint8)


def pruning_threshold(value: Array, sparsity: float) -> float:
    """Return the magnitude up to which weights are removed so that at least this share goes (more only by ties)."""
    magnitudes = np.abs(value.astype(np.float32)).reshape(-1)
    last = math.ceil(sparsity * magnitudes.size) - 1
    return float(np.partition(magnitudes, last)[last])


def _verify(model: Any, layers: tuple[Layer, ...]) -> None:
    """RuntimeError when coremltools compressed other layers than asked."""
    program = model.get_spec().mlProgram.functions["main"]
    operations = program.block_specializations[program.opset].operations
    unpacked = {row.outputs[0].name for row in operations if row.type.startswith("constexpr_")}
    for layer in layers:
        done = not unpacked.isdisjoint(f"{layer.name}_{suffix}" for suffix in _SUFFIXES)
        if done != (layer.applied is not None):
            raise RuntimeError(f"coremltools {'compressed' if done else 'skipped'} {layer.name} {layer.shape}: {layer}")
