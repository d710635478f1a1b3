from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.search.data import load_data
from coreml_pareto.search.data.folder import Listing, scan
from coreml_pareto.search.data.tar import scan_tar
from coreml_pareto.spaces.errors import UserError

Make = Callable[[dict[str, int]], Path]
Draw = Callable[..., Path]
RULE = Preprocessing(resolution=16)
ODD = {"two words": 5, "🐕 dog": 5, "قطة": 5, 'O\'Neil "x"': 5}


def pack(folder: Path, archive: Path, inner: str = ".", mode: str = "w") -> Path:
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        tar.add(folder, arcname=inner)
    return archive


def add(tar: tarfile.TarFile, name: str, data: bytes = b"x", **changes: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in changes.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))


def summary(listing: Listing) -> tuple[object, ...]:
    files = sorted((f.name, f.label, f.split, f.path.read_bytes()) for f in listing.files)
    return listing.classes, listing.given, listing.ignored, listing.warnings, files


SUFFIXES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".TAR.XZ": "w:xz"}


@pytest.mark.parametrize(("suffix", "mode"), SUFFIXES.items(), ids=SUFFIXES)
@pytest.mark.parametrize("inner", [".", "photos", "data/of/mine"])
def test_an_archive_is_its_folder(folder: Make, tmp_path: Path, suffix: str, mode: str, inner: str) -> None:
    """Same names, same pixels, same splits, same digest: what the store has of one serves the other."""
    root = folder(ODD)
    archive = pack(root, tmp_path / f"photos{suffix}", inner, mode)
    one, other = load_data(str(root)), load_data(str(archive))
    assert other.name == "photos" and other.classes == one.classes == tuple(sorted(ODD))
    assert other.digest == one.digest
    assert (other.train.images(RULE) == one.train.images(RULE)).all()
    assert list(tmp_path.iterdir()) in ([root, archive], [archive, root])


def test_given_splits_are_kept(folder: Make, tmp_path: Path) -> None:
    root = folder({"train/a": 6, "train/b": 6, "val/a": 4, "val/b": 4})
    data = load_data(str(pack(root, tmp_path / "p.tar", "p")))
    assert data.digest == load_data(str(root)).digest
    assert len(data.validation) == 8


def test_a_limit_takes_the_same_images(folder: Make, tmp_path: Path) -> None:
    root = folder({"a": 30, "b": 20})
    archive = pack(root, tmp_path / "p.tar")
    assert load_data(str(archive), limit=20).digest == load_data(str(root), limit=20).digest


def test_large_rules_read_the_archive_again(folder: Make, draw: Draw, tmp_path: Path) -> None:
    root = folder({"a": 4, "b": 4})
    large = draw(root / "a" / "large.png", 900, 800)
    data = load_data(str(pack(root, tmp_path / "p.tgz", mode="w:gz")), limit=None)
    everything = [*data.train.pictures, *data.validation.pictures, *data.open_test("pixels").pictures]
    picture = next(picture for picture in everything if picture.name == "a/large.png")
    with Image.open(large) as image:
        assert (np.asarray(picture.original()) == np.asarray(image)).all()


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..") and len(os.fsencode(name)) < 200
)
FILES = st.builds(
    lambda stem, suffix: stem + suffix, NAMES, st.sampled_from([".jpg", ".PNG", ".txt", ""])
).filter(lambda name: name not in (".", "..") and not name.lower().endswith(".tar"))  # fmt: skip


