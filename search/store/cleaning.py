"""What may go from a store?  What is too old, what no run holds, and the oldest until the rest fits into a size."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from coreml_pareto.search.store.shelf import Artifact, Leftover

DAY = 86400.0

Name = tuple[str, str]
"""Stage and key."""


def removable(
    artifacts: Iterable[Artifact],
    *,
    now: float,
    max_size: float | None = None,
    older_than: float | None = None,
    used: Collection[Name] | None = None,
    kept: Collection[Name] = (),
) -> tuple[Artifact, ...]:
    """Return what goes by any of the rules.

    Args:
        now: seconds since 1970.
        max_size: bytes that all results may take, those that are kept included.
        older_than: seconds since a result was made.
        used: all others go.
        kept: stay under every rule.
    """
    every = sorted(artifacts, key=lambda row: (row.created, row.stage, row.key))
    free = [row for row in every if (row.stage, row.key) not in kept]
    gone = [
        row
        for row in free
        if (older_than is not None and now - row.created > older_than)
        or (used is not None and (row.stage, row.key) not in used)
    ]
    left = sum(row.size for row in every) - sum(row.size for row in gone)
    if max_size is not None:
        names = {(row.stage, row.key) for row in gone}
        for row in (row for row in free if (row.stage, row.key) not in names):
            if left <= max_size:
                break
            gone.append(row)
            left -= row.size
    return tuple(gone)


def abandoned(leftovers: Iterable[Leftover], *, now: float, older_than: float | None) -> tuple[Leftover, ...]:
    """Return unfinished work that nobody has touched for so long, a day at least: others may be about to publish it."""
    return tuple(row for row in leftovers if now - row.changed > max(DAY, older_than or DAY))
