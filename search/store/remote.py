"""How does an object store keep results, which has neither renames nor locks?  The manifest is written last.

The files of each attempt lie in a folder of their own, `ROOT/<stage>/<key>/<attempt>/`, so that two machines never mix
theirs; `ROOT/<stage>/<key>/manifest.json` then names the attempt that counts, and without it nothing is there. Where the
store can create a file only if there is none (S3, Google's), the first manifest wins; elsewhere the last of two that
were written in the same moment, which is whole, too.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, final

from coreml_pareto.search.store.files import write_whole
from coreml_pareto.search.store.keys import is_key
from coreml_pareto.search.store.manifest import MANIFEST, Damaged, Manifest
from coreml_pareto.search.store.shelf import Artifact, Leftover


@final
@dataclass(frozen=True)
class Remote:
    """Results behind any file system of fsspec; `fs` is one."""

    fs: Any
    root: str
    url: str

    @property
    def name(self) -> str:
        """The URL."""
        return self.url

    def probe(self) -> None:
        """Write a small file and remove it."""
        path = f"{self.root}/.work/{uuid.uuid4().hex}"
        self.fs.makedirs(f"{self.root}/.work", exist_ok=True)
        self.fs.pipe_file(path, b"written")
        self.fs.rm_file(path)

    def fetch(self, stage: str, key: str, to: Path) -> bool:
        """Download a result into an empty folder; False where there is none."""
        manifest = self._manifest(stage, key)
        if manifest is None:
            return False
        try:
            for name in manifest.files:
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                self.fs.get_file(f"{self._folder(stage, key)}/{manifest.place}/{name}", str(to / name))
        except FileNotFoundError as error:
            if self._manifest(stage, key) == manifest:
                raise Damaged("a file is missing") from error
            return False  # removed meanwhile
        replace(manifest, place="").write(to)
        return True

    def publish(self, stage: str, key: str, result: Path) -> bool:
        """Upload a finished folder, its manifest last; False where another process was first."""
        if self._manifest(stage, key) is not None:
            return False
        manifest = replace(Manifest.load(result), place=uuid.uuid4().hex)
        folder = f"{self._folder(stage, key)}/{manifest.place}"
        for name in manifest.files:
            self.fs.makedirs(f"{folder}/{name}".rpartition("/")[0], exist_ok=True)  # nothing, in an object store
            self.fs.put_file(str(result / name), f"{folder}/{name}")
        try:
            self.fs.pipe_file(f"{self._folder(stage, key)}/{MANIFEST}", manifest.dump(), mode="create")
        except FileExistsError:
            self.fs.rm(folder, recursive=True)
            return False
        return True

    def park(self, name: str, file: Path) -> None:
        """Upload it, as an attempt without a manifest; object stores show a file when it is whole."""
        self.fs.makedirs(self._parked(name).rpartition("/")[0], exist_ok=True)
        self.fs.put_file(str(file), self._parked(name))

    def fetch_parked(self, name: str, to: Path) -> bool:
        """Download it, visible whole."""
        try:
            write_whole(to, self.fs.cat_file(self._parked(name)))
        except FileNotFoundError:
            return False
        return True

    def unpark(self, name: str) -> None:
        """Take it away."""
        self.fs.invalidate_cache()
        if self.fs.exists(self._parked(name)):
            self.fs.rm_file(self._parked(name))

    def _parked(self, name: str) -> str:
        stage, _, key = name.rpartition("-")
        return f"{self._folder(stage, key)}/parked/checkpoint"

    def remove(self, artifact: Artifact) -> None:
        """Take a result away, its manifest first."""
        folder = self._folder(artifact.stage, artifact.key)
        self.fs.invalidate_cache()
        for path in (f"{folder}/{MANIFEST}", folder):
            if self.fs.exists(path):
                self.fs.rm(path, recursive=True)

    def lock(self, stage: str, key: str) -> Path | None:
        """There are none."""
        return None

    def artifacts(self) -> Iterator[Artifact]:
        """Everything that was published."""
        for stage, key, *rest in sorted(self._files()):
            if rest == [MANIFEST] and is_key(key):
                try:
                    yield Artifact(stage, key, self._manifest(stage, key))
                except Damaged:
                    yield Artifact(stage, key, None)

    def leftovers(self) -> Iterator[Leftover]:
        """Attempts without a manifest that names them; one that is being uploaded is among them."""
        files = self._files()
        attempts: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for parts, info in files.items():
            if len(parts) > 3 and is_key(parts[1]):
                attempts.setdefault(parts[:3], []).append(info)
        published = {(a.stage, a.key, a.manifest.place) for a in self.artifacts() if a.manifest}
        for place in sorted(attempts.keys() - published):
            infos = attempts[place]
            yield Leftover("/".join(place), sum(int(info["size"]) for info in infos), max(map(_changed, infos)))

    def clear(self, leftover: Leftover) -> None:
        """Take an attempt away."""
        self.fs.rm(f"{self.root}/{leftover.place}", recursive=True)

    def damage(self, artifact: Artifact) -> str | None:
        """Download every byte."""
        manifest = artifact.manifest
        if manifest is None:
            return f"its {MANIFEST} cannot be read"
        for name, (size, digest) in manifest.files.items():
            try:
                content = self.fs.cat_file(f"{self._folder(artifact.stage, artifact.key)}/{manifest.place}/{name}")
            except FileNotFoundError:
                return f"{name} is missing"
            if len(content) != size:
                return f"{name} has {len(content)} of {size} bytes"
            if hashlib.sha256(content).hexdigest() != digest:
                return f"{name} has changed"
        return None

    def _folder(self, stage: str, key: str) -> str:
        return f"{self.root}/{stage}/{key}"

    def _manifest(self, stage: str, key: str) -> Manifest | None:
        try:  # read, not looked for: listings may be cached
            return Manifest.parse(self.fs.cat_file(f"{self._folder(stage, key)}/{MANIFEST}"))
        except FileNotFoundError:
            return None

    def _files(self) -> dict[tuple[str, ...], dict[str, Any]]:
        """What the store says of each file, by the parts of its path below the root."""
        self.fs.invalidate_cache()
        found = self.fs.find(self.root, detail=True)
        below = {tuple(path.removeprefix(self.root).strip("/").split("/")): info for path, info in found.items()}
        return {parts: info for parts, info in below.items() if len(parts) > 2}


def _changed(info: dict[str, Any]) -> float:
    """When a file was changed: each file system has a word of its own for it; now, where it has none."""
    for word in ("LastModified", "mtime", "updated", "last_modified", "created"):
        value = info.get(word)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            return datetime.fromisoformat(value).timestamp()
    return time.time()
