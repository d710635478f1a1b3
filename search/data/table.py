"""Which images does a table of paths and labels name?

A text file with the columns `path`, `label` and, if wanted, `split` (train, val or test), in any order, further columns
passed over; separated by commas, semicolons or tabs, as the header is. Paths are relative to the table's folder. What is
wrong with a table is told by the numbers of its lines, the header being line 1, before a single image is opened.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coreml_pareto.search.data.folder import SPLIT_FOLDERS, Listing, check, few, normal
from coreml_pareto.search.data.picture import Found
from coreml_pareto.search.data.splits import LEAST_PER_CLASS
from coreml_pareto.spaces.errors import UserError

SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t"
NEEDED = ("path", "label")
HEADER = "a header with the columns path, label and, if wanted, split, separated by commas, semicolons or tabs"


@dataclass(frozen=True)
class Row:
    """One line of the table; `number` counts as an editor does."""

    number: int
    path: str
    label: str
    split: str


def is_table(path: Path) -> bool:
    """Whether a file is called like a table."""
    return path.suffix.lower() in SUFFIXES


def scan_table(path: Path) -> Listing:
    """All images that a table names.

    Raises:
        UserError: it is no such table, or cannot be a classification data set; with the numbers of the lines.
    """
    rows = list(_rows(_text(path), path))
    if not rows:
        raise UserError(f"A table names images; got none below the header of {path}; add lines")
    files = [path.parent / row.path for row in rows]
    names = [_name(row.path) for row in rows]
    _refuse(path, "A label is not empty", "without one", (row for row in rows if not row.label), "write it")
    _refuse(
        path, "Paths are relative to the table's folder", "without a file",
        (row for row, file in zip(rows, files, strict=True) if not file.is_file()), "correct or remove them",
    )  # fmt: skip
    counts = Counter(names)
    _refuse(
        path, "Each image stands in a table once", "with the same path",
        (row for row, name in zip(rows, names, strict=True) if counts[name] > 1), "keep one line of each",
    )  # fmt: skip
    splits = _splits(rows, path)
    found = [
        Found(file, name, row.label, split)
        for file, name, row, split in zip(files, names, rows, splits, strict=True)
    ]  # fmt: skip
    _check_classes(rows, path)
    listing = Listing(
        name=path.stem,
        files=tuple(sorted(found, key=lambda file: file.name)),
        classes=tuple(sorted({file.label for file in found if file.split in ("", "train")})),
        given=frozenset(splits) - {""},
        ignored=0,
        warnings=(),
    )
    check(listing, str(path))
    return listing


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"A table is text in UTF-8; {path} is not (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"A table must be readable; {path} is not ({error.strerror}); check its permissions") from error


def _rows(text: str, path: Path) -> Iterator[Row]:
    """The lines with something in them; what is left out at their end is empty."""
    header, delimiter = _header(text, path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    places = {name: header.index(name) for name in (*NEEDED, "split") if name in header}
    long: list[int] = []
    begins = 1
    try:
        for fields in reader:
            number, begins = begins, reader.line_num + 1
            if number == 1 or not any(field.strip() for field in fields):
                continue
            if len(fields) > len(header):
                long.append(number)
            values = {name: fields[place].strip() for name, place in places.items() if place < len(fields)}
            yield Row(number, values.get("path", ""), normal(values.get("label", "")), values.get("split", ""))
    except csv.Error as error:
        raise UserError(
            f"Fields of a table are quoted as in CSV; got a bad one in line {begins} of {path} ({error}); "
            'write quotes within quotes twice: "a ""b"" c"'
        ) from error
    if long:
        raise UserError(
            f"A line has as many fields as the header, {len(header)}; got more in {_lines(long)} of {path}; put fields "
            "that hold the separator in quotes"
        )


def _header(text: str, path: Path) -> tuple[list[str], str]:
    """The columns' names, and the separator with which they are the needed ones."""
    first = text.splitlines()[0] if text.strip() else ""
    for delimiter in DELIMITERS:
        names = [name.strip().strip('"').casefold() for name in first.split(delimiter)]
        if all(names.count(name) == 1 for name in NEEDED) and names.count("split") <= 1:
            return names, delimiter
    came = f"'{first[:80]}'" if first else "nothing"
    raise UserError(f"A table begins with {HEADER}; got {came} in {path}; write path,label as its first line")


def _name(path: str) -> str:
    return normal(os.path.normpath(path).replace(os.sep, "/"))


def _splits(rows: Sequence[Row], path: Path) -> list[str]:
    """The split of each row; all empty where the table has none."""
    rule = "The split of an image is train, val or test"
    _refuse(
        path, rule, "with another",
        (row for row in rows if row.split and row.split.casefold() not in SPLIT_FOLDERS), "correct them",
    )  # fmt: skip
    if not any(row.split for row in rows):
        return [""] * len(rows)
    _refuse(path, rule, "with none, and others with one", (row for row in rows if not row.split), "write all or none")
    splits = [SPLIT_FOLDERS[row.split.casefold()] for row in rows]
    if "train" not in splits:
        raise UserError(
            f"Validation and test images go with training images; got {few(sorted(set(splits)))} without train in "
            f"{path}; mark some as train, or leave the column out"
        )
    return splits


def _check_classes(rows: Sequence[Row], path: Path) -> None:
    numbers: Mapping[str, list[int]] = defaultdict(list)
    for row in rows:
        numbers[row.label].append(row.number)
    scarce = [f"'{label}' ({_lines(n)})" for label, n in numbers.items() if len(n) < LEAST_PER_CLASS]
    if scarce and len(numbers) > 1:
        raise UserError(
            f"Each class needs at least {LEAST_PER_CLASS} images; got fewer in {', '.join(scarce[:5])}"
            f"{f' and {len(scarce) - 5} more classes' if len(scarce) > 5 else ''} of {path}; add images or remove the "
            "class"
        )


def _refuse(path: Path, rule: str, came: str, wrong: Iterable[Row], way_out: str) -> None:
    if numbers := [row.number for row in wrong]:
        raise UserError(f"{rule}; got {_lines(numbers)} of {path} {came}; {way_out}")


def _lines(numbers: Sequence[int], shown: int = 8) -> str:
    """`line 3`, `lines 3, 7 and 9`, `lines 3, 4, ... and 20 more`."""
    first = [str(number) for number in numbers[:shown]]
    rest = len(numbers) - len(first)
    if rest:
        return f"lines {', '.join(first)} and {rest} more"
    return f"line {first[0]}" if len(first) == 1 else f"lines {', '.join(first[:-1])} and {first[-1]}"
