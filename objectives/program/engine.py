"""Which operations is the Neural Engine reported not to run?  A rule for each, with its source.

Apple publishes no list. These are from two works of outsiders that call their own lists incomplete: `NE` hollance's
"The Neural Engine" (recurrent layers, gather) and `ANEG` sbryngelson's ane-guide (products, scatter, kernels wider
than 13, sides beyond 16,384). roboflow/rf-detr pull request 1495 has measured plans of a vision transformer (M3 Pro,
macOS 27): of 592 to 729 operations only `topk` and the gathering by its indices left the engine, not the first layer's
16 x 16 kernels at stride 16. Windows that do not overlap are therefore no wide kernels; nor do the published times of
Next-ViT, which averages 64 values at stride 64, leave room for a penalty. `torch.roll`, as in Swin, is written as gathering
by constant indices (Core ML Tools 9.0): gathering was timed as slow as on the CPU (apple/coremltools issue 1103), and
Swin-T at 512 pixels was seen off the engine (ChuanyangZheng/iFormer issue 4); no time of a Swin was published. The
compiler decides for itself, also by size
and neighbours: only a measured plan (`MLComputePlan`) is certain. Precision is judged in `objectives.workload`.
"""

from __future__ import annotations

from typing import Final

from coreml_pareto.objectives.program.program import Argument, Constant, Operation, Program

_RECURRENT: Final = frozenset({"lstm", "gru", "rnn"})
_GATHERING: Final = frozenset({"gather", "gather_along_axis", "gather_nd"})
_SCATTERING: Final = frozenset({"scatter", "scatter_along_axis", "scatter_nd"})
ROLLING: Final = "rolling, written as gathering; slices and a concat would stay"
WIDEST_KERNEL: Final = 13
LONGEST_SIDE: Final = 16_384


def off_engine(program: Program, operation: Operation) -> str:
    """Why the Neural Engine is reported not to run this operation; empty where nothing is reported."""
    kind = operation.kind
    if kind in _RECURRENT:
        return "recurrent layers"
    if kind == "gather" and _rolls(operation):
        return ROLLING
    if kind in _GATHERING or kind in _SCATTERING:
        return "gathering" if kind in _GATHERING else "scattering"
    if kind in ("topk", "argsort"):
        return "sorting"
    if kind == "reduce_prod":
        return "products over an axis"
    return _too_large(program, operation)


def _rolls(operation: Operation) -> bool:
    """Whether constant indices name all places in order, begun elsewhere: what `torch.roll` becomes."""
    indices = operation.parameter("indices", [])
    count = len(indices) if isinstance(indices, list) else 0
    return count > 1 and indices[0] != 0 and indices == [(indices[0] + place) % count for place in range(count)]


def _too_large(program: Program, operation: Operation) -> str:
    if max(_overlapping(program, operation), default=0) > WIDEST_KERNEL:
        return f"kernels wider than {WIDEST_KERNEL}"
    shapes = [kind.shape for _, kind in operation.outputs]
    if any(max(shape[-2:], default=0) > LONGEST_SIDE for shape in shapes if len(shape) > 3):
        return f"sides beyond {LONGEST_SIDE}"
    return ""


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
