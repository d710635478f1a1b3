"""A checkpoint is parked for another machine, taken up where none has begun, and cleared when the training is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from coreml_pareto.search.store import CHECKPOINT, Folder, Remote, Shelf, Store, parking

KEY = "0123456789abcdef"


@pytest.fixture(params=["folder", "memory", "files"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "folder":
        return Folder(tmp_path / "shelf")
    if request.param == "files":
        return Remote(fsspec.filesystem("file"), str(tmp_path / "objects"), "objects")
    fs = fsspec.filesystem("memory", skip_instance_cache=True)
    fs.store.clear()
    return Remote(fs, "/bucket/store", "memory://bucket/store")


def _store(shelf: Shelf, folder: Path, told: Callable[[str], None] = print) -> Store:
    return Store(folder, shelf, tell=told, parks=True)


def _train(store: Store, epochs: int, dies_after: int | None = None) -> list[int]:
    """Train as `Training` does: a checkpoint after each epoch; return the epochs that were trained."""
    trained: list[int] = []

    def make(work: Path) -> None:
        assert store.parking
        store.parking.fetch(work)
        checkpoint = work / CHECKPOINT
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        for epoch in range(done, epochs):
            if epoch == dies_after:
                raise KeyboardInterrupt
            trained.append(epoch)
            checkpoint.write_text(str(epoch + 1))
            store.parking.park(work)
        checkpoint.unlink()
        (work / "weights").write_text("w")

    store.produce("train", KEY, make)
    return trained


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(parking, "time", clock)
    return clock


def test_another_machine_goes_on_from_the_last_parked_epoch(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        _train(_store(shelf, tmp_path / "a"), 6, dies_after=4)
    assert [leftover.size for leftover in shelf.leftovers()] == [1]
    assert _train(_store(shelf, tmp_path / "b"), 6) == [4, 5]
    assert not list(shelf.leftovers()) and len(list(shelf.artifacts())) == 1
    assert _train(_store(shelf, tmp_path / "c"), 6) == []


def test_a_machine_prefers_what_it_has_itself(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "EVERY", 0.0)
    own = _store(shelf, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        _train(own, 6, dies_after=2)
    (own.own.work(f"train-{KEY}") / CHECKPOINT).write_text("3")
    assert _train(own, 6) == [3, 4, 5]


def test_a_checkpoint_is_parked_now_and_then(shelf: Shelf, tmp_path: Path, clock: SimpleNamespace) -> None:
    store, parked = _store(shelf, tmp_path / "a"), tmp_path / "parked"
    work = store.own.work(f"train-{KEY}")
    assert store.parking
    seen = []
    for epoch in range(8):
        (work / CHECKPOINT).write_text(str(epoch))
        store.parking.park(work)
        shelf.fetch_parked(work.name, parked)
        seen.append(int(parked.read_text()))
        clock.now += parking.EVERY / 2.5
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6]


def test_a_store_that_is_away_costs_no_training(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise TimeoutError("no route")

    for name in ("park", "fetch_parked", "unpark"):
        monkeypatch.setattr(type(shelf), name, away)
    told: list[str] = []
    assert _train(_store(shelf, tmp_path / "a", told.append), 3) == [0, 1, 2]
    assert len(told) == 2 and all("goes on with its own folder" in line for line in told)


def test_without_machines_nothing_is_parked(shelf: Shelf, tmp_path: Path) -> None:
    assert Store(tmp_path / "a", shelf).parking is None
    assert Store(tmp_path / "a", None, parks=True).parking is None
