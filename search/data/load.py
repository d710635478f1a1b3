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
from coreml_pareto.search.data.folder import Folder, few, scan
from coreml_pareto.search.data.picture import Broken, Found, Picture, Progress, decode_all
from coreml_pareto.search.data.pixels import MEMORY_BUDGET, ArrayCache
from coreml_pareto.search.data.splits import LEAST_PER_CLASS, assign, leaks, missing_classes, stratified
from coreml_pareto.spaces.errors import UserError

SPLITS = ("train", "validation", "test")
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
    """The data set `digits`, or an image folder, checked, decoded and split.

    Shares apply to splits that the data does not bring along; `seed` draws them. Up to `max_broken_share` of the images
    (one in any case, unless the share is 0) may be unreadable: they are skipped and reported. `limit` keeps a
    stratified sample of about that many images (at least 4 per class and split) for quick runs. Working pictures up to
    `memory_budget` bytes stay in memory, and so do prepared arrays up to the same amount again; what is larger lies in
    `cache_folder`, or in temporary files.

    Raises UserError for everything that could not be trained on.
    """
    _check_shares(validation_share, test_share, max_broken_share)
    if source == "digits":
        folder = Folder("digits", (), tuple("0123456789"), frozenset(), 0, ())
        pictures = _limited(digits(), limit, seed)
        broken: list[Broken] = []
    else:
        folder = scan(Path(source).expanduser())
        files = _limited(folder.files, limit, seed)
        pictures, broken = decode_all(files, memory_budget=memory_budget, spill_folder=cache_folder, progress=progress)
        _check_broken(broken, len(files), max_broken_share, folder)
    _check_counts(pictures, folder)
    shares = {"validation": validation_share, "test": test_share}
    missing = {split: share for split, share in shares.items() if split not in folder.given}
    splits = assign(pictures, missing, seed)
    pictures = [replace(picture, split=split) for picture, split in zip(pictures, splits, strict=True)]
    return _data_set(
        folder, pictures, broken, tuple(_notes(missing, folder, seed)), ArrayCache(memory_budget, cache_folder)
    )


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


def _check_broken(broken: Sequence[Broken], total: int, share: float, folder: Folder) -> None:
    allowed = max(1, int(share * total)) if share else 0
    if len(broken) > allowed:
        first = "; ".join(f"{image.name} ({image.reason})" for image in broken[:3])
        raise UserError(
            f"At most {share:.1%} of the images, here {allowed}, may be unreadable; got {len(broken)} of {total} in "
            f"{folder.name}: {first}{'; ...' if len(broken) > 3 else ''}; repair or remove them, or let the study allow "
            "a larger share: splits.max_broken"
        )


def _check_counts(pictures: Sequence[Picture], folder: Folder) -> None:
    total = Counter(picture.label for picture in pictures)
    if scarce := [f"{label} ({total[label]})" for label in folder.classes if total[label] < LEAST_PER_CLASS]:
        raise UserError(
            f"Each class needs at least {LEAST_PER_CLASS} readable images; got fewer in {few(scarce)} of "
            f"{folder.name}; add images or remove the class"
        )
    training = Counter(picture.label for picture in pictures if picture.split in ("", "train"))
    if untrained := [label for label in folder.classes if not training[label]]:
        raise UserError(
            f"Each class needs training images; none is readable in {few(untrained)} of {folder.name}; add images"
        )
    if dark := sorted(folder.given - {picture.split for picture in pictures}):
        raise UserError(f"Each split needs readable images; got none in {few(dark)} of {folder.name}; add images")


def _notes(missing: dict[str, float], folder: Folder, seed: int) -> Iterator[str]:
    whole = "training images" if folder.given else "images"
    for split, share in missing.items():
        yield f"{split} was drawn from the {whole}: {share:.0%} of each class, seed {seed}"


def _warnings(pictures: Sequence[Picture], folder: Folder) -> Iterator[str]:
    yield from folder.warnings
    yield from missing_classes(pictures, folder.classes)
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
    folder: Folder, pictures: Sequence[Picture], broken: Sequence[Broken], notes: tuple[str, ...], cache: ArrayCache
) -> DataSet:
    index = {label: target for target, label in enumerate(folder.classes)}
    parts = {name: tuple(picture for picture in pictures if picture.split == name) for name in SPLITS}
    splits = {
        name: Split(part, np.array([index[picture.label] for picture in part], np.int64), cache)
        for name, part in parts.items()
    }
    counts = {name: Counter(picture.label for picture in part) for name, part in parts.items()}
    report = Report(
        images={name: {label: count[label] for label in folder.classes} for name, count in counts.items()},
        skipped=tuple(broken),
        ignored_files=folder.ignored,
        notes=notes,
        warnings=tuple(_warnings(pictures, folder)),
    )
    return DataSet(
        name=folder.name,
        classes=folder.classes,
        train=splits["train"],
        validation=splits["validation"],
        digest=_digest(folder.classes, pictures),
        native_resolution=int(np.median([picture.shorter_side for picture in pictures])),
        flip_safe=folder.name != "digits",
        report=report,
        hidden_test=splits["test"],
    )
