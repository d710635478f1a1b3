"""Which images does a tar archive hold?

An archive of an image folder counts as that folder: same layouts, same names, same refusals (`data.folder`). An archive
of one folder is that folder; a tar within it is a folder of its stem, so that an archive of one tar per class, as
ImageNet is distributed, can be read as it is. Members are never written to disk by their names: images are read from
where they lie. A compressed archive has no such places and is unpacked, as one file without a name, for as long as the
command runs. Links, devices, sparse files and members whose path leads out of the archive are passed over.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import IO

from coreml_pareto.search.data.folder import Listing, hidden, inner_folder, list_tree
from coreml_pareto.search.data.slices import Slice, Spool, Whole
from coreml_pareto.spaces.errors import UserError

Opener = Callable[[Path], BufferedIOBase]
COMPRESSED: tuple[tuple[bytes, Opener], ...] = (
    (b"\x1f\x8b", gzip.GzipFile),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
)
"""First bytes, and what opens such a file."""
SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)


@dataclass(eq=False)
class Branch:
    """A folder or a file of an archive, as `data.folder` reads a tree."""

    name: str
    content: Slice | None = None
    children: dict[str, Branch] = field(default_factory=dict)

    def is_dir(self) -> bool:
        return self.content is None

    def is_file(self) -> bool:
        return self.content is not None

    def iterdir(self) -> Iterator[Branch]:
        return iter(self.children.values())

    def read_bytes(self) -> bytes:
        return b"" if self.content is None else self.content.read_bytes()

    def folder(self, *parts: str) -> Branch:
        """The folder at this path below, made where it is missing."""
        here = self
        for part in parts:
            if part not in here.children or here.children[part].is_file():
                here.children[part] = Branch(part)
            here = here.children[part]
        return here


@dataclass
class _Count:
    passed_over: int = 0
    unended: bool = False


def is_tar(path: Path) -> bool:
    """Whether a file is called like a tar archive."""
    return path.name.lower().endswith(SUFFIXES)


def scan_tar(path: Path, spill_folder: Path | None = None) -> Listing:
    """All images of an archive.

    Raises:
        UserError: it is damaged, or cannot be a classification data set.
    """
    try:
        whole, count, root = _opened(path, spill_folder), _Count(), Branch(path.name)
        _grow(root, whole.file, whole, 0, count, nested=False)
    except DAMAGE as error:
        raise UserError(
            f"Data in a .tar is a whole archive; {path} cannot be read as one ({error}); copy or download it again, "
            "or unpack it and pass the folder"
        ) from error
    listing = list_tree(inner_folder(root), _stem(path), str(path))
    return _told(listing, count, path)


def _told(listing: Listing, count: _Count, path: Path) -> Listing:
    late = (f"{path.name} has no end mark: it may have been cut short",) if count.unended else ()
    return replace(listing, ignored=listing.ignored + count.passed_over, warnings=(*listing.warnings, *late))


def _opened(path: Path, spill_folder: Path | None) -> Whole:
    """The tar file, uncompressed."""
    with path.open("rb") as file:
        first = file.read(8)
    for magic, opener in COMPRESSED:
        if first.startswith(magic):
            spool = Spool(str(path), spill_folder)
            with opener(path) as source:
                spool.copy(source)
            return spool.whole
    return Whole(path.open("rb"))


def _grow(tree: Branch, file: IO[bytes], whole: Whole, base: int, count: _Count, *, nested: bool) -> None:
    """Put an archive's members into the tree; `base` is where the archive begins within `whole`."""
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            parts = _parts(member.name)
            if member.isdir() and parts is not None:
                tree.folder(*parts)
            elif parts is None or not member.isreg() or member.issparse() or not parts:
                count.passed_over += 1
            elif parts[-1].lower().endswith(".tar") and not hidden(parts[-1]) and not nested:
                inner = archive.extractfile(member)
                assert inner is not None  # a regular file
                below = tree.folder(*parts[:-1], parts[-1][: -len(".tar")])
                _grow(below, inner, whole, base + member.offset_data, count, nested=True)
            else:
                content = Slice(whole, base + member.offset_data, member.size)
                tree.folder(*parts[:-1]).children[parts[-1]] = Branch(parts[-1], content)
        _check_end(archive.offset, file, count)


def _check_end(offset: int, file: IO[bytes], count: _Count) -> None:
    """tarfile takes a damaged header behind the first member for the end of the archive."""
    file.seek(offset)
    mark = file.read(tarfile.BLOCKSIZE)
    if mark.strip(b"\0"):
        raise tarfile.ReadError(f"no header at byte {offset}")
    count.unended |= not mark


def _parts(name: str) -> tuple[str, ...] | None:
    """The path of a member; None where it leads out of the archive."""
    path = PurePosixPath(name)
    return None if path.is_absolute() or ".." in path.parts else path.parts


def _stem(path: Path) -> str:
    suffix = next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)] or path.name
