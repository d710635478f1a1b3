"""Can a program that is written for one image run on many at once?

It can when every computed value keeps the image in a leading dimension of its own: the 1 with which the program's
shapes begin. The rules below are sufficient, not necessary; a program that breaks one is run image by image.
"""

from __future__ import annotations

from coreml_pareto.objectives.program.operations.elementwise import BINARY
from coreml_pareto.objectives.program.program import VIEWS, Constant, Operation, Program, TensorInput

_BROADCASTING = frozenset(BINARY) | {"matmul", "scaled_dot_product_attention"}
_TUPLES = frozenset({"concat", "stack", "einsum"})
_ALL_AXES_BY_DEFAULT = frozenset({"cumsum", "reverse", "layer_norm"})
# The smallest rank whose leading dimension is not part of what the operation computes with.
_LEAST_RANK = {"l2_norm": 4, "linear": 2, "einsum": 4, "scaled_dot_product_attention": 3}


def batches(program: Program) -> bool:
    """Whether the leading dimension of every value that depends on the input is the batch."""
    kind = program.types[program.input.name]
    if isinstance(program.input, TensorInput) and kind.shape[:1] != (1,):
        return False
    batched = {program.input.name}
    for operation in program.operations:
        if batched.isdisjoint(operation.operands()):
            continue
        if operation.kind != "classify" and not _keeps(program, operation, batched):
            return False
        batched |= {name for name, _ in operation.outputs}
    return True


def _keeps(program: Program, operation: Operation, batched: set[str]) -> bool:
    if any(kind.shape[:1] != (1,) for _, kind in operation.outputs):
        return False
    if operation.kind in VIEWS:
        return True
    read = [(key, name) for key, names in operation.inputs.items() for name in names if name in batched]
    ranks = [len(program.types[str(name)].shape) for _, name in read]
    if min(ranks) < _LEAST_RANK.get(operation.kind, 1) or _along_batch(operation, ranks[0]):
        return False
    if operation.kind in _BROADCASTING:
        rank = len(operation.outputs[0][1].shape)
        summed = operation.kind == "matmul" and rank < 3 and any(key == "y" for key, _ in read)
        return set(ranks) == {rank} and not summed
    # Convolutions with computed weights and the like: only the first operand may hold images.
    return operation.kind in _TUPLES or len({key for key, _ in read} - {"x", "input", "ref_tensor"}) == 0


def _along_batch(operation: Operation, rank: int) -> bool:
    """Whether the operation works along, or moves, the leading dimension."""
    axes = [operation.one(name) for name in ("axis", "axes")]
    constants = [axis for axis in axes if isinstance(axis, Constant)]
    if not constants and operation.kind in _ALL_AXES_BY_DEFAULT:
        return True
    order = operation.parameter("perm", [0])
    return any((axis.value % rank == 0).any() for axis in constants) or order[0] % len(order) != 0
