"""What must a place be able to do that results are kept in and shared from?  A folder can, and so can an object store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

from coreml_pareto.search.store.manifest import Manifest


@final
@dataclass(frozen=True)
class Artifact:
    """A published result; without a manifest that can be read it counts for nothing and may be removed."""

    stage: str
    key: str
    manifest: Manifest | None

    @property
    def size(self) -> int:
        """Bytes of its files, as its manifest says."""
        return self.manifest.size if self.manifest else 0

    @property
    def created(self) -> float:
        """Seconds since 1970; 0 where nobody knows."""
        return self.manifest.created if self.manifest else 0.0


@final
@dataclass(frozen=True)
class Leftover:
    """Work that was begun and not finished: a checkpoint to go on from, or what a killed process left.

    `changed` is in seconds since 1970.
    """

    place: str
    size: int
    changed: float


class Shelf(Protocol):
    """A place of results."""

    @property
    def name(self) -> str:
        """For people: the folder or URL."""

    def probe(self) -> None:
        """Write a small file and remove it; whatever refuses it is raised."""

    def fetch(self, stage: str, key: str, to: Path) -> bool:
        """Copy a result and its manifest into an empty folder; False where there is none.

        Raises:
            Damaged: it is there and cannot be read whole.
        """

    def publish(self, stage: str, key: str, result: Path) -> bool:
        """Copy a finished folder in, visible whole or not at all; False where another process was first."""

    def park(self, name: str, file: Path) -> None:
        """Copy a file of work in progress in, visible whole; the one before it goes."""

    def fetch_parked(self, name: str, to: Path) -> bool:
        """Copy the parked file of a work out, visible whole; False where there is none."""

    def unpark(self, name: str) -> None:
        """Take a parked file away, if there is one."""

    def remove(self, artifact: Artifact) -> None:
        """Take a result away, its manifest first."""

    def lock(self, stage: str, key: str) -> Path | None:
        """The file by whose lock its users take turns; None where there are no locks."""

    def artifacts(self) -> Iterator[Artifact]:
        """Everything that was published."""

    def leftovers(self) -> Iterator[Leftover]:
        """What nobody is at work on any more."""

    def clear(self, leftover: Leftover) -> None:
        """Take unfinished work away."""

    def damage(self, artifact: Artifact) -> str | None:
        """Read every byte of a result and say in what it is damaged; None where it is whole."""
