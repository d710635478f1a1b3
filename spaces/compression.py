"""Which compressions exist: the schemes and the cells of bits × granularity that Core ML takes, with the oldest OS.

| scheme  | bits          | granularity    | mode               | iOS | what it is                                      |
|---------|---------------|----------------|--------------------|-----|-------------------------------------------------|
| fp32    | 32            | none           | usual              | 15  | single precision; not run by the Neural Engine  |
| fp16    | 16            | none           | usual              | 15  | half precision, the ML program's default        |
| int8    | 8             | tensor channel | usual asymmetric   | 16  | weight-only linear quantization                 |
| int8    | 8             | block          | usual asymmetric   | 18  | weight-only linear quantization                 |
| int4    | 4             | channel block  | usual asymmetric   | 18  | weight-only linear quantization                 |
| palette | 8 6 4 2 1     | tensor         | usual uniform      | 16  | look-up table                                   |
| palette | 3             | tensor         | usual uniform      | 18  | look-up table                                   |
| palette | 8 6 4 3 2 1   | group          | usual uniform      | 18  | one table for each group of output channels     |
| pruning | 16            | none block     | usual              | 16  | smallest magnitudes set to zero, stored sparsely|
| joint   | 8 6 4 3 2 1   | tensor         | usual              | 18  | pruned, and a look-up table for what is left    |
| mixed   | 16            | tensor         | usual              | 16  | a form for each layer, by its sensitivity       |
| mixed   | 16            | group          | usual              | 18  | a form for each layer, by its sensitivity       |
| w8a8    | 8             | channel        | usual              | 17  | int8 weights and activations, calibrated        |

Usual are symmetric integers and tables found by k-means; asymmetric integers have an offset, uniform tables are evenly
spaced (the same bytes as k-means at a larger error: to compare with). Pruning by blocks is n:m sparsity: of every m
weights along the input channels the n smallest are removed. Mixed precision spends a number of bits or bytes where the
network's answers need them: per tensor from the forms that iOS 16 knows, per group from those of iOS 18 as well.

Source: Apple, Core ML Tools guide, "What's new in optimize" and "Optimization overview" (opt-whats-new,
opt-overview), and coremltools 9.0's own refusals. iOS N stands for the release family of that autumn: macOS N-3
up to iOS 18; watchOS and tvOS alike.

A compression is written `fp16`, `int8/channel`, `int8/channel/asymmetric`, `int4/block-32`, `palette-4/tensor`,
`palette-3/group-16`, `palette-4/tensor/uniform`, `pruning-50` (percent of the weights set to zero), `pruning-2:4`,
`pruning-50+palette-4`, `mixed-4` (bits per weight on the average), `mixed-4.5/group-16`, `mixed-500KB` (of the whole
package) or `w8a8`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import cast, final, get_args

from coreml_pareto.spaces.candidate import Compression, Granularity, Mode, Scheme
from coreml_pareto.spaces.errors import UserError

CALIBRATION_IMAGES = 128
"""Training images that calibrate the activations of W8A8; Apple's guide uses 128 samples."""

UNCOMPRESSED: frozenset[Scheme] = frozenset({"fp32", "fp16"})
"""The schemes that leave the weights as the conversion made them: nothing to fine-tune for."""


@final
@dataclass(frozen=True)
class Cell:
    """One row of the table: a scheme at some bits and granularities, from one OS on."""

    scheme: Scheme
    bits: tuple[int, ...]
    granularities: tuple[Granularity, ...]
    minimum_os: int
    note: str
    modes: tuple[Mode, ...] = ("usual",)


_LINEAR: tuple[Mode, ...] = ("usual", "asymmetric")
_TABLES: tuple[Mode, ...] = ("usual", "uniform")
SCHEMES: tuple[Cell, ...] = (
    Cell("fp32", (32,), ("none",), 15, "single precision; not run by the Neural Engine"),
    Cell("fp16", (16,), ("none",), 15, "half precision, the ML program's default"),
    Cell("int8", (8,), ("tensor", "channel"), 16, "weight-only linear quantization", _LINEAR),
    Cell("int8", (8,), ("block",), 18, "weight-only linear quantization", _LINEAR),
    Cell("int4", (4,), ("channel", "block"), 18, "weight-only linear quantization", _LINEAR),
    Cell("palette", (8, 6, 4, 2, 1), ("tensor",), 16, "look-up table", _TABLES),
    Cell("palette", (3,), ("tensor",), 18, "look-up table", _TABLES),
    Cell("palette", (8, 6, 4, 3, 2, 1), ("group",), 18, "one table for each group of output channels", _TABLES),
    Cell("pruning", (16,), ("none", "block"), 16, "smallest magnitudes set to zero, stored sparsely"),
    Cell("joint", (8, 6, 4, 3, 2, 1), ("tensor",), 18, "pruned, and a look-up table for what is left"),
    Cell("mixed", (16,), ("tensor",), 16, "a form for each layer, by its sensitivity"),
    Cell("mixed", (16,), ("group",), 18, "a form for each layer, by its sensitivity"),
    Cell("w8a8", (8,), ("channel",), 17, "int8 weights and activations, calibrated"),
)

