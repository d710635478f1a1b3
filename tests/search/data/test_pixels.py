from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.search.data.pixels import ArrayCache, Pixels, PixelStore
from coreml_pareto.spaces.errors import UserError


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=12), st.integers(0, 900))
def test_what_goes_in_comes_out(sizes: list[tuple[int, int]], budget: int) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]
    store = PixelStore(budget, None)
    for array in arrays:
        store.add(array)
    back = store.arrays()
    assert len(back) == len(arrays)
    for one, other in zip(arrays, back, strict=True):
        assert one.shape == other.shape
        assert (one == other).all()


def test_the_budget_bounds_memory(tmp_path: Path) -> None:
    store = PixelStore(300, tmp_path / "spill")
    for _ in range(5):
        store.add(np.ones((10, 10, 3), np.uint8))
    mapped = [isinstance(array.base, np.memmap) or isinstance(array, np.memmap) for array in store.arrays()]
    assert mapped == [False, True, True, True, True]
    assert not list((tmp_path / "spill").iterdir())  # anonymous: nothing to clean up


def test_a_full_disk_is_told() -> None:
    store = PixelStore(0, None)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("wb", buffering=0) as store._file, pytest.raises(UserError, match="free space"):
        store.add(np.ones((4, 4, 3), np.uint8))


class Counted:
    """Fills with a value and counts how often it was asked to."""

    def __init__(self, value: int = 7) -> None:
        self.value, self.calls = value, 0

    def __call__(self, out: Pixels) -> None:
        self.calls += 1
        out[:] = self.value


@pytest.mark.parametrize("budget", [0, 1000])
@pytest.mark.parametrize("published", [True, False])
def test_filled_once_wherever_it_lies(tmp_path: Path, budget: int, published: bool) -> None:
    cache, fill = ArrayCache(budget, tmp_path if published else None), Counted()
    first = cache.get("key", (5, 4, 3), fill)
    assert first is cache.get("key", (5, 4, 3), fill)
    assert (first == 7).all()
    assert first.shape == (5, 4, 3)
    assert first.flags.writeable
    assert fill.calls == 1


def test_a_later_process_finds_the_published_array(tmp_path: Path) -> None:
    ArrayCache(0, tmp_path).get("key", (5, 4, 3), Counted(3))
    again = Counted(4)
    array = ArrayCache(0, tmp_path).get("key", (5, 4, 3), again)
    assert again.calls == 0
    assert (array == 3).all()
    array[:] = 9  # copy on write: the file keeps its values
    assert (ArrayCache(0, tmp_path).get("key", (5, 4, 3), again) == 3).all()


def test_an_unfinished_array_is_never_published(tmp_path: Path) -> None:
    def breaks(out: Pixels) -> None:
        out[:2] = 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ArrayCache(0, tmp_path).get("key", (5, 4, 3), breaks)
    assert not list(tmp_path.iterdir())


def test_the_least_recently_used_leaves_first() -> None:
    cache, fill = ArrayCache(250), Counted()
    for key in ("a", "b", "a", "c"):  # 100 bytes each: c drives out b
        cache.get(key, (100,), fill)
    assert fill.calls == 3
    cache.get("a", (100,), fill)
    assert fill.calls == 3
    cache.get("b", (100,), fill)
    assert fill.calls == 4
