from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from coreml_pareto.search.data.folder import few, scan
from coreml_pareto.spaces.errors import UserError

Make = Callable[[dict[str, int]], Path]


def test_class_folders(folder: Make) -> None:
    found = scan(folder({"dog": 2, "cat": 3}))
    assert found.name == "photos"
    assert found.classes == ("cat", "dog")
    assert [file.name for file in found.files] == [
        "cat/0000.png",
        "cat/0001.png",
        "cat/0002.png",
        "dog/0000.png",
        "dog/0001.png",
    ]
    assert found.given == frozenset()


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_split_folders(folder: Make, train: str, validation: str) -> None:
    counts = {f"{train}/a": 3, f"{train}/b": 2, f"{validation}/a": 1, f"{validation}/b": 1, "test/a": 1, "test/b": 2}
    found = scan(folder(counts))
    assert found.given == {"train", "validation", "test"}
    assert Counter(file.split for file in found.files) == {"train": 5, "validation": 2, "test": 3}
    assert {file.label for file in found.files} == {"a", "b"}


def test_nested_folders_count_to_their_class(folder: Make) -> None:
    found = scan(folder({"a": 1, "a/deep/deeper": 2, "b": 1}))
    assert Counter(file.label for file in found.files) == {"a": 3, "b": 1}
    assert "a/deep/deeper/0001.png" in {file.name for file in found.files}


def test_what_is_no_image_is_ignored_and_counted(folder: Make) -> None:
    root = folder({"a": 1, "b": 1, "a/.thumbnails": 3, ".git": 2, "__MACOSX/a": 2})
    for name in ("a/.DS_Store", "a/notes.txt", "b/Thumbs.db", "b/._0000.png"):
        (root / name).write_bytes(b"x")
    found = scan(root)
    assert len(found.files) == 2
    assert found.ignored == 4
    assert found.classes == ("a", "b")


def test_images_and_folders_at_the_wrong_place_are_told(folder: Make) -> None:
    root = folder({"train/a": 1, "train/b": 1, "train": 2, "": 1, "extra": 4})
    warnings = " ".join(scan(root).warnings)
    assert "3 images outside class folders" in warnings
    assert "'extra'" in warnings


def test_a_circle_of_links_ends(folder: Make) -> None:
    root = folder({"a": 2, "b": 2})
    (root / "a" / "loop").symlink_to(root / "a", target_is_directory=True)
    assert len(scan(root).files) == 4


def test_linked_class_folders_are_followed(folder: Make, tmp_path: Path) -> None:
    root = folder({"a": 2})
    folder({"../elsewhere": 3})
    (root / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert Counter(file.label for file in scan(root).files) == {"a": 2, "b": 3}


def test_names_have_one_spelling(folder: Make) -> None:
    decomposed = unicodedata.normalize("NFD", "Käse")
    found = scan(folder({decomposed: 1, "Brot": 1}))
    assert found.classes == ("Brot", "Käse")
    assert found.files[1].name == "Käse/0000.png"
    assert found.files[1].path.exists()


REFUSED: dict[str, tuple[dict[str, int], str]] = {
    "empty folder": ({}, "no folders and no images"),
    "images without classes": ({"": 3}, "3 images outside class folders"),
    "single class": ({"cat": 9}, "at least two classes; got one, 'cat'"),
    "single class in train": ({"train/cat": 9, "val/cat": 2}, "at least two classes"),
    "data set one folder deeper": ({"photos/train/cat": 2, "photos/train/dog": 2}, "pass the folder"),
    "empty class": ({"cat": 9, "dog": 0}, "got none in 'dog'"),
    "empty class in train": ({"train/cat": 9, "train/dog": 0, "val/dog": 3}, "got none in 'dog'"),
    "class only in validation": ({"train/a": 4, "train/b": 4, "val/c": 2}, "also has 'c'"),
    "case": ({"train/Cat": 4, "train/dog": 4, "val/cat": 2}, "'Cat' and 'cat'"),
    "no train": ({"val/a": 4, "val/b": 4, "test/a": 4}, "without train"),
    "two validations": ({"train/a": 4, "train/b": 4, "val/a": 4, "valid/a": 1}, "'val', 'valid'"),
    "empty validation": ({"train/a": 4, "train/b": 4, "val": 0}, "got none in 'validation'"),
}


@pytest.mark.parametrize(("counts", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(folder: Make, counts: dict[str, int], message: str) -> None:
    with pytest.raises(UserError) as error:
        scan(folder(counts))
    assert message in str(error.value)
    assert str(error.value).count(";") >= 2  # rule; what came; way out


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        scan(tmp_path / "nowhere")
    archive = tmp_path / "photos.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(UserError, match="got the file"):
        scan(archive)


def test_few_names() -> None:
    assert few(["a", "b"]) == "'a', 'b'"
    assert few(list("abcdefg"), 2) == "'a', 'b' and 5 more"
