from __future__ import annotations

import csv
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coreml_pareto.search.data import load_data
from coreml_pareto.search.data.table import scan_table
from coreml_pareto.spaces.errors import UserError

Make = Callable[[dict[str, int]], Path]
Rows = list[list[str]]


@pytest.fixture
def photos(folder: Make) -> Path:
    return folder({"a": 8, "b": 8})


def rows_of(root: Path) -> Rows:
    return [[path.relative_to(root).as_posix(), path.parent.name] for path in sorted(root.rglob("*.png"))]


def write(path: Path, rows: Rows, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_of_a_folder_is_that_folder(photos: Path, delimiter: str, encoding: str) -> None:
    """Same paths, labels and splits: the same data, with the same digest."""
    table = write(photos / "labels.csv", [["path", "label"], *rows_of(photos)], delimiter, encoding)
    data = load_data(str(table))
    assert data.name == "labels" and data.classes == ("a", "b")
    assert data.digest == load_data(str(photos)).digest


def test_columns_in_any_order_and_others_passed_over(photos: Path) -> None:
    rows = [["Label ", "notes", " PATH", "split"]]
    rows += [
        [label, "x, y", path, "Val" if "000" in path and path[5] < "4" else "train"] for path, label in rows_of(photos)
    ]
    data = load_data(str(write(photos / "labels.tsv", rows, "\t")))
    assert Counter(data.report.images["validation"]) == {"a": 4, "b": 4}
    assert sum(data.report.images["test"].values()) == 2  # drawn from training


def test_given_splits_match_split_folders(folder: Make) -> None:
    root = folder({"train/a": 6, "train/b": 6, "val/a": 4, "val/b": 4, "test/a": 4, "test/b": 4})
    rows = [["path", "label", "split"]]
    rows += [[path, label, path.split("/")[0]] for path, label in rows_of(root)]
    assert load_data(str(write(root / "labels.csv", rows))).digest == load_data(str(root)).digest


LABELS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=9).map(
    lambda label: unicodedata.normalize("NFC", label.strip())
)


@given(
    st.lists(LABELS.filter(bool), min_size=2, max_size=4, unique_by=str.casefold),
    st.sampled_from(",;\t"),
    st.randoms(),
)
@settings(max_examples=60)
def test_labels_stay_as_written(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str], delimiter: str, random: object
) -> None:
    """Quotes, separators, line ends, emoji, right to left: whatever the csv module can write."""
    root = tmp_path_factory.mktemp("t")
    labels = [label for label in labels if label == unicodedata.normalize("NFC", label)]
    rows = [[f"{n}-{k}.png", label] for n, label in enumerate(labels) for k in range(4)]
    for path, _ in rows:
        (root / path).write_bytes(b"x")
    random.shuffle(rows)  # type: ignore[attr-defined]
    found = scan_table(write(root / "labels.csv", [["path", "label"], *rows], delimiter))
    assert {file.name: file.label for file in found.files} == dict(rows)
    assert found.classes == tuple(sorted(labels))
    assert [file.name for file in found.files] == sorted(path for path, _ in rows)
    shutil.rmtree(root)


def changed(rows: Rows, number: int, column: int, value: str) -> Rows:
    """The rows with a field of line `number` changed; the header is line 1."""
    new = [list(row) for row in rows]
    new[number - 2][column] = value
    return new