_FORM = re.compile(
    r"(?P<scheme>[a-z][a-z0-9]*)(?:-(?P<number>\d+)(?::(?P<of>\d+))?)?(?:/(?P<granularity>[a-z]+)(?:-(?P<size>\d+))?)?"
    r"(?:/(?P<mode>[a-z]+))?$"
)
_JOINT = re.compile(r"pruning-(?P<percent>\d+)\+palette-(?P<bits>\d+)(?:/tensor)?$")
_MIXED = re.compile(
    r"mixed-(?P<amount>\d+(?:\.\d+)?)(?P<unit>kb|mb)?(?:/(?P<granularity>tensor|group)(?:-(?P<size>\d+))?)?$"
)
_UNITS = {"kb": 10**3, "mb": 10**6}
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
        if cell.scheme == compression.scheme and legal and compression.mode in cell.modes:
            return cell
    mode = "" if compression.mode == "usual" else f"{compression.mode} "
    raise UserError(
        f"Core ML has no {mode}{compression.scheme} with {compression.bits} bits per {compression.granularity}; "
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
    if (compression.scheme in ("pruning", "joint")) != (compression.sparsity > 0):
        raise UserError(
            "Pruning needs a share of weights to remove, and nothing else takes one: write e.g. pruning-50."
        )
    if compression.scheme == "mixed":
        _check_budget(compression)
    if os is not None and cell.minimum_os > os:
        raise UserError(
            f"{spell(compression)} needs iOS {cell.minimum_os}, the study asks for iOS {os}: "
            f"set os: {cell.minimum_os} (--ios {cell.minimum_os}) or leave {spell(compression)} out."
        )
    return compression


def _check_budget(compression: Compression) -> None:
    bits, size = compression.average_bits, compression.target_bytes
    if bool(bits) == bool(size) or (bits and not 1 <= bits <= 16):
        raise UserError(
            f"Mixed precision spends 1 to 16 bits per weight, or the bytes of a package, one of the two; got {bits:g} bits "
            f"and {size} bytes: write e.g. mixed-4 or mixed-500KB."
        )


def parse(text: str) -> Compression:
    """Read a compression as written in a study, e.g. `palette-4/group-16`.

    Raises:
        UserError: unknown scheme or illegal cell; the message lists what is legal.
    """
    plain = text.strip().lower()
    if joint := _JOINT.match(plain):
        return check(_joint(int(joint["percent"]), int(joint["bits"]), text))
    if mixed := _MIXED.match(plain):
        return check(_mixed(mixed))
    match = _FORM.match(plain)
    scheme = match["scheme"] if match else ""
    place = match["granularity"] if match else None
    if (
        match is None
        or scheme not in get_args(Scheme)
        or scheme == "joint"
        or place not in (None, *get_args(Granularity))
    ):
        schemes = ", ".join(_spellings())
        raise UserError(f"No compression is called {text!r}{_nearest(plain)}; the schemes are: {schemes}.")
    known = cast("Scheme", scheme)
    number = int(match["number"]) if match["number"] else None
    if known == "pruning":
        return check(_pruning(match, number, text))
    if known == "mixed":
        raise UserError(
            f"mixed takes bits per weight or a size, and groups or nothing; got {text!r}: write e.g. mixed-4, mixed-500KB or "
            "mixed-4/group-16."
        )
    if number is None and known == "palette":
        raise UserError(f"palette needs a number, e.g. palette-4; got {text!r}.")
    if (number is not None and known != "palette") or match["of"]:
        raise UserError(f"{known} takes no number after a dash; got {text!r}, write {_legal_forms(known)}.")
    return check(
        Compression(
            scheme=known,
            bits=_bits_of(known) if number is None else number,
            granularity=cast("Granularity", place or _DEFAULT_GRANULARITY.get(known, "none")),
            mode=_mode(match["mode"], text),
            group_size=int(match["size"] or 0),
            calibration_images=CALIBRATION_IMAGES if known == "w8a8" else 0,
        )
    )


def _mode(word: str | None, text: str) -> Mode:
    if word is None:
        return "usual"
    if word not in get_args(Mode) or word == "usual":
        raise UserError(f"After the granularity stands asymmetric, uniform or nothing; got {text!r}.")
    return cast("Mode", word)


def _pruning(match: re.Match[str], number: int | None, text: str) -> Compression:
    """`pruning-50` or `pruning-2:4`."""
    if match["granularity"] or match["mode"]:
        raise UserError(f"Pruning has no granularity; got {text!r}: write e.g. pruning-50 or pruning-2:4.")
    if match["of"] is None:
        return Compression(scheme="pruning", bits=16, sparsity=_sparsity(number, text))
    group = int(match["of"])
    if number is None or not 1 <= number < group <= 64:
        raise UserError(f"n:m pruning removes n of every m weights, 1 <= n < m <= 64; got {text!r}: write pruning-2:4.")
    return Compression(scheme="pruning", bits=16, granularity="block", group_size=group, sparsity=number / group)


def _joint(percent: int, bits: int, text: str) -> Compression:
    return Compression(scheme="joint", bits=bits, granularity="tensor", sparsity=_sparsity(percent, text))


def _mixed(match: re.Match[str]) -> Compression:
    """`mixed-4`, `mixed-500KB`, `mixed-4/group-16`."""
    amount, unit = match["amount"], match["unit"]
    spent = {"target_bytes": round(Decimal(amount) * _UNITS[unit])} if unit else {"average_bits": float(amount)}
    return Compression.model_validate(
        {
            "scheme": "mixed",
            "granularity": match["granularity"] or "tensor",
            "group_size": int(match["size"] or 0),
            **spent,
        }
    )


def describe(compression: Compression) -> str:
    """Write a compression for people: as in a study, and how it was calibrated and fine-tuned where that is a choice."""
    told = [spell(compression)]
    if compression.scheme == "w8a8" and compression.calibration_images:
        told.append(f"{compression.calibration} of {compression.calibration_images} images")
    if compression.fine_tune_epochs:
        told.append(f"fine-tuned {compression.fine_tune_epochs} epoch{'s' if compression.fine_tune_epochs > 1 else ''}")
    return ", ".join(told)


def _spell_mixed(compression: Compression) -> str:
    size = Decimal(compression.target_bytes)
    unit = "mb" if size >= _UNITS["mb"] else "kb"
    amount = f"{(size / _UNITS[unit]).normalize():f}{unit.upper()}" if size else f"{compression.average_bits:g}"
    group = f"/group-{compression.group_size}" if compression.granularity == "group" else ""
    return f"mixed-{amount}{group}"


def spell(compression: Compression) -> str:
    """Write a compression so that `parse` reads it back; calibration and fine-tuning are knobs of their own."""
    scheme, granularity = compression.scheme, compression.granularity
    percent = round(compression.sparsity * 100)
    if scheme == "pruning" and compression.group_size:
        return f"pruning-{round(compression.sparsity * compression.group_size)}:{compression.group_size}"
    if scheme == "pruning":
        return f"pruning-{percent}"
    if scheme == "joint":
        return f"pruning-{percent}+palette-{compression.bits}"
    if scheme == "mixed":
        return _spell_mixed(compression)
    head = f"palette-{compression.bits}" if scheme == "palette" else scheme
    if granularity == "none" or scheme == "w8a8":
        return head
    size = f"-{compression.group_size}" if compression.group_size else ""
    return f"{head}/{granularity}{size}" + ("" if compression.mode == "usual" else f"/{compression.mode}")


def every_compression(
    *, block: int = 32, group: int = 16, sparsities: tuple[int, ...] = (25, 50)
) -> tuple[Compression, ...]:
    """Return one compression for every legal cell, with these sizes of blocks and groups and percentages pruned."""
    found: list[str] = []
    for cell in SCHEMES:
        if cell.scheme == "pruning":
            found += [*(f"pruning-{percent}" for percent in sparsities), "pruning-2:4"]
            continue
        if cell.scheme == "joint":
            found += [f"pruning-{sparsities[-1]}+palette-{bits}" for bits in cell.bits]
            continue
        sizes = {"block": f"-{block}", "group": f"-{group}"}
        if cell.scheme == "mixed":
            found += [f"mixed-4/{place}{sizes.get(place, '')}" for place in cell.granularities]
            continue
        for bits, granularity, mode in product(cell.bits, cell.granularities, cell.modes):
            head = f"palette-{bits}" if cell.scheme == "palette" else cell.scheme
            place = "" if granularity == "none" else f"/{granularity}{sizes.get(granularity, '')}"
            found.append(head + place + ("" if mode == "usual" else f"/{mode}"))
    return tuple(map(parse, found))


def _bits_of(scheme: Scheme) -> int:
    return next(cell.bits[0] for cell in SCHEMES if cell.scheme == scheme)


def _sparsity(percent: int | None, text: str) -> float:
    if percent is None or not 1 <= percent <= 99:
        raise UserError(f"Pruning removes 1 to 99 percent of the weights; got {text!r}: write e.g. pruning-50.")
    return percent / 100


def _spellings() -> tuple[str, ...]:
    """One for each cell, modes left out: a message is read by people."""
    return tuple(dict.fromkeys(spell(c) for c in every_compression() if c.mode == "usual"))


def _nearest(text: str) -> str:
    """The legal forms nearest to a wrong word, in the words of a message; without their granularity, too."""
    forms = [spell(row) for row in every_compression()]
    near = difflib.get_close_matches(text, dict.fromkeys([*forms, *(form.split("/")[0] for form in forms)]), n=3)
    return f"; nearest: {', '.join(near)}" if near else ""


def _legal_forms(scheme: str) -> str:
    return ", ".join(spell(c) for c in every_compression() if c.scheme == scheme)
