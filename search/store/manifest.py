"""Is a result whole?  Its manifest says which files it has, how large they are, and their SHA-256."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import final

from coreml_pareto.search.store.files import write_whole

MANIFEST = "manifest.json"


class Damaged(Exception):
    """A published result that is not what its manifest says; the text says in what."""


@final
@dataclass(frozen=True)
class Manifest:
    """What a result consists of.

    Attributes:
        files: size in bytes and SHA-256 by path within the result.
        about: the network and what was done to it, for people.
        created: seconds since 1970.
        place: where the files lie in a remote store, which has no renames; empty beside the manifest.
    """

    files: Mapping[str, tuple[int, str]]
    about: str = ""
    created: float = 0.0
    place: str = ""

    @classmethod
    def of(cls, folder: Path, about: str) -> Manifest:
        """Read a finished folder."""
        found = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
        files = {path.relative_to(folder).as_posix(): (path.stat().st_size, sha256(path)) for path in found}
        return cls(files, about, time.time())

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the manifest of a folder.

        Raises:
            FileNotFoundError: there is none, so there is no result.
            Damaged: it cannot be read.
        """
        return cls.parse((folder / MANIFEST).read_bytes())

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """Read what `dump` wrote; Damaged for anything else, and for paths that lead out of the result."""
        try:
            plain = json.loads(content)
            files = {str(name): (int(size), str(digest)) for name, (size, digest) in plain["files"].items()}
            manifest = cls(files, str(plain["about"]), float(plain["created"]), str(plain["place"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{MANIFEST} cannot be read") from error
        if strange := [name for name in (*files, manifest.place) if not _inside(name)]:
            raise Damaged(f"{MANIFEST} names {strange[0]!r}, which leads out of the result")
        return manifest

    def dump(self) -> bytes:
        """As JSON."""
        plain = {"about": self.about, "created": self.created, "place": self.place, "files": self.files}
        return json.dumps(plain, indent=1).encode()

    def write(self, folder: Path) -> None:
        """Write it beside the files."""
        write_whole(folder / MANIFEST, self.dump())

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())

    def damage(self, folder: Path, *, digests: bool) -> str | None:
        """Return in what a folder differs; None where it is whole. `digests` reads every byte."""
        for name, (size, digest) in self.files.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if (there := path.stat().st_size) != size:
                return f"{name} has {there} of {size} bytes"
            if digests and sha256(path) != digest:
                return f"{name} has changed"
        return None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name