REFUSED: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "empty label": (lambda rows: changed(rows, 3, 1, " "), r"A label is not empty; got line 3 of .* without one; write it"),
    "missing files": (
        lambda rows: changed(changed(rows, 2, 0, "a/none.png"), 5, 0, "a"),
        r"lines 2 and 5 of .* without a file",
    ),
    "twice": (lambda rows: changed(rows, 4, 0, "./a//0000.png"), r"stands in a table once; got lines 2 and 4 of"),
    "few": (lambda rows: changed(changed(rows, 2, 1, "c"), 12, 1, "c"), r"got fewer in 'c' \(lines 2 and 12\) of"),
    "many wrong": (lambda rows: [[path, ""] for path, _ in rows], r"lines 2, 3, 4, 5, 6, 7, 8, 9 and 8 more"),
    "one class": (lambda rows: [[path, "a"] for path, _ in rows], "two classes; got one, 'a', in"),
    "case": (lambda rows: [[path, label if n % 2 else label.upper()] for n, (path, label) in enumerate(rows)], "'A' and 'a'"),
    "more fields": (lambda rows: [*rows[:3], [*rows[3], "x"], *rows[4:]], r"got more in line 5 of"),
    "short line": (lambda rows: [rows[0][:1], *rows[1:]], r"not empty; got line 2 of"),
    "blank lines count": (lambda rows: [["", ""], *changed(rows, 2, 1, "")], r"not empty; got line 3 of"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_by_the_line(photos: Path, change: Callable[[Rows], Rows], message: str) -> None:
    table = write(photos / "labels.csv", [["path", "label"], *change(rows_of(photos))])
    with pytest.raises(UserError, match=message) as error:
        load_data(str(table))
    assert "\n" not in str(error.value) and str(error.value).count(";") >= 2


SPLITS: dict[str, tuple[Callable[[int], str], str]] = {
    "unknown": (lambda n: "holdout" if n == 3 else "train", r"line 5 of .* with another"),
    "some empty": (lambda n: "" if n in (0, 2) else "train", r"lines 2 and 4 of .* with none, and others with one"),
    "no train": (lambda n: "val", "without train"),
    "class not in train": (lambda n: "train" if n < 8 else "test", "two classes"),
}


@pytest.mark.parametrize(("split", "message"), SPLITS.values(), ids=SPLITS)
def test_splits_are_whole(photos: Path, split: Callable[[int], str], message: str) -> None:
    rows = [["path", "label", "split"], *([*row, split(n)] for n, row in enumerate(rows_of(photos)))]
    with pytest.raises(UserError, match=message):
        load_data(str(write(photos / "labels.csv", rows)))


def test_an_empty_column_of_splits_is_none(photos: Path) -> None:
    rows = [["path", "label", "split"], *([*row, ""] for row in rows_of(photos))]
    assert load_data(str(write(photos / "labels.csv", rows))).digest == load_data(str(photos)).digest


def test_a_quoted_line_end_counts_as_a_line(photos: Path) -> None:
    rows = rows_of(photos)
    table = write(photos / "labels.csv", [["path", "label", "note"], [*rows[0], "two\nlines"], [rows[1][0], "", ""]])
    with pytest.raises(UserError, match="line 4 of"):
        load_data(str(table))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "got nothing"),
        (b"a/0000.png,a\n", "got 'a/0000.png,a'"),
        (b"path,label,label\n", "begins with a header"),
        (b"path|label\n", "separated by commas, semicolons or tabs"),
        (b"path,label\na/0000.png,\xe4\n", r"not \(byte 22\)"),
        (b'path,label\na/0000.png,"a\n', "line 2 of"),
        (b"path,label\n\n", "got none below the header"),
    ],
)
def test_what_is_no_table_is_refused(photos: Path, text: bytes, message: str) -> None:
    (photos / "labels.csv").write_bytes(text)
    with pytest.raises(UserError, match=message):
        load_data(str(photos / "labels.csv"))


def test_broken_images_follow_the_rule_of_folders(photos: Path) -> None:
    table = write(photos / "labels.csv", [["path", "label"], *rows_of(photos)])
    (photos / "a" / "0000.png").write_bytes(b"")
    assert [broken.name for broken in load_data(str(table)).report.skipped] == ["a/0000.png"]
    with pytest.raises(UserError, match="here 0, may be unreadable; got 1 of 16"):
        load_data(str(table), max_broken_share=0)


def test_paths_may_lead_elsewhere(photos: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "tables"
    elsewhere.mkdir()
    rows = [[f"../photos/{path}", label] for path, label in rows_of(photos)[:-1]]
    rows.append([str(photos / "b" / "0007.png"), "b"])
    data = load_data(str(write(elsewhere / "labels.csv", [["path", "label"], *rows])))
    assert sum(sum(counts.values()) for counts in data.report.images.values()) == 16
