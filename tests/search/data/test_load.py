from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.spaces.errors import UserError

Make = Callable[[dict[str, int]], Path]
Draw = Callable[..., Path]
RULE = Preprocessing(resolution=16)


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load_data("digits")


def test_digits(digits: DataSet) -> None:
    splits = [digits.train, digits.validation, digits.open_test("to count it")]
    assert sum(map(len, splits)) == 1797
    assert digits.classes == tuple("0123456789")
    assert digits.native_resolution == 8
    assert not digits.flip_safe
    assert [len(split) for split in splits] == [1259, 269, 269]
    assert len({name for split in splits for name in split.names}) == 1797


def test_the_pixels_of_digits_are_scikit_learns(digits: DataSet) -> None:
    sklearn = pytest.importorskip("sklearn.datasets").load_digits()
    images = digits.validation.images(Preprocessing(resolution=8))
    rows = [int(name.split("/")[1]) for name in digits.validation.names]
    assert np.abs(images - sklearn.images[rows][..., None] * 255 / 16).max() <= 0.5
    assert (digits.validation.targets == sklearn.target[rows]).all()


def test_the_digest_of_digits_is_stored(digits: DataSet) -> None:
    """A change here invalidates every stored training on digits: it must be on purpose."""
    assert digits.digest == "186f78af8b612fdaeda4ace14e508f9bb467d504f9751ca0d0a698bcb40e4e8d"
    assert load_data("digits", seed=1).digest != digits.digest


def test_the_test_split_remembers_why_it_was_opened(folder: Make) -> None:
    data = load_data(str(folder({"a": 10, "b": 10})))
    assert data.test_openings == []
    assert len(data.open_test("final accuracy of the front")) == 4
    data.open_test("evaluate --split test")
    assert data.test_openings == ["final accuracy of the front", "evaluate --split test"]


def test_images_and_targets_belong_together(folder: Make) -> None:
    root = folder({"a": 8, "b": 8})
    for split in (data := load_data(str(root))).train, data.validation, data.open_test("pixels"):
        images = split.images(RULE)
        assert images.shape == (len(split), 16, 16, 3)
        for row, name in enumerate(split.names):
            assert data.classes[split.targets[row]] == name.split("/")[0]
            with Image.open(root / name) as image:
                assert (images[row] == RULE.apply(image)).all()


def test_pixels_are_the_same_in_memory_and_on_disk(folder: Make, tmp_path: Path) -> None:
    root = str(folder({"a": 9, "b": 9}))
    in_memory = load_data(root).train.images(RULE)
    on_disk = load_data(root, memory_budget=500, cache_folder=tmp_path / "cache").train.images(RULE)
    assert isinstance(on_disk, np.memmap)
    assert (in_memory == on_disk).all()
    assert sorted(path.name[:6] for path in (tmp_path / "cache").glob("*.npy")) == sorted(
        ["known-", load_data(root).train.digest[:6]]
    )
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_batches_cover_the_split_in_order(folder: Make) -> None:
    split = load_data(str(folder({"a": 20, "b": 20}))).train
    batches = list(split.batches(RULE, 8))
    assert [len(targets) for _, targets in batches] == [8, 8, 8, 4]
    assert (np.concatenate([images for images, _ in batches]) == split.images(RULE)).all()
    assert (np.concatenate([targets for _, targets in batches]) == split.targets).all()


def test_photographs_are_cut_from_the_working_picture(folder: Make, draw: Draw) -> None:
    root = folder({"a": 4, "b": 4})
    large = draw(root / "a" / "large.jpg", 1500, 1100)
    data = load_data(str(root))
    everything = [*data.train.pictures, *data.validation.pictures, *data.open_test("pixels").pictures]
    picture = next(picture for picture in everything if picture.name == "a/large.jpg")
    assert picture.pixels.shape == (512, 698, 3)
    assert picture.shorter_side == 1100
    split = data.train.subset([0])
    for resolution in (24, 700):  # above 512 the file is opened again
        rule = Preprocessing(resolution=resolution)
        row = type(split)((picture,), np.zeros(1, np.int64), split.cache).images(rule)[0]
        with Image.open(large) as image:
            assert (row == rule.apply(image)).all()


