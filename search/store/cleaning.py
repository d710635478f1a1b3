"""What may go from a store?  What is too old, what no run holds, and the oldest until the rest fits into a size.

Work that was begun and not finished goes by the same rules, with two exceptions. What somebody touched within a day
stays: others may be about to publish it. And a training that is not finished is never unused, only old or too much: a
search takes up its checkpoint when it may win after all, or has more time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from coreml_pareto.search.store.shelf import Artifact, Leftover

DAY = 86400.0
TRAINING = "train"
"""The stage whose unfinished work is never unused."""

Name = tuple[str, str]
"""Stage and key."""


def removable(
    artifacts: Iterable[Artifact],
    leftovers: Iterable[Leftover] = (),
    *,
    now: float,
    max_size: float | None = None,
    older_than: float | None = None,
    used: Collection[Name] | None = None,
    kept: Collection[Name] = (),
) -> tuple[Artifact | Leftover, ...]:
    """Return what goes by any of the rules; nothing without one.

    Args:
        leftovers: work that was begun and not finished, and at which nobody is.
        now: seconds since 1970.
        max_size: bytes that all results and leftovers may take, those that are kept included.
        older_than: seconds since a result was made, or a leftover changed.
        used: all others go.
        kept: stay under every rule.
    """
    results, begun = tuple(artifacts), tuple(leftovers)
    idle = [row for row in begun if now - row.changed > DAY]
    free: list[Artifact | Leftover] = [row for row in results if (row.stage, row.key) not in kept]
    free = sorted([*free, *idle], key=_age)
    gone = [
        row
        for row in free
        if (older_than is not None and now - _age(row)[0] > older_than) or (used is not None and _unused(row, used))
    ]
    left = sum(row.size for row in results) + sum(row.size for row in begun) - sum(row.size for row in gone)
    if max_size is not None:
        before = set(map(_age, gone))
        for row in (row for row in free if _age(row) not in before):
            if left <= max_size:
                break
            gone.append(row)
            left -= row.size
    return tuple(gone)


def _age(row: Artifact | Leftover) -> tuple[float, str, str]:
    """Since when something is there, in seconds since 1970, and what tells it from all others."""
    if isinstance(row, Leftover):
        return row.changed, "", row.place
    return row.created, row.stage, row.key


def _unused(row: Artifact | Leftover, used: Collection[Name]) -> bool:
    if isinstance(row, Leftover):
        return TRAINING not in re.split("[-/]", row.place)
    return (row.stage, row.key) not in used
