"""Which compressions exist: the schemes and the cells of bits × granularity that Core ML takes, with the oldest OS.

| scheme  | bits          | granularity    | iOS | what it is                                                    |
|---------|---------------|----------------|-----|---------------------------------------------------------------|
| fp32    | 32            | none           | 15  | single precision; not run by the Neural Engine                |
| fp16    | 16            | none           | 15  | half precision, the ML program's default                      |
| int8    | 8             | tensor channel | 16  | weight-only linear quantization                               |
| int4    | 4             | channel block  | 18  | weight-only linear quantization                               |
| palette | 8 6 4 2 1     | tensor         | 16  | k-means look-up table                                         |
| palette | 3             | tensor         | 18  | k-means look-up table                                         |
| palette | 8 6 4 3 2 1   | group          | 18  | one k-means table for each group of output channels           |
| pruning | 16            | none           | 16  | smallest magnitudes set to zero, stored sparsely              |
| w8a8    | 8             | channel        | 17  | int8 weights and activations, calibrated on training images   |

Source: Apple, Core ML Tools guide, "What's new in optimize" and "Optimization overview" (opt-whats-new,
opt-overview), and coremltools 9.0's own refusals. iOS N stands for the release family of that autumn: macOS N-3
up to iOS 18; watchOS and tvOS alike.

A compression is written `fp16`, `int8/channel`, `int4/block-32`, `palette-4/tensor`, `palette-3/group-16`,
`pruning-50` (percent of the weights set to zero) or `w8a8`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast, final, get_args

from coreml_pareto.spaces.candidate import Compression, Granularity, Scheme
from coreml_pareto.spaces.errors import UserError

CALIBRATION_IMAGES = 128
"""Training images that calibrate the activations of W8A8; Apple's guide uses 128 samples."""


@final
@dataclass(frozen=True)
class Cell:
    """One row of the table: a scheme at some bits and granularities, from one OS on."""

    scheme: Scheme
    bits: tuple[int, ...]
    granularities: tuple[Granularity, ...]
    minimum_os: int
    note: str


SCHEMES: tuple[Cell, ...] = (
    Cell("fp32", (32,), ("none",), 15, "single precision; not run by the Neural Engine"),
    Cell("fp16", (16,), ("none",), 15, "half precision, the ML program's default"),
    Cell("int8", (8,), ("tensor", "channel"), 16, "weight-only linear quantization"),
    Cell("int4", (4,), ("channel", "block"), 18, "weight-only linear quantization"),
    Cell("palette", (8, 6, 4, 2, 1), ("tensor",), 16, "k-means look-up table"),
    Cell("palette", (3,), ("tensor",), 18, "k-means look-up table"),
    Cell("palette", (8, 6, 4, 3, 2, 1), ("group",), 18, "one k-means table for each group of output channels"),
    Cell("pruning", (16,), ("none",), 16, "smallest magnitudes set to zero, stored sparsely"),
    Cell("w8a8", (8,), ("channel",), 17, "int8 weights and activations, calibrated on training images"),
)

_FORM = re.compile(r"(?P<scheme>[a-z][a-z0-9]*)(?:-(?P<number>\d+))?(?:/(?P<granularity>[a-z]+)(?:-(?P<size>\d+))?)?$")
_DEFAULT_GRANULARITY: dict[Scheme, Granularity] = {
    "int8": "channel", "int4": "channel", "palette": "tensor", "w8a8": "channel"
}  # fmt: skip


def cell_of(compression: Compression) -> Cell:
    """Return the table's row for a compression.

    Raises:
        UserError: the combination is not in the table; the message names the legal ones.
    """
    for cell in SCHEMES:
        legal = compression.bits in cell.bits and compression.granularity in cell.granularities
        if cell.scheme == compression.scheme and legal:
            return cell
    raise UserError(
        f"Core ML has no {compression.scheme} with {compression.bits} bits per {compression.granularity}; "
        f"legal for {compression.scheme}: {_legal_forms(compression.scheme)}."
    )


def minimum_os(compression: Compression) -> int:
    """Return the oldest iOS (16 stands for iOS 16 and macOS 13) that loads a package with this compression."""
    return cell_of(compression).minimum_os