@given(st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=2), FILES), max_size=8))
@settings(max_examples=60)
def test_any_folder_and_its_archive_are_listed_alike(entries: list[tuple[str, list[str], str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "root")
        for label, inner, file in [("a1", [], "x.jpg"), ("b2", [], "y.jpg"), *entries]:
            try:
                Path(root, label, *inner).mkdir(parents=True, exist_ok=True)
                Path(root, label, *inner, file).write_bytes(f"{label}{inner}{file}".encode())
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue  # a name that is both a folder and a file
        archive = pack(root, Path(name, "root.tar"))
        try:
            expected = summary(scan(root))
        except UserError as error:
            with pytest.raises(UserError) as other:
                scan_tar(archive)
            assert str(other.value) == str(error).replace(str(root), str(archive))
        else:
            assert summary(scan_tar(archive)) == expected


def test_what_is_no_image_of_the_archive_is_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tar", "w") as tar:
        for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg"):
            add(tar, name, name.encode())
        for name in ("../a/out.jpg", "/a/absolute.jpg", "a/../../out.jpg", "a/._1.jpg", "a/notes.txt"):
            add(tar, name)
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            add(tar, f"a/{kind.decode()}.jpg", b"", type=kind, linkname="../../../etc/passwd")
        add(tar, "__MACOSX/a/1.jpg")
        add(tar, ".git/a.jpg")
        add(tar, "b/2.jpg", b"appended later")
    found = scan_tar(tmp_path / "p.tar")
    assert {file.name: file.path.read_bytes() for file in found.files} == {
        "a/1.jpg": b"a/1.jpg",
        "b/1.jpg": b"b/1.jpg",
        "b/2.jpg": b"appended later",  # as unpacking would have it
    }
    assert found.classes == ("a", "b")
    assert found.ignored == 9
    assert list(tmp_path.iterdir()) == [tmp_path / "p.tar"]


def test_one_tar_for_each_class(folder: Make, tmp_path: Path) -> None:
    """ImageNet's archive of the training images."""
    root = folder({"n01": 4, "n02": 5})
    expected = load_data(str(root))
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for label in ("n01", "n02"):
            tar.add(pack(root / label, tmp_path / f"{label}.tar"), arcname=f"{label}.tar")
    data = load_data(str(tmp_path / "all.tar"))
    assert data.classes == ("n01", "n02")
    assert data.digest == expected.digest


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_damaged_archive_is_refused(folder: Make, tmp_path: Path, mode: str) -> None:
    archive = pack(folder({"a": 20, "b": 20}), tmp_path / "p.tar", mode=mode)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"p\.tar cannot be read as one .*; copy or download it again"):
        scan_tar(archive)


def test_a_damaged_header_is_not_taken_for_the_end(folder: Make, tmp_path: Path) -> None:
    archive = pack(folder({"a": 20, "b": 20}), tmp_path / "p.tar")
    with tarfile.open(archive) as tar:
        offset = tar.getmember("./b/0010.png").offset
    with archive.open("r+b") as file:
        file.seek(offset)
        file.write(b"damage")
    with pytest.raises(UserError, match=f"no header at byte {offset}"):
        scan_tar(archive)


def test_an_archive_without_its_end_mark_is_told(folder: Make, tmp_path: Path) -> None:
    archive = pack(folder({"a": 4, "b": 4}), tmp_path / "p.tar")
    with tarfile.open(archive) as tar:
        last = tar.getmembers()[-1]
    with archive.open("r+b") as file:
        file.truncate(last.offset_data + (last.size + 511) // 512 * 512)
    found = scan_tar(archive)
    assert len(found.files) == 8
    assert found.warnings == ("p.tar has no end mark: it may have been cut short",)


@pytest.mark.parametrize("data", [b"", b"not a tar, whatever its name", b"\x1f\x8bbad"])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.tar").write_bytes(data)
    with pytest.raises(UserError, match="cannot be read as one"):
        load_data(str(tmp_path / "p.tar"))


REFUSED: dict[str, tuple[dict[str, int], str]] = {
    "empty": ({}, "no folders and no images"),
    "images without classes": ({"": 3}, "3 images outside class folders"),
    "single class": ({"cat": 9}, "at least two classes; got one, 'cat'"),
    "case": ({"train/Cat": 4, "train/dog": 4, "val/cat": 2}, "'Cat' and 'cat'"),
    "no train": ({"val/a": 4, "val/b": 4, "test/a": 4}, "without train"),
    "empty class": ({"a": 4, "b": 4, "c": 0}, "got none in 'c'"),
}


@pytest.mark.parametrize(("counts", "message"), REFUSED.values(), ids=REFUSED)
def test_the_folders_rules_hold(folder: Make, tmp_path: Path, counts: dict[str, int], message: str) -> None:
    with pytest.raises(UserError) as error:
        scan_tar(pack(folder(counts), tmp_path / "p.tar"))
    assert message in str(error.value) and "p.tar" in str(error.value)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for name in ("Brot/1.jpg", "Käse/1.jpg"):
            add(tar, name)
    with pytest.raises(UserError, match=r"text in UTF-8; got 'K\\udce4se'"):
        scan_tar(tmp_path / "p.tar")


def test_a_compressed_archive_that_would_fill_the_disk_is_refused(
    folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(folder({"a": 4, "b": 4}), tmp_path / "p.tgz", mode="w:gz")
    monkeypatch.setattr("coreml_pareto.search.data.slices.SHARE", 0.0)
    with pytest.raises(UserError, match="free space, or unpack"):
        scan_tar(archive)


def test_a_broken_image_of_an_archive_is_skipped(folder: Make, tmp_path: Path) -> None:
    root = folder({"a": 10, "b": 10})
    (root / "a" / "0003.png").write_bytes(b"")
    (broken,) = load_data(str(pack(root, tmp_path / "p.tar"))).report.skipped
    assert (broken.name, broken.reason) == ("a/0003.png", "the file is empty")


def test_an_archive_may_be_deeper_than_python_recurses(tmp_path: Path) -> None:
    deep = "/".join("d" * 2000)
    with tarfile.open(tmp_path / "p.tar", "w") as tar:
        for name in (f"a/{deep}/1.jpg", "b/1.jpg"):
            add(tar, name)
    assert [file.name for file in scan_tar(tmp_path / "p.tar").files] == [f"a/{deep}/1.jpg", "b/1.jpg"]
