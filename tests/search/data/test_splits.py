from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.search.data.splits import assign, leaks, missing_classes, stratified
from coreml_pareto.spaces.errors import UserError

BOTH = {"validation": 0.15, "test": 0.15}


@dataclass(frozen=True)
class Item:
    name: str
    label: str
    split: str = ""
    digest: str = ""


def items(counts: dict[str, int]) -> list[Item]:
    return [Item(f"{label}/{i}", label, "", f"{label}{i}") for label, count in counts.items() for i in range(count)]


COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(4, 60), min_size=2)
SEEDS = st.integers(0, 2**32 - 1)


@given(COUNTS, SEEDS)
def test_each_class_gives_its_share(counts: dict[str, int], seed: int) -> None:
    pictures = items(counts)
    splits = assign(pictures, BOTH, seed)
    got = Counter((picture.label, split) for picture, split in zip(pictures, splits, strict=True))
    for label, count in counts.items():
        drawn = max(1, round(0.15 * count))
        assert got[label, "validation"] == got[label, "test"] == drawn
        assert got[label, "train"] == count - 2 * drawn >= 2


@given(COUNTS, SEEDS, st.randoms())
def test_the_order_of_the_listing_does_not_matter(counts: dict[str, int], seed: int, random: Random) -> None:
    pictures = items(counts)
    splits = {p.name: s for p, s in zip(pictures, assign(pictures, BOTH, seed), strict=True)}
    shuffled = random.sample(pictures, len(pictures))
    again = {p.name: s for p, s in zip(shuffled, assign(shuffled, BOTH, seed), strict=True)}
    assert splits == again


def test_another_seed_draws_other_pictures() -> None:
    pictures = items({"a": 50, "b": 50})
    assert assign(pictures, BOTH, 0) == assign(pictures, BOTH, 0) != assign(pictures, BOTH, 1)


def test_given_splits_stay() -> None:
    given = [Item(f"t{i}", "ab"[i % 2], "train", str(i)) for i in range(40)]
    given += [Item(f"x{i}", "ab"[i % 2], "test", str(100 + i)) for i in range(6)]
    splits = assign(given, {"validation": 0.25}, 0)
    assert splits[40:] == ["test"] * 6
    assert Counter(splits[:40]) == {"train": 30, "validation": 10}
    assert assign(given, {}, 0) == [item.split for item in given]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=20, max_size=60), SEEDS)
def test_equal_pictures_go_together(drawn: list[tuple[str, int]], seed: int) -> None:
    whole = [("a", n) for n in range(4)] + [("b", n) for n in range(4)] + drawn
    pictures = [Item(f"{label}/{i}", label, "", f"{label}{content}") for i, (label, content) in enumerate(whole)]
    splits = assign(pictures, BOTH, seed)
    where: dict[str, set[str]] = {}
    for picture, split in zip(pictures, splits, strict=True):
        where.setdefault(picture.digest, set()).add(split)
    assert all(len(places) == 1 for places in where.values())


def test_copies_do_not_count_as_different_pictures() -> None:
    pictures = [*items({"a": 9}), *(Item(f"b/{i}", "b", "", "same") for i in range(9))]
    with pytest.raises(UserError, match="got 1 in 'b'"):
        assign(pictures, BOTH, 0)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(0, 250), SEEDS)
def test_a_sample_is_proportional_within_one(labels: list[int], n: int, seed: int) -> None:
    targets = np.array(labels, np.int64)
    rows = stratified(targets, n, seed)
    n = min(n, len(labels))
    assert len(rows) == len(set(rows.tolist())) == n
    assert (np.diff(rows) > 0).all()
    for label, count in Counter(labels).items():
        assert abs(int((targets[rows] == label).sum()) - n * count / len(labels)) < 1
    assert (rows == stratified(targets, n, seed)).all()


def test_small_samples_do_not_favour_the_first_class() -> None:
    targets = np.repeat(np.arange(4), 25)
    first = Counter(int(targets[stratified(targets, 1, seed)[0]]) for seed in range(200))
    assert min(first[label] for label in range(4)) > 25  # 50 expected


def test_at_least_some_of_each_class() -> None:
    targets = np.array([0] * 1000 + [1] * 10 + [2] * 3, np.int64)
    assert Counter(targets[stratified(targets, 50, 0, least=4)].tolist())[1] == 4
    assert Counter(targets[stratified(targets, 50, 0, least=4)].tolist())[2] == 3


def test_leaks_are_told() -> None:
    pictures = [
        Item("train/a/1", "a", "train", "x"),
        Item("val/a/1", "a", "validation", "x"),
        Item("test/a/1", "a", "test", "x"),
        Item("train/b/1", "b", "train", "y"),
        Item("train/a/2", "a", "train", "y"),
        Item("test/b/2", "b", "test", "z"),
    ]
    told = list(leaks(pictures))
    assert len(told) == 4
    assert "1 validation images are also training images" in told[0]
    assert "1 test images are also training images" in told[1]
    assert "1 images are in validation and in test" in told[2]
    assert "2 images are filed under more than one class" in told[3]
    assert not list(leaks(pictures[3:4] + pictures[5:]))


def test_missing_classes_are_told() -> None:
    pictures = [Item("1", "a", "validation"), Item("2", "a", "test"), Item("3", "b", "test")]
    assert list(missing_classes(pictures, ["a", "b"])) == [
        "validation has no images of 'b': its accuracy says nothing about them"
    ]
