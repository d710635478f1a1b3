"""Which reshapes and transpositions are one permutation, spelled in many?

Core ML Tools splits a permutation of more than five axes, as window attention needs it, into a chain of reshapes and
transpositions of four (its pass `expand_high_rank_reshape_and_transpose`, MIL has five axes at most). The shapes between
are its own and the data go through once, so such a chain is priced as one: by what the first reads and the last writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from coreml_pareto.objectives.program.program import Operation, Program

_KINDS: Final = frozenset({"reshape", "transpose"})
_FEWEST: Final = 3
"""Transpositions of a chain; the two that a network writes itself, to cut and to order, are left as they are."""


def chains(program: Program) -> Iterator[tuple[Operation, ...]]:
    """Maximal chains in which every value is read by the next operation alone, in program order."""
    readers = Counter(name for operation in program.every for name in operation.operands())
    open_chains: dict[str, list[Operation]] = {}
    for operation in program.every:
        source = operation.one("x")
        if operation.kind not in _KINDS or not isinstance(source, str):
            continue
        alone = readers[source] == 1 and source not in program.output
        before = open_chains.pop(source, []) if alone else []
        open_chains[operation.outputs[0][0]] = [*before, operation]
    for chain in open_chains.values():
        if sum(operation.kind == "transpose" for operation in chain) >= _FEWEST:
            yield tuple(chain)
