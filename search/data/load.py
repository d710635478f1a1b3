"""From a name or a path to a data set that is fit for training, or to a refusal before anything is trained."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from coreml_pareto.search.data.dataset import DataSet, Report, Split
from coreml_pareto.search.data.digits import digits
from coreml_pareto.search.data.folder import Listing, few
from coreml_pareto.search.data.kept import Kept, Known, user_cache
from coreml_pareto.search.data.picture import Broken, Found, Picture, Progress, decode_all
from coreml_pareto.search.data.pixels import MEMORY_BUDGET, ArrayCache
from coreml_pareto.search.data.source import list_images
from coreml_pareto.search.data.splits import LEAST_PER_CLASS, assign, leaks, missing_classes, stratified
from coreml_pareto.spaces.errors import UserError

SPLITS = ("train", "validation", "test")
WRITING = frozenset(["digits", "mnist", "kmnist", "qmnist", "emnist", "svhn"])
"""Data sets, as they are published, in which a mirrored picture is another sign."""
FEW_VALIDATION_IMAGES = 100
IMBALANCE = 10
Item = TypeVar("Item", Found, Picture)


def load_data(
    source: str,
    *,
    seed: int = 0,
    validation_share: float = 0.15,
    test_share: float = 0.15,
    max_broken_share: float = 0.01,
    limit: int | None = None,
    memory_budget: int = MEMORY_BUDGET,
    cache_folder: Path | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """The data set `digits`, or the images of a source (`data.source`), checked and split.

    Shares apply to splits that the data does not bring along; `seed` draws them. Up to `max_broken_share` of the images
    (one in any case, unless the share is 0) may be unreadable: they are skipped and reported. `limit` keeps a
    stratified sample of about that many images (at least 4 per class and split) for quick runs. Working pictures up to
    `memory_budget` bytes stay in memory; what is larger lies in temporary files (in `cache_folder`, where it is named).
    What was decoded is kept in `cache_folder` (None: the user's, `data.kept`), so that a later process only reads and
    hashes the files.

    Raises UserError for everything that could not be trained on.
    """
    _check_shares(validation_share, test_share, max_broken_share)
    kept_in: Path | None = None
    notes: tuple[str, ...] = ()
    broken: list[Broken] = []
    if source == "digits":
        listing = Listing("digits", (), tuple("0123456789"), frozenset(), 0, ())
        pictures = _limited(digits(), limit, seed)
    else:
        listing = list_images(source, cache_folder)
        files = _limited(listing.files, limit, seed)
        kept_in, notes = _folder_to_keep_in(cache_folder or user_cache())
        pictures, broken = _opened(files, kept_in, memory_budget, cache_folder, progress)
        _check_lost(listing, max_broken_share)
        _check_broken(broken, len(files), max_broken_share, listing)
    _check_counts(pictures, listing)
    shares = {"validation": validation_share, "test": test_share}
    missing = {split: share for split, share in shares.items() if split not in listing.given}
    splits = assign(pictures, missing, seed)
    pictures = [replace(picture, split=split) for picture, split in zip(pictures, splits, strict=True)]
    notes = (*_notes(missing, listing, seed), *notes)
    return _data_set(listing, pictures, broken, notes, ArrayCache(memory_budget, kept_in))


def _folder_to_keep_in(folder: Path | None) -> tuple[Path | None, tuple[str, ...]]:
    """Where decoded pictures are kept, and what is to be said about it."""
    problem = None if folder is None else Kept(folder).problem()
    if problem is None:
        return folder, ()
    return None, (f"decoded pictures are not kept for later commands: {folder}: {problem}",)


def _opened(
    files: Sequence[Found], kept_in: Path | None, memory_budget: int, spill: Path | None, progress: Progress | None
) -> tuple[list[Picture], list[Broken]]:
    """The files, decoded unless an earlier process did and kept what it found."""
    known = None if kept_in is None else Known(Kept(kept_in), (file.name for file in files))
    sides = None if known is None else known.sides
    pictures, broken = decode_all(
        files, memory_budget=memory_budget, spill_folder=spill, known=sides, progress=progress
    )  # fmt: skip
    if known is not None:
        known.remember({picture.digest: picture.shorter_side for picture in pictures})
    return pictures, broken


def _check_shares(validation: float, test: float, broken: float) -> None:
    if not (validation > 0 and test > 0 and validation + test <= 0.8):
        raise UserError(
            "Validation and test shares are above 0 and at most 0.8 together; "
            f"got {validation} and {test}; try 0.15 each"
        )
    if not 0 <= broken < 1:
        raise UserError(f"The share of broken images is from 0 to below 1; got {broken}; try 0.01")


def _limited(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """A sample of about `limit` items, stratified by split and class."""
    if limit is None:
        return list(items)
    _, groups = np.unique([f"{item.split}/{item.label}" for item in items], return_inverse=True)
    return [items[row] for row in stratified(groups.astype(np.int64), limit, seed, least=LEAST_PER_CLASS)]


def _check_broken(broken: Sequence[Broken], total: int, share: float, listing: Listing) -> None:
    allowed = _allowed(total, share)
    if len(broken) > allowed:
        first = "; ".join(f"{image.name} ({image.reason})" for image in broken[:3])
        raise UserError(
            f"At most {share:.1%} of the images, here {allowed}, may be unreadable; got {len(broken)} of {total} in "
            f"{listing.name}: {first}{'; ...' if len(broken) > 3 else ''}; repair or remove them, or let the study allow "
            "a larger share: splits.max_broken"
        )


def _check_lost(listing: Listing, share: float) -> None:
    """What a stream left out without a name counts as unreadable."""
    total = len(listing.files) + listing.lost
    if listing.lost > (allowed := _allowed(total, share)):
        raise UserError(
            f"At most {share:.1%} of the images, here {allowed}, may be unreadable; {listing.lost} of {total} in "
            f"{listing.name} were announced and not delivered; repair the source, or let the study allow a larger share: "
            "splits.max_broken"
        )


def _allowed(total: int, share: float) -> int:
    return max(1, int(share * total)) if share else 0


def _check_counts(pictures: Sequence[Picture], listing: Listing) -> None:
    total = Counter(picture.label for picture in pictures)
    if scarce := [f"{label} ({total[label]})" for label in listing.classes if total[label] < LEAST_PER_CLASS]:
        raise UserError(
            f"Each class needs at least {LEAST_PER_CLASS} readable images; got fewer in {few(scarce)} of "
            f"{listing.name}; add images or remove the class"
        )
    training = Counter(picture.label for picture in pictures if picture.split in ("", "train"))
    if untrained := [label for label in listing.classes if not training[label]]:
        raise UserError(
            f"Each class needs training images; none is readable in {few(untrained)} of {listing.name}; add images"
        )
    if dark := sorted(listing.given - {picture.split for picture in pictures}):
        raise UserError(f"Each split needs readable images; got none in {few(dark)} of {listing.name}; add images")


def _notes(missing: dict[str, float], listing: Listing, seed: int) -> Iterator[str]:
    whole = "training images" if listing.given else "images"
    for split, share in missing.items():
        yield f"{split} was drawn from the {whole}: {share:.0%} of each class, seed {seed}"


def _warnings(pictures: Sequence[Picture], listing: Listing) -> Iterator[str]:
    yield from listing.warnings
    yield from missing_classes(pictures, listing.classes)
    yield from leaks(pictures)
    training = Counter(picture.label for picture in pictures if picture.split == "train")
    (most, high), (least, low) = training.most_common()[0], training.most_common()[-1]
    if high > IMBALANCE * low:
        yield f"'{most}' has {high} training images, '{least}' only {low}: top-1 will mostly speak of the large classes"
    validating = sum(picture.split == "validation" for picture in pictures)
    if validating < FEW_VALIDATION_IMAGES:
        yield f"validation has only {validating} images: accuracies will have wide intervals"


def _digest(classes: Sequence[str], pictures: Sequence[Picture]) -> str:
    """SHA-256 over canonical JSON of the class names and one line per picture, sorted by name."""
    rows = sorted((p.name, p.label, p.split, p.size, p.digest) for p in pictures)
    return hashlib.sha256(json.dumps([list(classes), rows]).encode()).hexdigest()


def _data_set(
    listing: Listing, pictures: Sequence[Picture], broken: Sequence[Broken], notes: tuple[str, ...], cache: ArrayCache
) -> DataSet:
    index = {label: target for target, label in enumerate(listing.classes)}
    parts = {name: tuple(picture for picture in pictures if picture.split == name) for name in SPLITS}
    splits = {
        name: Split(part, np.array([index[picture.label] for picture in part], np.int64), cache)
        for name, part in parts.items()
    }
    counts = {name: Counter(picture.label for picture in part) for name, part in parts.items()}
    report = Report(
        images={name: {label: count[label] for label in listing.classes} for name, count in counts.items()},
        skipped=tuple(broken),
        ignored_files=listing.ignored,
        notes=notes,
        warnings=tuple(_warnings(pictures, listing)),
    )
    return DataSet(
        name=listing.name,
        classes=listing.classes,
        train=splits["train"],
        validation=splits["validation"],
        digest=_digest(listing.classes, pictures),
        native_resolution=int(np.median([picture.shorter_side for picture in pictures])),
        flip_safe=listing.name.lower() not in WRITING,
        report=report,
        hidden_test=splits["test"],
    )
