"""How are a converted program's weights stored in fewer bits? Layer by layer, with a record of what was done to each.

Each layer is decided by a rule that looks at shapes only, so a probe from random weights is decided like the trained
network. coremltools skips layers without telling (weights of at most 2,048 elements by default, channels that a block
or group does not divide); here

- the weights of convolutions and linear layers are considered; biases and batch norms stay as they are;
- blocks run along the input channels, groups along the output channels; one that does not divide the layer's channels
  is replaced by the largest divisor below it;
- a layer that would not get smaller, tables, scales, masks and the unpacking operation counted, stays as it is.

What is done is written by `rewrite` and `forms`; the numbers come from coremltools' own linear quantization, from
`palettes`, and from magnitudes. Two defects of coremltools 9.0 do not arise: `enable_per_channel_scale` corrupts layers
that are skipped (apple/coremltools, pull request 2777), and magnitude pruning computes its percentile in fp16, which
loses the threshold of weights beyond 65,504 elements.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.program import Constant, Program, load
from coreml_pareto.objectives.program.quiet import coremltools as ct
from coreml_pareto.objectives.program.record import LAYERS, LEFT, LOSSLESS
from coreml_pareto.objectives.program.record import heavy_weights as readers_of_weights
from coreml_pareto.search.stages.forms import Form, Palette, Quantized, Sparse, SparsePalette, builtin
from coreml_pareto.search.stages.palettes import kmeans_tables, uniform_tables
from coreml_pareto.search.stages.rewrite import Source, rewrite
from coreml_pareto.spaces.candidate import Compression, Scheme
from coreml_pareto.spaces.compression import check, minimum_os, parse, spell

Array = NDArray[Any]
Weights = Mapping[str, Array]
Plan = Mapping[str, Compression]
"""What is done to which weight, by name; to one that is not named nothing."""

UNPACKING = 400
"""Bytes that a layer must save beyond its numbers: the operation that unpacks it, headers and padding of the arrays that
this reads take 114 (int8, one scale) to 347 bytes (int8 with scales and offsets per channel) on the mean of the 38 to 48
compressed layers of an EfficientNet-Lite0 for iOS 16; what is above that is a margin."""


@final
@dataclass(frozen=True)
class Layer:
    """What happened to one weight: as asked, adapted to its shape, or left alone; `reason` is empty when as asked.

    Attributes:
        name: of the weight in the program.
        shape: [output channels, input channels (per group), ...].
        asked: the compression that was asked for, as `spaces.compression.spell` writes it; of mixed precision the form that
            was chosen for this layer.
        applied: what was done; None: the weight stays as it was.
        reason: why not as asked.
        snr_db: signal-to-noise ratio of the stored weight, dB; infinite where nothing was lost.
    """

    name: str
    shape: tuple[int, ...]
    asked: str
    applied: str | None
    reason: str = ""
    snr_db: float = math.inf


def compress(
    source: Path | Source,
    target: Path,
    compression: Compression,
    metadata: Mapping[str, str] | None = None,
    *,
    plan: Plan | None = None,
    probe: bool = False,
) -> tuple[Layer, ...]:
    """Write the saved fp16 package `source` as `target` with compressed weights; fp32 and fp16 pass through.

    Args:
        source: converted for the compression's minimum OS at least; read already where it has several compressions.
        metadata: added to the package's own.
        plan: what is done to which layer, of mixed precision.
        probe: only the size will be read: palettes are drawn evenly instead of optimally, at the same size.

    Raises:
        UserError: no legal cell of the table of compressions.
        ValueError: W8A8, which is made in torch before the conversion, a program for a too old system, or mixed precision
            without a plan.
    """
    check(compression)
    if compression.scheme == "w8a8":
        raise ValueError("w8a8 is no compression of a converted program.")
    if (compression.scheme == "mixed") != (plan is not None):
        raise ValueError(f"Mixed precision, and nothing else, has a plan; got {spell(compression)}.")
    read = source if isinstance(source, Source) else Source.read(source)
    layers: tuple[Layer, ...] = ()
    forms: dict[str, Form] = {}
    if compression.scheme not in ("fp32", "fp16"):
        _check_release(read.program, compression)
        weights = heavy_weights(read.program)
        layers = decided(weights, compression, plan)
        forms = forms_of(weights, layers, probe=probe)
        layers = tuple(with_noise(layer, weights[layer.name], forms.get(layer.name)) for layer in layers)
    shutil.rmtree(target, ignore_errors=True)  # what a killed attempt left
    rewrite(read, target, forms, {**(metadata or {}), **record_of(spell(compression), layers)})
    load(target)
    return layers


def _check_release(program: Program, compression: Compression) -> None:
    have, need = int(program.minimum_os.removeprefix("iOS")), minimum_os(compression)
    if have < need:
        raise ValueError(f"{spell(compression)} needs a program for iOS {need}, {program.path} is for iOS {have}.")


def heavy_weights(program: Program) -> dict[str, Array]:
    """The weights of convolutions and linear layers by name."""
    found = {name: operation.one("weight") for name, operation in readers_of_weights(program).items()}
    return {name: weight.value for name, weight in found.items() if isinstance(weight, Constant)}


def decided(weights: Mapping[str, Array], compression: Compression, plan: Plan | None = None) -> tuple[Layer, ...]:
    """What is done to each weight; of mixed precision what `plan` says, and nothing where it is silent."""
    if plan is None:
        return tuple(_decided(name, value, compression) for name, value in weights.items())
    return tuple(_planned(name, value, plan.get(name)) for name, value in weights.items())


def _decided(name: str, value: Array, compression: Compression) -> Layer:
    if value.dtype != np.float16:  # coremltools leaves a layer in fp32 whose weights exceed fp16's range
        return Layer(name, value.shape, spell(compression), None, f"{value.dtype}: only fp16 weights are compressed")
    return decide(name, value.shape, compression)


def _planned(name: str, value: Array, chosen: Compression | None) -> Layer:
    return Layer(name, value.shape, LEFT, None) if chosen is None else _decided(name, value, chosen)


def decide(name: str, shape: tuple[int, ...], compression: Compression) -> Layer:
    """Decide by a weight's shape what is done to it."""
    asked = spell(compression)
    row = partial(Layer, name, shape, asked)
    size = _fitting(shape, compression)
    applied = compression.model_copy(update={"group_size": size})
    saved = 2 * math.prod(shape) - stored_bits(shape, applied) / 8 - UNPACKING
    if saved <= 0:
        return row(None, f"{math.prod(shape)} elements: {spell(applied)} would not make it smaller")
    if size == compression.group_size:
        return row(asked)
    channels = _channels(shape, compression)
    return row(spell(applied), f"{channels} channels are no multiple of {compression.group_size}")