def test_samples_and_subsets(digits: DataSet) -> None:
    rows = digits.train.sample(100, seed=3)
    subset = digits.train.subset(rows)
    assert set(Counter(subset.targets.tolist()).values()) <= {9, 10, 11}
    assert len(subset) == 100
    assert subset.digest != digits.train.digest
    rule = Preprocessing(resolution=8)
    assert (subset.images(rule) == digits.train.images(rule)[rows]).all()


def test_given_splits_are_kept_and_missing_ones_drawn(folder: Make) -> None:
    data = load_data(str(folder({"train/a": 20, "train/b": 20, "test/a": 3, "test/b": 2})))
    assert all(name.startswith("test/") for name in data.open_test("names").names)
    assert all(name.startswith("train/") for name in data.train.names + data.validation.names)
    assert data.report.images["validation"] == {"a": 3, "b": 3}
    assert data.report.notes == ("validation was drawn from the training images: 15% of each class, seed 0",)


def test_the_digest_follows_the_contents(folder: Make, tmp_path: Path, draw: Draw) -> None:
    root = folder({"a": 6, "b": 6})
    before = load_data(str(root)).digest
    moved = tmp_path / "other" / "place"
    shutil.copytree(root, moved)
    (moved / "a" / ".DS_Store").write_bytes(b"x")
    assert load_data(str(moved)).digest == before
    assert load_data(str(root), seed=5).digest != before  # other pictures train
    (moved / "a" / "0000.png").rename(moved / "a" / "9999.png")
    renamed = load_data(str(moved)).digest
    assert renamed != before
    draw(moved / "a" / "9999.png", 13, 10)
    assert load_data(str(moved)).digest != renamed


def test_broken_images_are_skipped_by_name(folder: Make) -> None:
    root = folder({"a": 20, "b": 20})
    whole = (root / "a" / "0000.png").read_bytes()
    (root / "a" / "zero.jpg").write_bytes(b"")
    (root / "a" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "text.jpg").write_text("not a picture")
    data = load_data(str(root), max_broken_share=0.1)
    assert {broken.name: bool(broken.reason) for broken in data.report.skipped} == {
        "a/truncated.png": True,
        "a/zero.jpg": True,
        "b/text.jpg": True,
    }
    assert sum(sum(counts.values()) for counts in data.report.images.values()) == 40
    text = "\n".join(data.report.lines())
    assert "skipped a/zero.jpg: the file is empty" in text
    told = r"At most 5\.0% of the images, here 2, .* got 3 of 43 in photos: a/truncated\.png \(.*: splits\.max_broken"
    with pytest.raises(UserError, match=told):
        load_data(str(root), max_broken_share=0.05)


