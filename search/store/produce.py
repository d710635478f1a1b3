"""How does a stage come to its result?  It is found in the run's own folder, fetched from where it is shared, or made.

A run folder holds everything that its run used, so that it can be read, moved and given away by itself. A store that is
shared by runs and machines stands behind it: what is there is fetched, what was made is published there, and whoever
publishes first is taken by all. Behind that may stand the store of another run that this one begins with.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import final

from coreml_pareto.search.lock import turn
from coreml_pareto.search.store.disk import require_disk
from coreml_pareto.search.store.files import sync
from coreml_pareto.search.store.folder import Folder
from coreml_pareto.search.store.manifest import Damaged, Manifest
from coreml_pareto.search.store.parking import Parking
from coreml_pareto.search.store.shelf import Artifact, Shelf

log = logging.getLogger(__name__)


def _nothing() -> None:
    pass


@final
@dataclass(frozen=True)
class Store:
    """A content-addressed folder of finished stage results.

    Attributes:
        root: the run's own folder of results.
        shared: where other runs and machines find them, too.
        origin: another run's results, which are read and never written.
        waiting: called twice a second while another process makes what is wanted; what it raises ends the wait.
        tell: told in a line of results that were damaged and of a shared store that does not answer.
        parks: whether checkpoints are shared, too, for other machines to go on from.
    """

    root: Path
    shared: Shelf | None = None
    waiting: Callable[[], None] = _nothing
    tell: Callable[[str], None] = log.warning
    parks: bool = False
    origin: Shelf | None = None
    _told: set[str] = field(default_factory=set, compare=False, repr=False)

    @cached_property
    def own(self) -> Folder:
        """The run's own results."""
        return Folder(self.root)

    @cached_property
    def parking(self) -> Parking | None:
        """Where checkpoints of work in progress are parked for other machines, if they are."""
        return (
            Parking(self.shared, partial(self._without, self.shared))
            if self.parks and self.shared is not None
            else None
        )

    def find(self, stage: str, key: str) -> Path | None:
        """Return the finished result, or None; one that is damaged is removed and counts as none."""
        try:
            found = self.own.find(stage, key)
        except Damaged as damage:
            self._drop(self.own, stage, key, damage)
            found = None
        return found if found is not None else self._fetch(stage, key)

    def produce(self, stage: str, key: str, make: Callable[[Path], None], about: str = "") -> Path:
        """Return the finished result, made now if it does not exist.

        Args:
            make: gets the folder of work in progress (with what an interrupted attempt left) and writes its files there.
                Whatever it raises is passed on and nothing is published.
            about: the network and what is done to it, for people who list the store.
        """
        found = self.find(stage, key)
        if found is not None:
            return found
        with self._turn(stage, key):
            found = self.find(stage, key)  # another process may have made it meanwhile
            if found is not None:
                return found
            work = self.own.work(f"{stage}-{key}")
            if not _finished(work):  # else it was killed in the moment of publishing
                make(work)
                _seal(work, about)
            published = self._publish(stage, key, work)
            if self.parking:
                self.parking.clear(work.name)
            return published

    def _publish(self, stage: str, key: str, work: Path) -> Path:
        if self.shared is not None and not self._share(stage, key, work):
            theirs = self._fetch(stage, key)  # trainings of two machines differ in the last bits: all take the first
            if theirs is not None:
                shutil.rmtree(work)
                return theirs
        self.own.adopt(stage, key, work)
        return self.root / stage / key

    def _share(self, stage: str, key: str, work: Path) -> bool:
        """Publish where others find it; False where another process was first."""
        assert self.shared is not None
        try:
            return self.shared.publish(stage, key, work)
        except Exception as error:  # each file system has its own
            self._without(self.shared, "written", error)
            return True

    def _fetch(self, stage: str, key: str) -> Path | None:
        """Return a result of the shared store, or of the other run, after it was copied here and every byte was checked."""
        shelves = (shelf for shelf in (self.shared, self.origin) if shelf is not None)
        return next((found for shelf in shelves if (found := self._fetch_from(shelf, stage, key)) is not None), None)

    def _fetch_from(self, shelf: Shelf, stage: str, key: str) -> Path | None:
        try:
            draft = self.own.work(f"fetch-{uuid.uuid4().hex}")
            try:
                if not shelf.fetch(stage, key, draft):
                    return None
                if damage := Manifest.load(draft).damage(draft, digests=True):
                    raise Damaged(damage)
                self.own.adopt(stage, key, draft)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            return self.own.find(stage, key)
        except Damaged as damage:
            if shelf is self.origin:
                self.tell(f"{stage}/{key} in {shelf.name} is damaged ({damage}); it is done without")
            else:
                self._drop(shelf, stage, key, damage)
        except Exception as error:  # each file system has its own
            require_disk(self.root, error)
            self._without(shelf, "read", error)
        return None

    def _drop(self, shelf: Shelf, stage: str, key: str, damage: Damaged) -> None:
        self.tell(f"{stage}/{key} in {shelf.name} was damaged ({damage}); it is made anew")
        try:
            shelf.remove(Artifact(stage, key, None))
        except Exception as error:
            if shelf is self.own:
                raise
            self._without(shelf, "written", error)

    def _without(self, shelf: Shelf, what: str, error: Exception) -> None:
        """Say once that another store does not answer: a night is not lost by it."""
        line = f"The store {shelf.name} cannot be {what} ({_spelt(error)}); the run goes on with its own folder"
        if line not in self._told:
            self._told.add(line)
            self.tell(line)

    @contextmanager
    def _turn(self, stage: str, key: str) -> Iterator[None]:
        path = None
        if self.shared is not None:
            try:
                path = self.shared.lock(stage, key)
            except OSError as error:
                self._without(self.shared, "written", error)
        with turn(path if path is not None else self.own.lock(stage, key), self.waiting):
            yield


def _finished(work: Path) -> bool:
    try:
        return Manifest.load(work).damage(work, digests=True) is None
    except (FileNotFoundError, Damaged):
        return False


def _seal(work: Path, about: str) -> None:
    """Write the manifest, and hand every file over to the disk before a rename shows them."""
    for path in work.rglob("*"):
        if path.is_file():
            sync(path)
    Manifest.of(work, about).write(work)


def _spelt(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
