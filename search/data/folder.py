"""Which images does a folder hold, in which classes and splits?

Two layouts: `ROOT/train/<class>/...` with optional `val/` and `test/`, or just `ROOT/<class>/...`. Only names are
looked at here, so that a folder of the wrong shape is refused within a second.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
LAYOUT = "ROOT/<class>/image.jpg or ROOT/train/<class>/image.jpg"


@dataclass(frozen=True)
class Folder:
    """What a folder holds: its image files sorted by name, its classes, and how many files were passed over."""

    name: str
    files: tuple[Found, ...]
    classes: tuple[str, ...]
    given: frozenset[str]
    ignored: int
    warnings: tuple[str, ...]


def scan(root: Path) -> Folder:
    """All images below `root`. UserError for a folder that cannot be a classification data set."""
    _must_be_folder(root)
    splits = split_folders(root)
    outside = [] if not splits else [folder.name for folder in _folders(root) if folder not in splits]
    files: list[Found] = []
    ignored = 0
    for top, split in (splits or {root: ""}).items():
        for label in _folders(top):
            ours, others = _images(label, root, split)
            files += ours
            ignored += others
    strays = sum(_is_image(entry.name) for top in {root, *splits} for entry in top.iterdir() if entry.is_file())
    train_top = next((top for top, split in splits.items() if split == "train"), root)
    classes = tuple(sorted(_normal(folder.name) for folder in _folders(train_top)))
    folder = Folder(
        name=root.resolve().name,
        files=tuple(sorted(files, key=lambda file: file.name)),
        classes=classes,
        given=frozenset(splits.values()),
        ignored=ignored,
        warnings=tuple(_stray_warnings(strays, outside)),
    )
    check(folder, root, strays)
    return folder


def check(folder: Folder, root: Path, strays: int = 0) -> None:
    """Refuse what no classifier can be trained on, before a single pixel is read."""
    if not folder.classes:
        came = f"{strays} images outside class folders" if strays else "no folders and no images"
        raise UserError(f"Images are sorted into one folder per class; got {came} in {root}; arrange {LAYOUT}")
    _check_case(folder, root)
    if len(folder.classes) == 1:
        only = folder.classes[0]
        raise UserError(
            f"A classifier needs at least two classes; got one, '{only}', in {root}; add a folder for a second class, "
            f"or pass the folder that holds the class folders ({root / only}?)"
        )
    labelled = Counter(file.label for file in folder.files if file.split in ("", "train"))
    if empty := [name for name in folder.classes if not labelled[name]]:
        raise UserError(
            f"Each class needs training images; got none in {few(empty)} of {root}; "
            "add images (JPEG, PNG, WebP, TIFF, ...) or remove the folder"
        )
    if hollow := sorted(folder.given - {file.split for file in folder.files}):
        raise UserError(
            f"A split folder holds class folders with images; got none in {few(hollow)} of {root}; "
            "add images, or remove the folder and the split is drawn from train"
        )
    if unknown := sorted({file.label for file in folder.files} - set(folder.classes)):
        raise UserError(
            f"Each class must be in the training folder; validation or test of {root} also has {few(unknown)}; "
            "add training images for it or remove the folder"
        )


def _check_case(folder: Folder, root: Path) -> None:
    spellings: dict[str, str] = {}
    for label in sorted({*folder.classes, *(file.label for file in folder.files)}):
        other = spellings.setdefault(label.casefold(), label)
        if other != label:
            raise UserError(
                f"Class folders must not differ in upper and lower case only; got '{other}' and '{label}' in {root}; "
                "give both the same name"
            )


def _must_be_folder(root: Path) -> None:
    if root.is_file():
        raise UserError(f"Data is 'digits' or a folder of images; got the file {root}; unpack it and pass the folder")
    if not root.is_dir():
        raise UserError(f"Data is 'digits' or a folder of images; {root} does not exist; check the path ({LAYOUT})")


def split_folders(root: Path) -> dict[Path, str]:
    """The train, validation and test folders of `root`; empty where it holds class folders directly."""
    found = {
        folder: SPLIT_FOLDERS[folder.name.lower()] for folder in _folders(root) if folder.name.lower() in SPLIT_FOLDERS
    }
    for split, count in Counter(found.values()).items():
        if count > 1:
            names = [folder.name for folder in found if found[folder] == split]
            raise UserError(f"A data set has one {split} folder; got {few(names)} in {root}; keep one of them")
    if found and "train" not in found.values():
        names = [folder.name for folder in found]
        raise UserError(
            f"Validation and test folders go with a train folder; got {few(names)} without train in {root}; "
            "add train/<class>/..., or rename the folder if it is a class"
        )
    return found


def _images(label: Path, root: Path, split: str) -> tuple[list[Found], int]:
    """The images of one class folder, nested folders included, and the number of other files."""
    ours: list[Found] = []
    others = 0
    for path in _walk(label):
        if _is_image(path.name):
            ours.append(Found(path, _normal(path.relative_to(root).as_posix()), _normal(label.name), split))
        else:
            others += 1
    return ours, others


def _walk(top: Path) -> Iterator[Path]:
    """Files below `top`; links are followed, but no folder is entered twice; hidden folders are skipped."""
    entered: set[str] = set()
    for here, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in entered else sorted(name for name in folders if not _hidden(name))
        if real not in entered:
            yield from (Path(here, name) for name in files)
        entered.add(real)


def _folders(top: Path) -> list[Path]:
    return sorted(entry for entry in top.iterdir() if entry.is_dir() and not _hidden(entry.name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_image(name: str) -> bool:
    return not _hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _normal(name: str) -> str:
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
