"""What would a weight be, stored in fewer bits?  The stored forms as functions of torch tensors, for training under them.

Each takes a weight and returns what the package would hold of it, with the arithmetic of `compress` (coremltools' linear
quantization in fp16, nearest table entries, thresholds of magnitudes); the tests hold the two against each other. What
costs time, or is to change slowly, happens once a step in `follow`: tables move to the means of their weights by one
step of Lloyd's iteration (from `kmeans_tables` on), masks follow the magnitudes.

Pruning removes little by little: Zhu & Gupta 2017 (arXiv:1710.01878, equation 1), from no sparsity at the first step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from coreml_pareto.search.stages.palettes import kmeans_tables
from coreml_pareto.spaces.candidate import Compression

RAMP = 0.5
"""Share of the steps over which sparsity rises."""

WIDE = 256.0
"""Magnitude from which on `compress` computes in fp32: products leave fp16."""


class Projection(nn.Module, ABC):
    """A stored form; its buffers follow the weight that is trained."""

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor:
        """Return what is stored of a weight: fp16 values as fp32. No gradient passes."""

    def follow(self, weight: Tensor, done: float) -> None:
        """Adapt to the weight after this share of the training."""


def projection(weight: Tensor, compression: Compression) -> Projection:
    """Return the form of a weight under a compression whose block or group divides its channels.

    Raises:
        ValueError: a compression that is none of single weights.
    """
    parts = _parts(tuple(weight.shape), compression)
    match compression.scheme:
        case "int8" | "int4":
            return Integers(parts, compression.bits, compression.mode == "asymmetric")
        case "palette" if compression.mode == "uniform":
            return Even(parts, compression.bits)
        case "palette":
            return Palettes(weight, parts, compression.bits)
        case "pruning":
            return Pruned(weight, compression)
        case "joint":
            return PrunedPalette(weight, compression)
    raise ValueError(f"{compression.scheme} is no form of a single weight.")


def _parts(shape: tuple[int, ...], compression: Compression) -> int:
    """How many scales or tables a weight has: as rows [parts, -1], blocks and groups lie one after the other."""
    outputs, size = shape[0], max(1, compression.group_size)
    counts = {"channel": outputs, "group": outputs // size, "block": math.prod(shape[:2]) // size}
    return counts.get(compression.granularity, 1)


def sparsity_at(done: float, target: float) -> float:
    """Return the sparsity after this share of the training: s + (0 - s)·(1 - t)³, t = 1 at the end of the ramp."""
    return target * (1 - (1 - min(1.0, done / RAMP)) ** 3)


@final
class Integers(Projection):
    """scale · (integer - offset), a scale for each row: coremltools' `quantize_weight_by_dtype`, in the weight's type."""

    def __init__(self, parts: int, bits: int, asymmetric: bool) -> None:
        super().__init__()
        self.parts, self.bits, self.asymmetric = parts, bits, asymmetric

    def forward(self, weight: Tensor) -> Tensor:
        """Quantise and decode."""
        rows = weight.reshape(self.parts, -1).half()
        exact = rows.float() if bool(rows.abs().max() > WIDE) else rows
        scale, offset, low, high = self._ranges(exact)
        stored = scale.half().float()
        data = ((exact / scale).round() + offset).clamp(low, high).float() - offset.float()
        return torch.where(stored == 0, 0.0, data * stored).half().float().reshape(weight.shape)

    def _ranges(self, rows: Tensor) -> tuple[Tensor, Tensor, int, int]:
        """Scale, offset and the bounds of the integers."""
        if self.asymmetric:
            last = 2**self.bits - 1
            low, high = rows.amin(1, keepdim=True).clamp(max=0), rows.amax(1, keepdim=True).clamp(min=0)
            offset = (last * low / (low - high)).round().clamp(0, last)
            return (high - low) / last, offset, 0, last
        last = 2 ** (self.bits - 1) - 1
        most = rows.abs().amax(1, keepdim=True)
        return (most + most) / (2 * last), torch.zeros_like(most), -last, last


class _Tables(Projection):
    """The entry nearest to each weight, of a table [entries], ascending, for each row."""

    def __init__(self, parts: int, bits: int) -> None:
        super().__init__()
        self.parts, self.entries = parts, 2**bits

    @abstractmethod
    def tables_for(self, rows: Tensor) -> Tensor:
        """Return the tables [parts, entries], ascending."""

    def forward(self, weight: Tensor) -> Tensor:
        """Look up."""
        rows = weight.reshape(self.parts, -1).half().float()
        tables = self.tables_for(rows).half().float()
        return tables.gather(1, nearest(rows, tables)).reshape(weight.shape)


def nearest(rows: Tensor, tables: Tensor) -> Tensor:
    """Return the indices of the entries nearest to each weight; of two as near, the lower."""
    return torch.searchsorted(((tables[:, 1:] + tables[:, :-1]) / 2).contiguous(), rows.contiguous())


@final
class Even(_Tables):
    """Entries evenly spaced from the least weight to the greatest."""

    def tables_for(self, rows: Tensor) -> Tensor:
        """Space them for these weights."""
        steps = torch.linspace(0, 1, self.entries, device=rows.device)
        return torch.lerp(rows.amin(1, keepdim=True), rows.amax(1, keepdim=True), steps)


@final
class Palettes(_Tables):
    """Entries found by k-means, then the means of the weights that they stand for."""

    tables: Tensor

    def __init__(self, weight: Tensor, parts: int, bits: int, kept: Tensor | None = None) -> None:
        super().__init__(parts, bits)
        self.register_buffer("tables", self._clustered(weight, kept, bits))

    def _clustered(self, weight: Tensor, kept: Tensor | None, bits: int) -> Tensor:
        there = weight if kept is None else weight[kept]
        rows = there.detach().cpu().half().reshape(self.parts, -1).numpy()
        tables = []
        for row, (table, indices) in zip(rows, kmeans_tables(list(rows), bits), strict=True):
            used = np.sort(table[: int(indices.max()) + 1]) if len(row) else np.zeros(1, np.float16)
            tables.append(np.pad(used, (0, self.entries - len(used)), mode="edge"))
        return torch.from_numpy(np.stack(tables)).float().to(weight.device)

    def tables_for(self, rows: Tensor) -> Tensor:
        """Those that were last followed."""
        return self.tables

    def follow(self, weight: Tensor, done: float, kept: Tensor | None = None) -> None:
        """Move every entry to the mean of its weights; one that stands for none stays."""
        rows = weight.reshape(self.parts, -1)
        there = torch.ones_like(rows) if kept is None else kept.reshape(self.parts, -1).to(rows.dtype)
        indices = nearest(rows, self.tables)
        counts, sums = (torch.zeros_like(self.tables).scatter_add_(1, indices, part) for part in (there, rows * there))
        means = torch.where(counts > 0, sums / counts.clamp(min=1), self.tables)
        self.tables.copy_(means.sort(dim=1).values)


class _Masked(Projection):
    """Zero outside a mask."""

    mask: Tensor

    def __init__(self, weight: Tensor, compression: Compression) -> None:
        super().__init__()
        self.compression = compression
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))

    def follow(self, weight: Tensor, done: float) -> None:
        """Remove the smallest magnitudes, as many as are due."""
        self.mask.copy_(self.kept(weight, sparsity_at(done, self.compression.sparsity)))

    def kept(self, weight: Tensor, sparsity: float) -> Tensor:
        """Which weights stay: all above the threshold, or the largest of every m along the input channels."""
        magnitudes, group = weight.half().float().abs(), self.compression.group_size
        if group:
            return _kept_in_groups(magnitudes, group, round(sparsity * group))
        removed = math.ceil(sparsity * magnitudes.numel())
        if not removed:
            return torch.ones_like(magnitudes, dtype=torch.bool)
        return magnitudes > _smallest(magnitudes.reshape(-1), removed)


def _smallest(values: Tensor, count: int) -> Tensor:
    """The `count`-th smallest: selected on a CPU; on GPUs, which do not all know how, sorting costs little."""
    return values.kthvalue(count).values if values.device.type == "cpu" else values.sort().values[count - 1]


def _kept_in_groups(magnitudes: Tensor, group: int, removed: int) -> Tensor:
    rows = magnitudes.movedim(1, -1)
    filled = functional.pad(rows, (0, -rows.shape[-1] % group), value=-1.0)
    groups = filled.reshape(-1, group)
    smallest = groups.argsort(dim=1, stable=True)[:, :removed]
    mask = torch.ones_like(groups, dtype=torch.bool).scatter_(1, smallest, False)
    return mask.reshape(filled.shape)[..., : rows.shape[-1]].movedim(-1, 1)


@final
class Pruned(_Masked):
    """What is left stays as it is."""

    def forward(self, weight: Tensor) -> Tensor:
        """Remove."""
        return torch.where(self.mask, weight.half().float(), 0.0)


@final
class PrunedPalette(_Masked):
    """What is left is looked up in one table, found for what is left in the end."""

    def __init__(self, weight: Tensor, compression: Compression) -> None:
        super().__init__(weight, compression)
        self.palette = Palettes(weight, 1, compression.bits, self.kept(weight, compression.sparsity))

    def forward(self, weight: Tensor) -> Tensor:
        """Remove, and look up the rest."""
        looked_up: Tensor = self.palette(weight)
        return torch.where(self.mask, looked_up, 0.0)

    def follow(self, weight: Tensor, done: float) -> None:
        """Remove first; the table is that of what is left."""
        super().follow(weight, done)
        self.palette.follow(weight, done, self.mask)
