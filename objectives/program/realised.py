"""In which form is a weight stored?  Spelled as a study writes its compressions, read from the operations that unpack it.

| operations                                          | spelled                                                     |
|-----------------------------------------------------|-------------------------------------------------------------|
| none                                                | fp16, fp32                                                  |
| affine_dequantize, blockwise_shift_scale            | int8/tensor, int8/channel, int4/block-32, .../asymmetric    |
| lut_to_dense                                        | palette-4/tensor, palette-4/group-16                        |
| sparse_to_dense                                     | pruning-50 (percent of the elements that are not stored)    |
| lut_to_sparse, sparse_blockwise_shift_scale, inside | pruning-50+palette-4, pruning-50+int8/channel               |
| int8/channel, read by a layer of int8 activations   | w8a8                                                        |

What no study writes is spelled alike: palette-4/tensor/vector-2 (a table of vectors), palette-6/group-8/int8-table,
palette-4/tensor/scaled, int8/blocks-2x8x1x1. One form may have several spellings: in a layer of 32 input channels a block
of 32 is the channel. What the shapes do not tell (evenly spaced tables, n:m patterns) is not spelled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from coreml_pareto.objectives.program.costs import reads_quantized
from coreml_pareto.objectives.program.program import Argument, Constant, Operation, Program

W8A8: Final = "w8a8"

_SHARE, _EVEN = re.compile(r"^pruning-(?P<n>\d+)(:(?P<m>[1-9]\d*))?"), "/uniform"


def spellings(program: Program, weight: str, reader: Operation | None = None) -> tuple[str, ...]:
    """All spellings of the form of a weight that an operation unpacks, the plainest first.

    Args:
        reader: the layer that reads the weight; where its other input is int8 too, that is told first.
    """
    found = _spellings(program, program.producers[weight])
    integers = reader is not None and "int8/channel" in found and reads_quantized(program, reader)
    return (W8A8, *found) if integers else found


def same_form(text: str, found: Sequence[str]) -> bool:
    """Whether `text` is one of these spellings, whatever the share of zeros is and however a table is spaced."""
    return _told(text) in map(_told, found)


def shown(found: Sequence[str], text: str | None) -> str:
    """The spelling for people: `text` where it says what is stored, else the plainest; missing zeros are not hidden."""
    if text is None or not same_form(text, found) or _zeros(text) > _zeros(found[0]):
        return found[0]
    return text


def _told(text: str) -> str:
    return _SHARE.sub("pruning", text.removesuffix(_EVEN))


def _zeros(text: str) -> int:
    """Percent of the elements that a spelling says are zero; 0 where it does not speak of pruning."""
    match = _SHARE.match(text)
    if match is None:
        return 0
    return int(match["n"]) if match["m"] is None else round(100 * int(match["n"]) / int(match["m"]))


def _spellings(program: Program, operation: Operation) -> tuple[str, ...]:
    kind = operation.kind.removeprefix("constexpr_")
    if kind == "affine_dequantize":
        return _affine(operation)
    if kind in ("blockwise_shift_scale", "sparse_blockwise_shift_scale"):
        return _blockwise(program, operation)
    if kind in ("lut_to_dense", "lut_to_sparse"):
        return _palette(program, operation)
    if kind == "sparse_to_dense":
        return _sparse(program, operation)
    source = operation.one("source_val")
    return (source.type.dtype if isinstance(source, Constant) else operation.kind,)


def _affine(operation: Operation) -> tuple[str, ...]:
    data, scale, zero = (operation.one(key) for key in ("quantized_data", "scale", "zero_point"))
    if not (isinstance(data, Constant) and isinstance(scale, Constant)):
        return (operation.kind,)
    parts = scale.type.elements
    offset = isinstance(zero, Constant) and bool(zero.value.any())
    places = (["tensor"] if parts == 1 else []) + (["channel"] if parts > 1 or data.type.shape[:1] == (1,) else [])
    return tuple(f"{_integer(data)}/{place}{_mode(data, offset)}" for place in places)


def _blockwise(program: Program, operation: Operation) -> tuple[str, ...]:
    data, scale = operation.one("data") or operation.one("nonzero_data"), operation.one("scale")
    counts = _shape(program, scale)
    if not isinstance(data, Constant):  # scales over what another operation unpacks
        inner = _spellings(program, program.producers[data]) if isinstance(data, str) else (operation.kind,)
        return tuple(f"{text}/scaled" for text in inner)
    shape = _shape(program, operation.one("data_mask") or data)
    offset = operation.one("offset")
    mode = _mode(data, isinstance(offset, Constant) and bool(offset.value.any()))
    return tuple(f"{_integer(data)}/{place}{mode}" for place in _blocks(shape, counts))


def _palette(program: Program, operation: Operation) -> tuple[str, ...]:
    lut = operation.one("lut")
    shape = _shape(program, lut)
    if len(shape) == 1:
        return (f"palette-{shape[0].bit_length() - 1}/tensor",)
    *counts, entries, width = shape
    tail = f"/vector-{width}" if width > 1 else ""
    table = program.producers.get(lut) if isinstance(lut, str) else None
    if table is not None:
        tail += f"/{_spellings(program, table)[0].split('/')[0]}-table"
    places = _groups(operation.outputs[0][1].shape, counts)  # of lut_to_sparse: the mask
    return tuple(f"palette-{entries.bit_length() - 1}/{place}{tail}" for place in places)


def _sparse(program: Program, operation: Operation) -> tuple[str, ...]:
    data, elements = operation.one("nonzero_data"), operation.outputs[0][1].elements
    percent = round(100 * (1 - math.prod(_shape(program, data)) / max(elements, 1)))
    if isinstance(data, Constant):
        return (f"pruning-{percent}",)
    inner = _spellings(program, program.producers[data]) if isinstance(data, str) else (operation.kind,)
    texts = (text.removesuffix("/tensor") if text.startswith("palette") else text for text in inner)
    return tuple(f"pruning-{percent}+{text}" for text in texts)


def _blocks(shape: Sequence[int], counts: Sequence[int]) -> list[str]:
    """Where scales go: for the tensor, for each output channel, for blocks of its input channels, or otherwise."""
    found = ["tensor"] if math.prod(counts) == 1 else []
    rest = math.prod(counts[2:])
    if counts and counts[0] == shape[0] and rest == 1:
        blocks = counts[1] if len(counts) > 1 else 1
        found += ["channel"] if blocks == 1 else []
        found += [f"block-{shape[1] // blocks}"] if len(counts) > 1 else []
    return found or [_odd("blocks", shape, counts)]


def _groups(shape: Sequence[int], counts: Sequence[int]) -> list[str]:
    """Where tables go: for the tensor, for groups of output channels, or otherwise."""
    found = ["tensor"] if math.prod(counts) == 1 else []
    found += [f"group-{shape[0] // counts[0]}"] if math.prod(counts[1:]) == 1 else []
    return found or [_odd("groups", shape, counts)]


def _odd(word: str, shape: Sequence[int], counts: Sequence[int]) -> str:
    return f"{word}-" + "x".join(str(have // parts) for have, parts in zip(shape, counts, strict=True))


def _integer(data: Constant) -> str:
    return data.type.dtype.removeprefix("u")


def _mode(data: Constant, offset: bool) -> str:
    return "/asymmetric" if offset or data.type.dtype.startswith("u") else ""


def _shape(program: Program, argument: Argument | None) -> tuple[int, ...]:
    if isinstance(argument, Constant):
        return argument.type.shape
    return program.types[argument].shape if argument is not None else ()