def stored_bits(shape: tuple[int, ...], compression: Compression) -> float:
    """Bits of indices, tables, scales and masks of one fp16 weight under a compression."""
    elements, outputs = math.prod(shape), shape[0]
    if compression.scheme == "pruning":
        return elements + 16 * _kept_elements(shape, compression)
    size = max(compression.group_size, 1)
    parts = {"tensor": 1, "channel": outputs, "group": outputs // size, "block": outputs * shape[1] // size}
    entries = 2**compression.bits if compression.scheme in ("palette", "joint") else 1
    offset = compression.bits if compression.mode == "asymmetric" else 0
    mask = elements if compression.scheme == "joint" else 0
    kept = elements * (1 - compression.sparsity)
    return mask + kept * compression.bits + parts[compression.granularity] * (entries * 16 + offset)


def _kept_elements(shape: tuple[int, ...], compression: Compression) -> float:
    """How many weights pruning leaves; a last group of fewer channels than m loses as many less."""
    elements, group = math.prod(shape), compression.group_size
    if not group:
        return elements * (1 - compression.sparsity)
    left = group - round(compression.sparsity * group)
    whole, rest = divmod(shape[1], group)
    return elements // shape[1] * (whole * left + min(rest, left))


def record_of(asked: str, layers: Sequence[Layer]) -> dict[str, str]:
    """The record that a package carries: what was asked, what was done otherwise and why, and the noise in dB.

    Of mixed precision also which form was chosen for which layers, by their places. Noise has the same width whatever it
    is, so that a probe's package has the bytes of the trained one's.
    """
    if not layers:
        return {}
    others = {row.name: [row.applied, row.reason] for row in layers if row.asked not in (row.applied, LEFT)}
    noise = " ".join(f"{min(row.snr_db, LOSSLESS):5.1f}" for row in layers if row.applied)
    content: dict[str, object] = {"asked": asked, "otherwise": others, "snr_db": noise}
    if any(row.asked != asked for row in layers):
        forms: dict[str, list[str]] = {}
        for place, row in enumerate(layers):
            forms.setdefault(row.asked, []).append(str(place))
        content["forms"] = {form: " ".join(places) for form, places in forms.items() if form != LEFT}
    return {LAYERS: json.dumps(content, separators=(",", ":"))}


def _channels(shape: tuple[int, ...], compression: Compression) -> int:
    """The channels that blocks (input) or groups (output) divide."""
    return shape[1] if compression.granularity == "block" else shape[0]


def _fitting(shape: tuple[int, ...], compression: Compression) -> int:
    """The largest block or group up to the asked one that divides the channels; 0 where there is none to fit.

    The pattern of n:m sparsity fits every layer: the last channels are filled up.
    """
    if compression.scheme == "pruning":
        return compression.group_size
    channels = _channels(shape, compression)
    return max((size for size in range(1, compression.group_size + 1) if channels % size == 0), default=0)


def with_noise(layer: Layer, value: Array, form: Form | None) -> Layer:
    """The layer with the noise that its form adds to the weight."""
    return layer if form is None else replace(layer, snr_db=signal_to_noise(value, form.decoded()))


def signal_to_noise(value: Array, stored: Array) -> float:
    """Ratio of the power of a signal to that of its error, in dB."""
    exact = value.astype(np.float64)
    noise = float(((exact - stored) ** 2).sum())
    signal = float((exact**2).sum())
    return 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else math.inf


def forms_of(weights: Mapping[str, Array], layers: Iterable[Layer], *, probe: bool = False) -> dict[str, Form]:
    """The stored form of every weight that something is done to; tables of one kind are found side by side."""
    together: dict[Compression, dict[str, Array]] = {}
    for layer in layers:
        if layer.applied:
            together.setdefault(parse(layer.applied), {})[layer.name] = weights[layer.name]
    found: dict[str, Form] = {}
    for compression, own in together.items():
        found |= _STORED[compression.scheme](own, compression, probe)
    return found


def _quantized(weights: Weights, compression: Compression, probe: bool) -> dict[str, Form]:
    asymmetric = compression.mode == "asymmetric"
    kind = f"{'u' if asymmetric else ''}int{compression.bits}"
    mode = "LINEAR" if asymmetric else "LINEAR_SYMMETRIC"
    found: dict[str, Form] = {}
    for name, value in weights.items():
        sizes = {"tensor": [0, 0], "channel": [1, 0], "block": [1, compression.group_size]}[compression.granularity]
        sizes += [0] * (value.ndim - 2)
        found[name] = _linear(value, kind, mode, sizes)
    return found


def _linear(value: Array, kind: str, mode: str, sizes: list[int]) -> Quantized:
    """coremltools' own arithmetic, which is that of the weight's type: beyond 256 its products leave fp16."""
    exact = value.astype(np.float32) if np.abs(value).max() > 256 else value
    with np.errstate(divide="ignore", invalid="ignore"):  # a dead channel, or one below fp16's smallest scale
        data, scale, offset = _UTILS.compute_qparams_by_dtype(exact, builtin(kind), mode, sizes)
    plain = np.dtype("uint8" if kind.startswith("u") else "int8")
    scale, dead = scale.astype(np.float16), scale.astype(np.float16) == 0
    shape = np.array(value.shape) // np.array(scale.shape)
    data = np.where(np.kron(dead, np.ones(shape, bool)), 0, data).astype(plain)
    offset = None if offset is None else np.where(dead, 0, offset).astype(plain)
    return Quantized(data, np.where(dead, np.finfo(np.float16).tiny, scale).astype(np.float16), offset, kind)


def _palettized(weights: Weights, compression: Compression, probe: bool) -> dict[str, Form]:
    """Tables of all layers and groups are found side by side."""
    parts = {name: _parts(value, compression) for name, value in weights.items()}
    make = uniform_tables if probe or compression.mode == "uniform" else kmeans_tables
    tables = iter(make([part for rows in parts.values() for part in rows], compression.bits))
    found: dict[str, Form] = {}
    for name, rows in parts.items():
        own = [next(tables) for _ in rows]
        indices = np.concatenate([indices for _, indices in own]).reshape(weights[name].shape)
        found[name] = Palette(indices, np.stack([table for table, _ in own]), compression.bits)
    return found


def _parts(value: Array, compression: Compression) -> Array:
    """The weight as [tables, elements of each]."""
    size = compression.group_size
    return value.reshape(value.shape[0] // size if size else 1, -1)


def _pruned(weights: Weights, compression: Compression, probe: bool) -> dict[str, Form]:
    return {name: Sparse(np.where(kept(value, compression), value, 0)) for name, value in weights.items()}


def _joint(weights: Weights, compression: Compression, probe: bool) -> dict[str, Form]:
    """Pruned first; the table is that of what is left."""
    masks = {name: kept(value, compression) for name, value in weights.items()}
    left = {name: value[masks[name]] for name, value in weights.items()}
    make = uniform_tables if probe else kmeans_tables
    tables = make(list(left.values()), compression.bits)
    found: dict[str, Form] = {}
    for (name, mask), (table, indices) in zip(masks.items(), tables, strict=True):
        spread = np.zeros(mask.shape, np.uint8)
        spread[mask] = indices
        found[name] = SparsePalette(mask, Palette(spread, table[None], compression.bits))
    return found


def kept(value: Array, compression: Compression) -> Array:
    """Which weights stay: all above the threshold, or the largest m − n of every m along the input channels."""
    if compression.group_size:
        return _kept_in_groups(value, compression.group_size, round(compression.sparsity * compression.group_size))
    mask: Array = np.abs(value) > np.float16(pruning_threshold(value, compression.sparsity))
    if not mask.any():  # all are equal: one stays, a table of nothing is none
        mask.reshape(-1)[0] = True
    return mask


def _kept_in_groups(value: Array, group: int, removed: int) -> Array:
    rows = np.moveaxis(np.abs(value.astype(np.float32)), 1, -1)  # numpy sorts fp16 wrongly: see palettes
    short = -rows.shape[-1] % group
    filled = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, short)], constant_values=-1)
    groups = filled.reshape(-1, group)
    mask = np.ones(groups.shape, bool)
    np.put_along_axis(mask, groups.argsort(1, kind="stable")[:, :removed], False, 1)
    kept_there: Array = np.moveaxis(mask.reshape(filled.shape)[..., : rows.shape[-1]], -1, 1) & (value != 0)
    return kept_there


def pruning_threshold(value: Array, sparsity: float) -> float:
    """Return the magnitude up to which weights are removed so that at least this share goes (more only by ties)."""
    magnitudes = np.abs(value.astype(np.float32)).reshape(-1)
    last = math.ceil(sparsity * magnitudes.size) - 1
    return float(np.partition(magnitudes, last)[last])


_UTILS = ct.optimize._utils

_STORED: Mapping[Scheme, Callable[[Weights, Compression, bool], dict[str, Form]]] = {
    "int8": _quantized,
    "int4": _quantized,
    "palette": _palettized,
    "pruning": _pruned,
    "joint": _joint,
}
