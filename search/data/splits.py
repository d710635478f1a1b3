"""Which pictures train, which validate, which test?

Splits that the data does not give are drawn per class (stratified) from a stored seed. Pictures with the same bytes go
to the same split, so that a split of ours never leaks. The draw depends on names, contents and the seed only, not on
the machine or the order of the listing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.search.data.folder import few
from coreml_pareto.spaces.errors import UserError

LEAST_PER_CLASS = 4


class Labelled(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def split(self) -> str: ...


class Hashed(Labelled, Protocol):
    @property
    def digest(self) -> str: ...


def assign(pictures: Sequence[Hashed], shares: Mapping[str, float], seed: int) -> list[str]:
    """The split of each picture. `shares` names the splits to draw and how much of the training pictures each takes.

    UserError where a class has too few different pictures: each split needs one, training two.
    """
    splits = [picture.split or "train" for picture in pictures]
    if not shares:
        return splits
    rng = np.random.default_rng(seed)
    for label, rows in sorted(_by_label(pictures, splits).items()):
        groups = defaultdict(list)
        for row in rows:
            groups[pictures[row].digest].append(row)
        if len(groups) < LEAST_PER_CLASS:
            raise UserError(
                f"Drawing {' and '.join(shares)} from the training images needs at least {LEAST_PER_CLASS} different "
                f"images per class; got {len(groups)} in '{label}'; add images or remove the class"
            )
        members = list(groups.values())
        order = iter(rng.permutation(len(members)))
        for split, share in shares.items():
            for group in islice(order, max(1, round(share * len(members)))):
                for row in members[group]:
                    splits[row] = split
    return splits


def _by_label(pictures: Sequence[Labelled], splits: Sequence[str]) -> dict[str, list[int]]:
    """Rows of the training pictures of each class, in the order of their names."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row in sorted(range(len(pictures)), key=lambda row: pictures[row].name):
        if splits[row] == "train":
            rows[pictures[row].label].append(row)
    return rows


def stratified(targets: NDArray[np.int64], n: int, seed: int, least: int = 0) -> NDArray[np.int64]:
    """`n` rows (all, where there are fewer), each class as often as its share within one; sorted, without repeats.

    Quotas by largest remainder, ties drawn. `least` rows of each class are taken in any case (all, where there are
    fewer); more than `n` rows may come back then.
    """
    rng = np.random.default_rng(seed)
    labels, counts = np.unique(targets, return_counts=True)
    quota = min(n, len(targets)) * counts / max(1, len(targets))
    take = np.floor(quota + 1e-9).astype(int)
    short = min(n, len(targets)) - take.sum()
    order = rng.permutation(len(labels))
    take[order[np.argsort(-(quota - take)[order], kind="stable")[:short]]] += 1
    take = np.maximum(take, np.minimum(least, counts))
    chosen = [rng.permutation(np.flatnonzero(targets == label))[:k] for label, k in zip(labels, take, strict=True)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def leaks(pictures: Sequence[Hashed]) -> Iterator[str]:
    """Warnings about pictures with the same bytes: in two splits, or under two classes."""
    seen: dict[str, set[str]] = defaultdict(set)
    labels: dict[str, set[str]] = defaultdict(set)
    for picture in pictures:
        seen[picture.digest].add(picture.split)
        labels[picture.digest].add(picture.label)
    for split in ("validation", "test"):
        shared = [p.name for p in pictures if p.split == split and "train" in seen[p.digest]]
        if shared:
            yield (
                f"{len(shared)} {split} images are also training images (same bytes: {few(shared, 3)}); "
                f"the {split} accuracy will look better than it is"
            )
    if both := sum({"validation", "test"} <= splits for splits in seen.values()):
        yield f"{both} images are in validation and in test (same bytes)"
    if torn := [p.name for p in pictures if len(labels[p.digest]) > 1]:
        yield f"{len(torn)} images are filed under more than one class (same bytes: {few(torn, 3)})"


def missing_classes(pictures: Sequence[Labelled], classes: Sequence[str]) -> Iterator[str]:
    """Warnings about classes that validation or test do not show."""
    for split in ("validation", "test"):
        counts = Counter(picture.label for picture in pictures if picture.split == split)
        if absent := [name for name in classes if not counts[name]]:
            yield f"{split} has no images of {few(absent)}: its accuracy says nothing about them"
