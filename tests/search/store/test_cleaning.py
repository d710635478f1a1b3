"""What goes by which rule, against plain set arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.search.store import Artifact, Leftover, Manifest
from coreml_pareto.search.store.cleaning import DAY, removable

NOW = 1e9


def _artifact(number: int, size: int, age: float) -> Artifact:
    return Artifact("train", f"{number:016x}", Manifest({"w": (size, "")}, created=NOW - age))


SMALL = tuple(_artifact(number, 10, age) for number, age in enumerate((5.0, 4.0, 3.0, 2.0)))


def _numbers(rows: tuple[Artifact | Leftover, ...]) -> list[int]:
    return sorted(int(row.key, 16) for row in rows if isinstance(row, Artifact))


def _places(rows: tuple[Artifact | Leftover, ...]) -> list[str]:
    return [row.place for row in rows if isinstance(row, Leftover)]


def test_the_oldest_go_until_the_rest_fits() -> None:
    assert _numbers(removable(SMALL, now=NOW, max_size=40)) == []
    assert _numbers(removable(SMALL, now=NOW, max_size=39)) == [0]
    assert _numbers(removable(SMALL, now=NOW, max_size=20)) == [0, 1]
    assert _numbers(removable(SMALL, now=NOW, max_size=20, kept={("train", SMALL[0].key)})) == [1, 2]
    assert _numbers(removable(SMALL, now=NOW, max_size=0, kept={("train", SMALL[0].key)})) == [1, 2, 3]


def test_what_is_older_and_what_nobody_uses_goes() -> None:
    assert _numbers(removable(SMALL, now=NOW, older_than=3.5)) == [0, 1]
    assert _numbers(removable(SMALL, now=NOW, used={("train", SMALL[1].key)})) == [0, 2, 3]
    assert _numbers(removable(SMALL, now=NOW, used=(), kept={("train", SMALL[1].key)})) == [0, 2, 3]
    assert _numbers(removable(SMALL, now=NOW, used={("package", SMALL[1].key)})) == [0, 1, 2, 3]
    assert removable(SMALL, now=NOW) == ()
    assert _numbers(removable(SMALL, now=NOW - 1e6, older_than=1.0)) == []  # the clock was set back


@given(
    sizes=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=12),
    limit=st.integers(0, 600),
    age=st.none() | st.integers(0, 100),
    kept=st.sets(st.integers(0, 11)),
)
def test_no_rule_takes_more_than_it_must(
    sizes: list[tuple[int, int]], limit: int, age: int | None, kept: set[int]
) -> None:
    rows = tuple(_artifact(number, size, float(made)) for number, (size, made) in enumerate(sizes))
    names = {("train", f"{number:016x}") for number in kept}
    gone = [r for r in removable(rows, now=NOW, max_size=limit, older_than=age, kept=names) if isinstance(r, Artifact)]
    keys = [row.key for row in gone]
    assert len(set(keys)) == len(keys) and not {("train", key) for key in keys} & names
    left = [row for row in rows if row not in gone]
    if sum(row.size for row in left) > limit:
        assert all(("train", row.key) in names for row in left)
    old = [row for row in rows if age is not None and NOW - row.created > age and ("train", row.key) not in names]
    assert all(row in gone for row in old)
    if by_size := [row for row in gone if row not in old]:
        spared = max(by_size, key=lambda row: (row.created, row.key))  # the last one that went was needed
        assert sum(row.size for row in left) + spared.size > limit
        assert all(row.created >= spared.created for row in left if ("train", row.key) not in names)


BEGUN = tuple(Leftover(f"train-{days}", 10, NOW - days * DAY) for days in (0.5, 2.0, 40.0))


def test_unfinished_work_is_left_alone_for_a_day_and_goes_by_its_age() -> None:
    assert _places(removable((), BEGUN, now=NOW, older_than=30 * DAY)) == ["train-40.0"]
    assert _places(removable((), BEGUN, now=NOW, older_than=60.0)) == ["train-40.0", "train-2.0"]
    assert removable((), BEGUN, now=NOW) == ()


def test_a_size_takes_nothing_while_the_store_is_smaller() -> None:
    """A checkpoint is as good as a result: a search goes on from it."""
    assert removable(SMALL, BEGUN, now=NOW, max_size=70) == ()
    assert _places(removable((), BEGUN, now=NOW, max_size=30)) == []


def test_of_results_and_unfinished_work_the_oldest_go_until_the_rest_fits() -> None:
    old = _artifact(7, 10, 3 * DAY)
    gone = [removable((*SMALL, old), BEGUN, now=NOW, max_size=size) for size in (79, 69, 59, 49)]
    assert [(_places(rows), _numbers(rows)) for rows in gone] == [
        (["train-40.0"], []), (["train-40.0"], [7]), (["train-40.0", "train-2.0"], [7]),
        (["train-40.0", "train-2.0"], [0, 7]),
    ]  # fmt: skip
    assert len(removable(SMALL, BEGUN, now=NOW, max_size=0)) == 6  # what was touched today stays


@pytest.mark.parametrize("place", ["train-{}", "parked-train-{}", "train/{}/parked"])
def test_an_unfinished_training_is_not_unused(place: str) -> None:
    key = "0123456789abcdef"
    rows = [Leftover(name, 10, NOW - 9 * DAY) for name in (place.format(key), f"package-{key}", f"fetch-{key}")]
    assert _places(removable(SMALL, rows, now=NOW, used=())) == [f"fetch-{key}", f"package-{key}"]
    assert len(removable((), rows, now=NOW, used=(), older_than=8 * DAY)) == 3