def test_one_broken_image_among_few_is_skipped(folder: Make) -> None:
    """1 % of 21 images is none; a share of 0 means none."""
    root = folder({"a": 10, "b": 10})
    (root / "a" / "zero.jpg").write_bytes(b"")
    assert [broken.name for broken in load_data(str(root)).report.skipped] == ["a/zero.jpg"]
    with pytest.raises(UserError, match="here 0, may be unreadable; got 1 of 21"):
        load_data(str(root), max_broken_share=0)
    (root / "b" / "zero.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="here 1, may be unreadable; got 2 of 22"):
        load_data(str(root))


def test_one_broken_image_may_be_one_too_many_for_its_class(folder: Make) -> None:
    root = folder({"a": 10, "b": 4})
    (root / "b" / "0000.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"at least 4 readable images; got fewer in 'b \(3\)'"):
        load_data(str(root))


def test_a_truncated_photograph_is_found_at_reduced_size(folder: Make, draw: Draw) -> None:
    root = folder({"a": 10, "b": 10})
    large = draw(root / "a" / "large.jpg", 2000, 1600)
    large.write_bytes(large.read_bytes()[:-20000])
    (broken,) = load_data(str(root), max_broken_share=0.1).report.skipped
    assert broken.name == "a/large.jpg"
    assert "truncated" in broken.reason


def test_many_files_of_any_size_are_decoded_in_order(folder: Make, draw: Draw) -> None:
    """Above THREAD_BYTES the files are decoded by threads, block by block."""
    root = folder({})
    for number in range(300):
        draw(root / "ab"[number % 2] / f"{number:03d}.png", 80, 80)
    seen: list[tuple[int, int]] = []
    data = load_data(str(root), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(256, 300), (300, 300)]
    for name, image in zip(data.train.names, data.train.images(Preprocessing(resolution=80)), strict=True):
        with Image.open(root / name) as expected:
            assert (image == np.asarray(expected)).all()


def test_a_limit_is_stratified_and_deterministic(folder: Make) -> None:
    root = str(folder({"train/a": 60, "train/b": 30, "test/a": 20, "test/b": 10}))
    data = load_data(root, limit=60)
    assert data.digest == load_data(root, limit=60).digest != load_data(root).digest
    counts = data.report.images
    assert {label: counts["train"][label] + counts["validation"][label] for label in "ab"} == {"a": 30, "b": 15}
    assert counts["test"] == {"a": 10, "b": 5}
    assert sum(map(len, (data.train, data.validation))) == 45
    assert sum(sum(counts.values()) for counts in load_data("digits", limit=100).report.images.values()) == 100


def test_warnings(folder: Make) -> None:
    root = folder({"train/a": 60, "train/b": 5, "val/a": 4})
    shutil.copy(root / "train/a/0000.png", root / "val/a/copy.png")
    warnings = "\n".join(load_data(str(root)).report.warnings)
    assert "validation has no images of 'b'" in warnings
    assert "1 validation images are also training images (same bytes: 'val/a/copy.png')" in warnings
    assert "'a' has" in warnings and "top-1" in warnings
    assert "validation has only 5 images" in warnings


def test_a_good_data_set_has_no_warnings(digits: DataSet) -> None:
    assert digits.report.warnings == ()
    assert next(digits.report.lines()) == "train: 1259 images, 122 to 129 per class"


REFUSED: dict[str, tuple[dict[str, int], str]] = {
    "3 images": ({"a": 2, "b": 1}, "at least 4 readable images"),
    "too few in a class": ({"a": 20, "b": 3}, r"'b \(3\)'"),
    "no training images left to draw from": ({"train/a": 3, "train/b": 9, "val/a": 5, "val/b": 5}, "got 3 in 'a'"),
}


@pytest.mark.parametrize(("counts", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(folder: Make, counts: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_data(str(folder(counts)))


def test_a_class_of_broken_images_is_refused(folder: Make) -> None:
    root = folder({"a": 40, "b": 4})
    for path in (root / "b").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"'b \(0\)'"):
        load_data(str(root), max_broken_share=0.5)


def test_a_split_of_broken_images_is_refused(folder: Make) -> None:
    root = folder({"train/a": 20, "train/b": 20, "val/a": 1})
    (root / "val/a/0000.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="none in 'validation'"):
        load_data(str(root), max_broken_share=0.5)


@pytest.mark.parametrize("shares", [{"validation_share": 0.0}, {"test_share": 0.9}, {"max_broken_share": 1.0}])
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(UserError, match="got"):
        load_data("digits", **shares)  # type: ignore[arg-type]


def test_heic_says_what_it_needs(folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coreml_pareto.search.data.picture._register_heif", lambda: False)
    root = folder({"a": 20, "b": 20})
    (root / "a" / "IMG_0001.HEIC").write_bytes(b"ftypheic")
    (broken,) = load_data(str(root), max_broken_share=0.1).report.skipped
    assert "pillow-heif" in broken.reason
