"""Which images does a folder hold, in which classes and splits?

Two layouts: `ROOT/train/<class>/...` with optional `val/` and `test/`, or just `ROOT/<class>/...`. Only names are
looked at here, so that a folder of the wrong shape is refused within a second. A folder is one on the disk or the tree
of an archive (`data.tar`): the rules are the same.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from coreml_pareto.search.data.picture import Found
from coreml_pareto.spaces.errors import UserError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
IMAGE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif", ".ppm"]
)
FORMS = "'digits', a folder of images, its .tar, a .csv of paths and labels, hf:NAME or another reader of timm"
LAYOUT = "ROOT/<class>/image.jpg or ROOT/train/<class>/image.jpg"


class Place(Protocol):
    """A folder or a file, on the disk (`pathlib.Path`) or in an archive."""

    @property
    def name(self) -> str: ...
    def is_dir(self) -> bool: ...
    def is_file(self) -> bool: ...
    def iterdir(self) -> Iterator[Self]: ...
    def read_bytes(self) -> bytes: ...


P = TypeVar("P", bound=Place)


@dataclass(frozen=True)
class Listing:
    """What a source holds: its images sorted by name, its classes, and how many files were passed over."""

    name: str
    files: tuple[Found, ...]
    classes: tuple[str, ...]
    given: frozenset[str]
    """The splits that the source brings along."""
    ignored: int
    warnings: tuple[str, ...]
    lost: int = 0
    """Images that a stream announced and did not deliver."""


def scan(root: Path) -> Listing:
    """All images below `root`. UserError for a folder that cannot be a classification data set."""
    _must_be_folder(root)
    return list_tree(root, root.resolve().name, str(root))


def list_tree(root: Place, name: str, shown: str) -> Listing:
    """All images below a folder; messages call it `shown`. UserError where it cannot be a classification data set."""
    splits = split_folders(root, shown)
    outside = [] if not splits else [folder.name for folder in _folders(root) if folder not in splits]
    files: list[Found] = []
    ignored = 0
    for top, split in (splits or {root: ""}).items():
        for label in _folders(top):
            ours, others = _images(label, f"{top.name}/{label.name}" if splits else label.name, split)
            files += ours
            ignored += others
    strays = sum(is_image(entry.name) for top in {root, *splits} for entry in top.iterdir() if entry.is_file())
    train_top = next((top for top, split in splits.items() if split == "train"), root)
    listing = Listing(
        name=name,
        files=tuple(sorted(files, key=lambda file: file.name)),
        classes=tuple(sorted({normal(folder.name) for folder in _folders(train_top)})),
        given=frozenset(splits.values()),
        ignored=ignored,
        warnings=tuple(_stray_warnings(strays, outside)),
    )
    if not listing.classes:
        came = f"{strays} images outside class folders" if strays else "no folders and no images"
        raise UserError(f"Images are sorted into one folder per class; got {came} in {shown}; arrange {LAYOUT}")
    inner = f", or pass the folder that holds the class folders ({shown}/{listing.classes[0]}?)"
    check(listing, shown, inner)
    return listing


def check(listing: Listing, shown: str, inner: str = "") -> None:
    """Refuse what no classifier can be trained on, before a single pixel is read; `inner` is one more way out."""
    labels = sorted({*listing.classes, *(file.label for file in listing.files)})
    _check_spelling(labels, shown)
    if len(listing.classes) == 1:
        raise UserError(
            f"A classifier needs at least two classes; got one, '{listing.classes[0]}', in {shown}; add images of a "
            f"second class{inner}"
        )
    labelled = Counter(file.label for file in listing.files if file.split in ("", "train"))
    if empty := [name for name in listing.classes if not labelled[name]]:
        raise UserError(
            f"Each class needs training images; got none in {few(empty)} of {shown}; "
            "add images (JPEG, PNG, WebP, TIFF, ...) or remove the folder"
        )
    if hollow := sorted(listing.given - {file.split for file in listing.files}):
        raise UserError(
            f"A split folder holds class folders with images; got none in {few(hollow)} of {shown}; "
            "add images, or remove the folder and the split is drawn from train"
        )
    if unknown := sorted(set(labels) - set(listing.classes)):
        raise UserError(
            f"Each class needs training images; validation or test of {shown} also has {few(unknown)}; "
            "add training images for it or leave it out"
        )


def _check_spelling(labels: Sequence[str], shown: str) -> None:
    spellings: dict[str, str] = {}
    for label in labels:
        if label != label.encode(errors="ignore").decode():
            raise UserError(f"Class names are text in UTF-8; got {label!a} in {shown}; rename the class")
        other = spellings.setdefault(label.casefold(), label)
        if other != label:
            raise UserError(
                f"Classes must not differ in upper and lower case only; got '{other}' and '{label}' in {shown}; "
                "give both the same name"
            )


def _must_be_folder(root: Path) -> None:
    if root.is_file():
        raise UserError(f"Data is one of {FORMS}; got the file {root}; pass one of these")
    if not root.is_dir():
        raise UserError(f"Data is one of {FORMS}; {root} does not exist; check the path ({LAYOUT})")


def split_folders(root: P, shown: str = "") -> dict[P, str]:
    """The train, validation and test folders of `root`; empty where it holds class folders directly."""
    shown = shown or str(root)
    found = {
        folder: SPLIT_FOLDERS[folder.name.lower()] for folder in _folders(root) if folder.name.lower() in SPLIT_FOLDERS
    }
    for split, count in Counter(found.values()).items():
        if count > 1:
            names = [folder.name for folder in found if found[folder] == split]
            raise UserError(f"A data set has one {split} folder; got {few(names)} in {shown}; keep one of them")
    if found and "train" not in found.values():
        names = [folder.name for folder in found]
        raise UserError(
            f"Validation and test folders go with a train folder; got {few(names)} without train in {shown}; "
            "add train/<class>/..., or rename the folder if it is a class"
        )
    return found


def inner_folder(root: P) -> P:
    """The folder that an archive of one folder holds, or `root`: `tar -cf photos.tar photos` wraps it once."""
    while True:
        folders = _folders(root)
        images = any(is_image(entry.name) for entry in root.iterdir() if entry.is_file())
        if len(folders) != 1 or images or folders[0].name.lower() in SPLIT_FOLDERS or not _folders(folders[0]):
            return root
        root = folders[0]


def _images(label: Place, prefix: str, split: str) -> tuple[list[Found], int]:
    """The images of one class folder, nested folders included, and the number of other files."""
    ours: list[Found] = []
    others = 0
    for name, place in _walk(label):
        if is_image(place.name):
            ours.append(Found(place, normal(f"{prefix}/{name}"), normal(label.name), split))
        else:
            others += 1
    return ours, others


def _walk(top: Place) -> Iterator[tuple[str, Place]]:
    """Files below `top` by their path within it; hidden folders are skipped."""
    if isinstance(top, Path):
        yield from ((path.relative_to(top).as_posix(), path) for path in _walk_disk(top))
        return
    waiting = [("", top)]  # no recursion: an archive may be as deep as its author likes
    while waiting:
        prefix, here = waiting.pop()
        for entry in here.iterdir():
            if entry.is_file():
                yield prefix + entry.name, entry
            elif not hidden(entry.name):
                waiting.append((f"{prefix}{entry.name}/", entry))


def _walk_disk(top: Path) -> Iterator[Path]:
    """Files below `top`; links are followed, but no folder is entered twice; hidden folders are skipped."""
    entered: set[str] = set()
    for here, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in entered else sorted(name for name in folders if not hidden(name))
        if real not in entered:
            yield from (Path(here, name) for name in files)
        entered.add(real)


def _folders(top: P) -> list[P]:
    return sorted(
        (entry for entry in top.iterdir() if entry.is_dir() and not hidden(entry.name)), key=lambda entry: entry.name
    )


def hidden(name: str) -> bool:
    """Whether a file or folder is no data: hidden, or what macOS lays beside."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return not hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def normal(name: str) -> str:
    """One spelling on every system: macOS decomposes accents in file names, Linux keeps what was written."""
    return unicodedata.normalize("NFC", name)


def _stray_warnings(strays: int, outside: Sequence[str]) -> Iterator[str]:
    if strays:
        yield f"{strays} images outside class folders were passed over"
    if outside:
        yield f"beside train, validation and test these folders were passed over: {few(outside)}"


def few(names: Sequence[str], shown: int = 5) -> str:
    """The first names, and how many more there are."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"'{name}'" for name in names[:shown]) + rest
