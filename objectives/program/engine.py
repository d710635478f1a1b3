"""Which operations is the Neural Engine reported not to run?  A rule for each, with its source.

Apple publishes no list. These are from two works of outsiders that call their own lists incomplete: `NE` hollance's
"The Neural Engine" (recurrent layers, gather) and `ANEG` sbryngelson's ane-guide (products, scatter; kernels wider than
13, and than 15 from the A16 and M4 on; sides beyond 16,384, and 65,536 from those on; channels beyond 65,536, ranks above
5, the greatest of more than 2,048; before the A14 reflecting pads and sampling, before the A15 sines). It read those of
the chips from the compiler's tables, and counts the M1 with the A13 (NE: with the A14); one table of it has kernels up to
16 from the A14 on, and the narrower limit is taken here. Resizing before the A14 is decomposed on the engine (ANEG), and
upsampling was seen there (NE): no rule, nor one for pooling at wide strides, which one older list names alone.

roboflow/rf-detr pull request 1495 has measured plans of a vision transformer (M3 Pro, macOS 27): of 592 to 729 operations
only `topk` and the gathering by its indices left the engine, not the first layer's 16 x 16 kernels at stride 16. Windows
that do not overlap are therefore no wide kernels; nor do the published times of Next-ViT, which averages 64 values at
stride 64, leave room for a penalty. `torch.roll`, as in Swin, is written as gathering by constant indices (Core ML Tools
9.0): gathering was timed as slow as on the CPU (apple/coremltools issue 1103), and Swin-T at 512 pixels was seen off the
engine (ChuanyangZheng/iFormer issue 4); no time of a Swin was published. The compiler decides for itself, also by size and
neighbours: only a measured plan (`MLComputePlan`) is certain. Precision is judged in `objectives.workload`.

A program is read before anybody says for which chip: `off_engine` gives the reason that holds on most chips, and `holds`
says whether it does on one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from coreml_pareto.objectives.program.program import Argument, Constant, Operation, Program

ROLLING: Final = "rolling, written as gathering; slices and a concat would stay"
WIDEST_KERNEL, WIDEST_NEWER = 13, 15
LONGEST_SIDE, LONGEST_NEWER = 16_384, 65_536
MOST_CHANNELS: Final = 65_536
HIGHEST_RANK: Final = 5
LONGEST_SEARCH: Final = 2_048
"""Of the axis along which the greatest or least is sought."""

_BY_KIND: Final[Mapping[str, str]] = {
    **dict.fromkeys(("lstm", "gru", "rnn"), "recurrent layers"),
    **dict.fromkeys(("gather", "gather_along_axis", "gather_nd"), "gathering"),
    **dict.fromkeys(("scatter", "scatter_along_axis", "scatter_nd"), "scattering"),
    **dict.fromkeys(("topk", "argsort"), "sorting"),
    "reduce_prod": "products over an axis",
}
REFLECTING: Final = "reflecting pads before A14 and M2"
SAMPLING: Final = "sampling a grid before A14 and M2"
SINES: Final = "sines before A15 and M3"
WIDE: Final = f"kernels wider than {WIDEST_KERNEL} before A16 and M4"
LONG: Final = f"sides beyond {LONGEST_SIDE} before A16 and M4"
_BY_KIND_ONCE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("crop_resize", "resample", "affine"), SAMPLING),
    **dict.fromkeys(("sin", "cos"), SINES),
}
_UNTIL: Final[Mapping[str, int]] = {REFLECTING: 14, SAMPLING: 14, SINES: 15, WIDE: 16, LONG: 16}
"""The family from which on a reason is none; the others are on all chips."""


def off_engine(program: Program, operation: Operation) -> str:
    """Why the Neural Engine is reported not to run this operation; empty where nothing is reported.

    The reason may be one of older chips alone (`holds`).
    """
    if operation.kind == "gather" and _rolls(operation):
        return ROLLING
    return _BY_KIND.get(operation.kind) or _too_large(program, operation) or _once(program, operation)


def holds(reason: str, chip: str) -> bool:
    """Whether a reason of `off_engine` is one on a chip such as 'A17 Pro'; on a chip that is not known every reason is."""
    return bool(reason) and _family(chip) < _UNTIL.get(reason, math.inf)


def _family(chip: str) -> int:
    """The number of a phone's chip; a Mac's counts twelve on, so that the M4 stands with the A16 (ANEG). 0: not known."""
    found = re.match(r"([AM])(\d+)", chip)
    return int(found[2]) + (12 if found[1] == "M" else 0) if found else 0


def _rolls(operation: Operation) -> bool:
    """Whether constant indices name all places in order, begun elsewhere: what `torch.roll` becomes."""
    indices = operation.parameter("indices", [])
    count = len(indices) if isinstance(indices, list) else 0
    return count > 1 and indices[0] != 0 and indices == [(indices[0] + place) % count for place in range(count)]


def _too_large(program: Program, operation: Operation) -> str:
    """Limits that hold on every chip."""
    shapes = [kind.shape for _, kind in operation.outputs]
    maps = [shape for shape in shapes if len(shape) > 3]
    beyond = {
        f"kernels wider than {WIDEST_NEWER}": max(_overlapping(program, operation), default=0) > WIDEST_NEWER,
        f"sides beyond {LONGEST_NEWER}": any(max(shape[-2:]) > LONGEST_NEWER for shape in maps),
        f"channels beyond {MOST_CHANNELS}": any(shape[1] > MOST_CHANNELS for shape in maps),
        f"ranks above {HIGHEST_RANK}": any(len(shape) > HIGHEST_RANK for shape in shapes),
        f"the greatest of more than {LONGEST_SEARCH}": _searched(program, operation) > LONGEST_SEARCH,
    }
    return next((reason for reason, true in beyond.items() if true), "")


def _once(program: Program, operation: Operation) -> str:
    """Limits of older chips."""
    if max(_overlapping(program, operation), default=0) > WIDEST_KERNEL:
        return WIDE
    shapes = [kind.shape for _, kind in operation.outputs]
    if any(max(shape[-2:]) > LONGEST_SIDE for shape in shapes if len(shape) > 3):
        return LONG
    if operation.kind == "pad" and operation.parameter("mode", "constant") == "reflect":
        return REFLECTING
    return _BY_KIND_ONCE.get(operation.kind, "")


def _searched(program: Program, operation: Operation) -> int:
    """Length of the axis along which the place of the greatest or least is sought; 0 for other operations."""
    if operation.kind not in ("reduce_argmax", "reduce_argmin"):
        return 0
    shape = _shape(program, operation.one("x"))
    return shape[operation.parameter("axis", -1)] if shape else 0


def _overlapping(program: Program, operation: Operation) -> tuple[int, ...]:
    """The sides of a kernel whose windows overlap: the others cut the input into patches, each read once."""
    sides = kernel_sides(program, operation)
    strides = operation.parameter("strides", [1] * len(sides))
    return tuple(side for side, stride in zip(sides, strides, strict=False) if side > stride)


def kernel_sides(program: Program, operation: Operation) -> tuple[int, ...]:
    """The sides of a convolution's or a pooling's kernel; none for other operations."""
    if operation.kind in ("max_pool", "avg_pool", "l2_pool"):
        return tuple(operation.parameter("kernel_sizes", []))
    if operation.kind in ("conv", "conv_transpose"):
        return _shape(program, operation.one("weight"))[2:]
    return ()


def _shape(program: Program, argument: Argument | None) -> tuple[int, ...]:
    if isinstance(argument, Constant):
        return argument.type.shape
    return program.types[argument].shape if argument is not None and argument in program.types else ()
