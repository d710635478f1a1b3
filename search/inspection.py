"""How is every weight of a package stored, and where do its bytes go?  Any ML program, ours or not.

What is stored is read from the program; what was asked for, why a weight was left alone and how much noise compression
added, from the record in the package (`objectives/program/record.py`), and from nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

from coreml_pareto.objectives.program import Constant, Operation, Program, Weight, require_finite
from coreml_pareto.objectives.program.realised import shown, spellings
from coreml_pareto.objectives.program.record import ASKED, Record, heavy_weights, is_compressed, read_record
from coreml_pareto.objectives.size import parts

NOT_RECORDED: Final = "not recorded"
TOO_FEW: Final = "fewer zeros than asked"
NAMED: Final = 3
"""So many layers at most are named in a warning; the rows tell of all."""


@final
@dataclass(frozen=True)
class Row:
    """One weight.

    Attributes:
        asked: None for what compression leaves alone (biases, batch norms), and where nothing tells it.
        applied: how it is stored.
        bits_per_weight: tables, scales, offsets and masks counted.
        snr_db: signal-to-noise ratio as recorded, 999 where nothing was lost; None where nothing tells it.
        reason: why not as asked; empty where as asked.
        layer: whether a convolution or a linear layer reads it: those are compressed.
    """

    name: str
    shape: tuple[int, ...]
    elements: int
    asked: str | None
    applied: str
    bits_per_weight: float
    stored_bytes: int
    snr_db: float | None
    reason: str
    layer: bool
    compressed: bool


@final
@dataclass(frozen=True)
class Bytes:
    """Where the bytes of a package go; `weights` to `other` add up to `total`.

    Attributes:
        weights: numbers of the weights in the weight file: indices, tables, scales, offsets, masks.
        constants: what else the program keeps in that file.
        framing: the rest of the weight file: headers and padding.
        program: the program's text.
        other: the manifest, and whatever else lies in the package.
        inline: numbers of the weights that stand in the program's text; a part of `program`.
        shared: what the rows count more than once, because several weights are stored in one place.
    """

    weights: int
    constants: int
    framing: int
    program: int
    other: int
    inline: int
    shared: int

    @property
    def total(self) -> int:
        """All bytes on disk."""
        return self.weights + self.constants + self.framing + self.program + self.other

    @property
    def rows(self) -> int:
        """What the rows of the weights add up to."""
        return self.weights + self.inline + self.shared


@final
@dataclass(frozen=True)
class Inspection:
    """A package laid open; `warning` is empty where every layer is as asked."""

    rows: tuple[Row, ...]
    sizes: Bytes
    asked: str | None
    warning: str
    notes: tuple[str, ...]

    @property
    def elements(self) -> int:
        """Elements of all weights."""
        return sum(row.elements for row in self.rows)

    @property
    def bits_per_weight(self) -> float | None:
        """Stored bits per element over all weights; None without weights."""
        return 8 * sum(row.stored_bytes for row in self.rows) / self.elements if self.elements else None


def inspect(program: Program) -> Inspection:
    """Lay a package open.

    Raises:
        UserError: NaN or infinite weights.
    """
    require_finite(program)
    record, doubt = read_record(program)
    asked = record.asked if record else program.metadata.get(ASKED)
    layers = heavy_weights(program)
    rows = tuple(_row(program, weight, record, asked, layers.get(weight.name)) for weight in program.weights)
    notes = tuple(note for note in (doubt, _unknown(rows, record)) if note)
    return Inspection(rows, bytes_of(program), asked, warning(rows, asked), notes)


def bytes_of(program: Program) -> Bytes:
    """Add up a package's bytes by what they hold."""
    have = parts(program.path)
    numbers = _places(constant for weight in program.weights for constant in weight.constants)
    inline = sum(constant.type.nbytes for constant in numbers.values() if constant.offset is None)
    inside = sum(constant.type.nbytes for constant in numbers.values()) - inline
    every = _places([*program.constants.values(), *(c for operation in program.every for c in _constants(operation))])
    constants = sum(c.type.nbytes for place, c in every.items() if c.offset is not None and place not in numbers)
    return Bytes(
        weights=inside,
        constants=constants,
        framing=have.weights - inside - constants,
        program=have.program,
        other=have.other,
        inline=inline,
        shared=sum(weight.stored_bytes for weight in program.weights) - inside - inline,
    )


def warning(rows: Sequence[Row], asked: str | None) -> str:
    """How many layers are not as asked, and which, if they are few; empty where all are."""
    layers = [row for row in rows if row.layer]
    plain = [row for row in layers if not row.compressed]
    if asked is None:
        mixed = 0 < len(plain) < len(layers)
        return f"{len(plain)} of {_layers(layers)} not compressed ({_share(plain, layers)})" if mixed else ""
    otherwise = [row for row in layers if row.asked not in (None, row.applied)]
    left = [row for row in otherwise if not row.compressed]
    told = f", {len(left)} of them not compressed ({_share(left, layers)})" if left else ""
    names = f": {', '.join(row.name for row in otherwise)}" if len(otherwise) <= NAMED else ""
    return f"Asked {asked}: {len(otherwise)} of {_layers(layers)} otherwise{told}{names}" if otherwise else ""


def _layers(rows: Sequence[Row]) -> str:
    return f"{len(rows)} layer" if len(rows) == 1 else f"{len(rows)} layers"


def _share(some: Sequence[Row], rows: Sequence[Row]) -> str:
    share = sum(row.elements for row in some) / sum(row.elements for row in rows)
    return f"{100 * share:.1f} % of the elements"


def _unknown(rows: Sequence[Row], record: Record | None) -> str:
    """What cannot be told of this package."""
    if not any(row.compressed for row in rows):
        return "No weight is compressed."
    if record is not None:
        return ""
    return (
        "The package has no record of its compression that could be read: the signal-to-noise ratios of its weights, "
        "and why one is not compressed, are not known."
    )


def _row(program: Program, weight: Weight, record: Record | None, asked: str | None, reader: Operation | None) -> Row:
    """`reader`: the convolution or linear layer that reads the weight, if one does."""
    compressed = is_compressed(program, weight.name)
    found = spellings(program, weight.name, reader) if compressed else (weight.scheme,)
    treatment = record.layers.get(weight.name) if record else None
    asked = None if reader is None else treatment.asked if treatment else _of_one_layer(asked)
    applied = shown(found, treatment.applied if treatment else asked)
    reason = treatment.reason if treatment else NOT_RECORDED
    return Row(
        name=weight.name,
        shape=weight.shape,
        elements=weight.elements,
        asked=asked,
        applied=applied,
        bits_per_weight=weight.bits_per_weight,
        stored_bytes=weight.stored_bytes,
        snr_db=treatment.snr_db if treatment else None,
        reason="" if asked in (None, applied) else reason or TOO_FEW,
        layer=reader is not None,
        compressed=compressed,
    )


def _of_one_layer(asked: str | None) -> str | None:
    """What a package asks of each layer without a record; of mixed precision only the record tells."""
    return None if asked is not None and asked.startswith("mixed") else asked


def _places(constants: Iterable[Constant]) -> dict[int | str, Constant]:
    """Constants by where they stand: the offset in the weight file, or the name of what the text holds."""
    return {constant.name if constant.offset is None else constant.offset: constant for constant in constants}


def _constants(operation: Operation) -> Iterator[Constant]:
    return (a for arguments in operation.inputs.values() for a in arguments if isinstance(a, Constant))
