"""How does a folder keep results?  `ROOT/<stage>/<key>/`, published by a rename, never changed afterwards.

Work in progress lies in `ROOT/.work/<stage>-<key>/`, which survives a kill: a stage that checkpoints there goes on from
it. From one folder of a disk to another, results are linked and take no second place.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from coreml_pareto.search.lock import held
from coreml_pareto.search.store.files import sync, write_whole
from coreml_pareto.search.store.keys import is_key
from coreml_pareto.search.store.manifest import MANIFEST, Damaged, Manifest
from coreml_pareto.search.store.shelf import Artifact, Leftover

LOCKED = ".lock"
PARKED = "checkpoint"


@final
@dataclass(frozen=True)
class Folder:
    """Results in a folder.

    `known` are those whose every byte this process has read, and when their files were changed last.
    """

    root: Path
    known: dict[Path, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The path."""
        return str(self.root)

    def find(self, stage: str, key: str) -> Path | None:
        """Return a result that is whole, None where there is none: sizes are looked at each time, bytes once.

        Raises:
            Damaged: it is there and is not what its manifest says.
        """
        path = self.root / stage / key
        try:
            manifest = Manifest.load(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        self._check(path, manifest)
        return path

    def _check(self, path: Path, manifest: Manifest) -> None:
        if damage := manifest.damage(path, digests=False):
            raise Damaged(damage)
        times = tuple((path / name).stat().st_mtime_ns for name in manifest.files)
        if self.known.get(path) != times and (damage := manifest.damage(path, digests=True)):
            raise Damaged(damage)
        self.known[path] = times

    def work(self, name: str) -> Path:
        """Make and return a folder of work in progress."""
        path = self.root / ".work" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def probe(self) -> None:
        """Write a small file and remove it."""
        folder = self.work(f"probe-{uuid.uuid4().hex}")
        (folder / "written").write_bytes(b"written")
        shutil.rmtree(folder)

    def fetch(self, stage: str, key: str, to: Path) -> bool:
        """Link or copy a result into an empty folder; False where there is none. Sizes are looked at."""
        source = self.root / stage / key
        try:
            manifest = Manifest.load(source)
            for name in manifest.files:
                _link_or_copy(source / name, to / name)
        except (FileNotFoundError, NotADirectoryError):
            if (source / MANIFEST).exists():
                raise Damaged("a file is missing") from None
            return False
        manifest.write(to)
        return True

    def publish(self, stage: str, key: str, result: Path) -> bool:
        """Link or copy a finished folder in; False where another process was first."""
        draft = self.work(f"publish-{uuid.uuid4().hex}")
        try:
            for name in Manifest.load(result).files:
                _link_or_copy(result / name, draft / name)
                sync(draft / name)
            _link_or_copy(result / MANIFEST, draft / MANIFEST)
            return self.adopt(stage, key, draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def adopt(self, stage: str, key: str, draft: Path) -> bool:
        """Rename a finished folder of this disk into its place; False, the draft gone, where another was first."""
        path = self.root / stage / key
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                draft.rename(path)
            except OSError:
                if not path.is_dir():
                    raise
                if self._whole(stage, key):
                    shutil.rmtree(draft)
                    return False
                self._discard(path)
            else:
                sync(path.parent)
                return True

    def park(self, name: str, file: Path) -> None:
        """Write it beside the work in progress; as such `leftovers` count it."""
        write_whole(self.work(f"parked-{name}") / PARKED, file.read_bytes())

    def fetch_parked(self, name: str, to: Path) -> bool:
        """Copy it out, visible whole."""
        try:
            write_whole(to, (self.root / ".work" / f"parked-{name}" / PARKED).read_bytes())
        except FileNotFoundError:
            return False
        return True

    def unpark(self, name: str) -> None:
        """Take the folder away."""
        shutil.rmtree(self.root / ".work" / f"parked-{name}", ignore_errors=True)

    def _whole(self, stage: str, key: str) -> bool:
        try:
            return self.find(stage, key) is not None
        except Damaged:
            return False

    def remove(self, artifact: Artifact) -> None:
        """Take a result away at once: by a rename, and then file by file."""
        self._discard(self.root / artifact.stage / artifact.key)

    def _discard(self, path: Path) -> None:
        grave = self.work(f"removed-{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):  # another process was first
            path.rename(grave)
        shutil.rmtree(grave)

    def lock(self, stage: str, key: str) -> Path:
        """Beside the work in progress."""
        return self.work("") / f"{stage}-{key}{LOCKED}"

    def artifacts(self) -> Iterator[Artifact]:
        """Everything that was published, and folders that look so."""
        for path in sorted(self.root.glob("[!.]*/*/")):
            if not is_key(path.name):
                continue  # no work of ours: nothing else is ever removed
            try:
                yield Artifact(path.parent.name, path.name, Manifest.load(path))
            except (OSError, Damaged):
                yield Artifact(path.parent.name, path.name, None)

    def leftovers(self) -> Iterator[Leftover]:
        """Work in progress whose lock nobody holds."""
        for path in sorted((self.root / ".work").glob("*/")):
            if not held(path.with_name(path.name + LOCKED)):
                stats = [path.stat(), *(file.stat() for file in path.rglob("*") if file.is_file())]
                yield Leftover(path.name, sum(s.st_size for s in stats[1:]), max(s.st_mtime for s in stats))

    def clear(self, leftover: Leftover) -> None:
        """Take work in progress away, unless somebody has taken it up again."""
        path = self.root / ".work" / leftover.place
        if not held(path.with_name(path.name + LOCKED)):
            shutil.rmtree(path, ignore_errors=True)

    def damage(self, artifact: Artifact) -> str | None:
        """Read every byte."""
        if artifact.manifest is None:
            return f"its {MANIFEST} is missing or cannot be read"
        return artifact.manifest.damage(self.root / artifact.stage / artifact.key, digests=True)


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