def check(compression: Compression, *, os: int | None = None) -> Compression:
    """Return `compression` if it is a legal cell (and runs on iOS `os`), refuse it with the way out otherwise."""
    cell = cell_of(compression)
    grouped = compression.granularity in ("block", "group")
    if grouped != (compression.group_size > 0):
        raise UserError(
            f"A size goes with blocks and groups, and only with them; got {compression.scheme} per "
            f"{compression.granularity} with size {compression.group_size}: write e.g. int4/block-32 or palette-4/group-16."
        )
    if (compression.scheme == "pruning") != (compression.sparsity > 0):
        raise UserError(
            "Pruning needs a share of weights to remove, and nothing else takes one: write e.g. pruning-50."
        )
    if os is not None and cell.minimum_os > os:
        raise UserError(
            f"{spell(compression)} needs iOS {cell.minimum_os}, the study asks for iOS {os}: "
            f"set os: {cell.minimum_os} (--ios {cell.minimum_os}) or leave {spell(compression)} out."
        )
    return compression


def parse(text: str) -> Compression:
    """Read a compression as written in a study, e.g. `palette-4/group-16`.

    Raises:
        UserError: unknown scheme or illegal cell; the message lists what is legal.
    """
    match = _FORM.match(text.strip().lower())
    scheme = match["scheme"] if match else ""
    if match is None or scheme not in get_args(Scheme):
        raise UserError(f"No compression is called {text!r}; the schemes are: {', '.join(_spellings())}.")
    known = cast("Scheme", scheme)
    number = int(match["number"]) if match["number"] else None
    granularity = cast("Granularity", match["granularity"] or _DEFAULT_GRANULARITY.get(known, "none"))
    if number is None and known in ("palette", "pruning"):
        raise UserError(
            f"{known} needs a number, e.g. {'palette-4' if known == 'palette' else 'pruning-50'}; got {text!r}."
        )
    if number is not None and known not in ("palette", "pruning"):
        raise UserError(f"{known} takes no number after a dash; got {text!r}, write {_legal_forms(known)}.")
    return check(
        Compression(
            scheme=known,
            bits=number if known == "palette" and number is not None else _bits_of(known),
            granularity=granularity,
            group_size=int(match["size"] or 0),
            sparsity=_sparsity(number, text) if known == "pruning" else 0.0,
            calibration_images=CALIBRATION_IMAGES if known == "w8a8" else 0,
        )
    )


def spell(compression: Compression) -> str:
    """Write a compression so that `parse` reads it back."""
    scheme, granularity = compression.scheme, compression.granularity
    if scheme == "pruning":
        return f"pruning-{round(compression.sparsity * 100)}"
    head = f"palette-{compression.bits}" if scheme == "palette" else scheme
    if granularity == "none" or scheme == "w8a8":
        return head
    return f"{head}/{granularity}" + (f"-{compression.group_size}" if compression.group_size else "")


def every_compression(
    *, block: int = 32, group: int = 16, sparsities: tuple[int, ...] = (25, 50)
) -> tuple[Compression, ...]:
    """Return one compression for every legal cell, with these sizes of blocks and groups and percentages pruned."""
    found = []
    for cell in SCHEMES:
        if cell.scheme == "pruning":
            found += [parse(f"pruning-{percent}") for percent in sparsities]
            continue
        for bits in cell.bits:
            for granularity in cell.granularities:
                head = f"palette-{bits}" if cell.scheme == "palette" else cell.scheme
                size = {"block": f"-{block}", "group": f"-{group}"}.get(granularity, "")
                found.append(parse(head if granularity == "none" else f"{head}/{granularity}{size}"))
    return tuple(found)


def _bits_of(scheme: Scheme) -> int:
    return next(cell.bits[0] for cell in SCHEMES if cell.scheme == scheme)


def _sparsity(percent: int | None, text: str) -> float:
    if percent is None or not 1 <= percent <= 99:
        raise UserError(f"Pruning removes 1 to 99 percent of the weights; got {text!r}: write e.g. pruning-50.")
    return percent / 100


def _spellings() -> tuple[str, ...]:
    return tuple(dict.fromkeys(spell(c) for c in every_compression()))


def _legal_forms(scheme: str) -> str:
    return ", ".join(form for form in _spellings() if form.split("/")[0].split("-")[0] == scheme)
