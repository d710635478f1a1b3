"""Foreign packages: a network that tells red, green and blue apart, saved in every way that a package may come.

The pictures have one colour each, so a package that is fed rightly is right every time, and a wrong order of labels or
channels, or a wrong normalisation, shows at once.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from coreml_pareto.objectives.accuracy import NO_PROBABILITIES
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.preprocessing import METADATA_KEY, Preprocessing
from coreml_pareto.objectives.program import Program, load
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.search.evaluation import (
    Normalisation,
    Splitting,
    centre_crop,
    judge,
    labels_of,
    match_labels,
    parse_normalisation,
    preprocessing_for,
    read_labels,
    splitting_of,
)
from coreml_pareto.spaces.errors import UserError

COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}
SPLITS = json.dumps({"seed": 7, "test": 0.2, "max_broken": 0.3})
PHONE = Target(find_device("iPhone 15 Pro"), 17)
HALF = Normalisation((0.5,), (0.25,))


class Eye(torch.nn.Module):
    """The strongest channel wins; `last` says that channels come last. The tint shifts what it takes for grey."""

    def __init__(self, channels: int = 3, last: bool = False, softmax: bool = True) -> None:
        super().__init__()
        self.last, self.softmax = last, softmax
        self.mix = torch.nn.Conv2d(channels, 3, 1, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(torch.eye(3).reshape(3, 3, 1, 1) if channels == 3 else torch.ones(3, 1, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2) if self.last else image
        logits = 20 * self.mix(x).mean((2, 3))
        return torch.softmax(logits, -1) if self.softmax else logits - 10


def convert(
    path: Path, net: torch.nn.Module, feature: Any, shape: tuple[int, ...], labels: list[str] | None, **extra: str
) -> Path:
    import coremltools as ct

    exported = torch.export.export(net.eval(), (torch.rand(shape),)).run_decompositions({})
    model = ct.convert(
        exported, inputs=[feature], minimum_deployment_target=ct.target.iOS16, skip_model_load=True,
        classifier_config=None if labels is None else ct.ClassifierConfig(labels),
    )  # fmt: skip
    model.user_defined_metadata.update(extra)
    model.save(str(path))
    return path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and coremltools
        import coremltools as ct

        folder, rgb = tmp_path_factory.mktemp("eyes"), ["red", "green", "blue"]
        rule = Preprocessing(resolution=16, resize="squash", crop="none").model_dump_json()

        def image(height: int, width: int, layout: Any = ct.colorlayout.RGB) -> Any:
            return ct.ImageType(name="image", shape=(1, 3, height, width), scale=1 / 255, color_layout=layout)

        square, wide = (1, 3, 16, 16), (1, 3, 12, 24)
        paths = {
            "rgb": convert(folder / "rgb.mlpackage", Eye(), image(16, 16), square, rgb),
            "bgr": convert(folder / "bgr.mlpackage", Eye(), image(16, 16, ct.colorlayout.BGR), square, rgb[::-1]),
            "wide": convert(folder / "wide.mlpackage", Eye(), image(12, 24), wide, rgb),
            "tensor": convert(folder / "tensor.mlpackage", Eye(), ct.TensorType(name="x", shape=square), square, rgb),
            "last": convert(
                folder / "last.mlpackage", Eye(last=True), ct.TensorType(name="x", shape=(1, 16, 16, 3)),
                (1, 16, 16, 3), rgb,
            ),
            "plain": convert(folder / "plain.mlpackage", Eye(), image(16, 16), square, None),
            "logits": convert(folder / "logits.mlpackage", Eye(softmax=False), image(16, 16), square, None),
            "ranked": convert(folder / "ranked.mlpackage", Eye(softmax=False), image(16, 16), square, rgb),
            "ruled": convert(
                folder / "ruled.mlpackage", Eye(), image(16, 16), square, rgb,
                **{METADATA_KEY: rule, "com.coreml-pareto.splits": SPLITS, "com.coreml-pareto.data": "0" * 64},
            ),
        }  # fmt: skip
        return {name: load(path) for name, path in paths.items()}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Six pictures of each colour; the data's classes are in alphabetical order, the packages' are not."""
    root = tmp_path_factory.mktemp("photos")
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for number in range(6):
            shade = tuple(max(0, value - 3 * number) for value in colour)
            Image.new("RGB", (20 + number, 15), shade).save(root / name / f"{number}.png")
    return load_data(str(root))


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("rgb", {}), ("bgr", {}), ("wide", {}), ("ruled", {}), ("tensor", {"normalisation": HALF}),
        ("last", {"normalisation": HALF}), ("plain", {"labels": ["red", "green", "blue"]}),
        ("logits", {"labels": ["red", "green", "blue"]}), ("ranked", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("split", ["validation", "test", "train"])
def test_a_package_that_is_fed_rightly_is_right(
    packages: dict[str, Program], photos: DataSet, name: str, extra: dict[str, Any], split: Any
) -> None:
    judged = judge(packages[name], photos, PHONE, split=split, **extra)
    assert judged.score["top1"].value == 1.0
    assert judged.score["top1"].conditions["split"] == split
    assert {"latency_ms", "size_bytes", "memory_bytes", "energy_mj", "macs"} <= set(judged.score)


def test_a_wrong_order_of_labels_is_always_wrong(packages: dict[str, Program], photos: DataSet) -> None:
    """The check above can fail: rotated labels turn every answer wrong."""
    judged = judge(packages["plain"], photos, PHONE, labels=["green", "blue", "red"])
    assert judged.score["top1"].value == 0.0


@pytest.mark.parametrize(("name", "labels"), [("logits", ["red", "green", "blue"]), ("ranked", None), ("rgb", None)])
def test_scores_that_are_no_probabilities_are_said_to_be_none(
    packages: dict[str, Program], photos: DataSet, name: str, labels: list[str] | None
) -> None:
    judged = judge(packages[name], photos, PHONE, labels=labels)
    said = [note for note in judged.notes if "no probabilities" in note]
    assert ("scores" in judged.score["top1"].conditions) == bool(said) == (name != "rgb")
    assert said == ([] if name == "rgb" else [f"{name}.mlpackage ends {NO_PROBABILITIES}"])


def test_logits_need_as_many_labels_as_outputs(packages: dict[str, Program]) -> None:
    with pytest.raises(UserError, match="3 outputs; got 2 labels"):
        labels_of(packages["logits"], ["red", "green"])


def test_a_package_without_a_row_of_scores_is_refused(tmp_path: Path, photos: DataSet) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct

        feature = ct.ImageType(name="image", shape=(1, 3, 16, 16), scale=1 / 255)
        program = load(convert(tmp_path / "map.mlpackage", torch.nn.Conv2d(3, 3, 1), feature, (1, 3, 16, 16), None))
    with pytest.raises(UserError, match=r"one score per class.*map\.mlpackage gives \w+ \[1, 3, 16, 16\]; convert"):
        judge(program, photos, PHONE, labels=["red", "green", "blue"])


def test_a_normalisation_per_channel_counts(packages: dict[str, Program], photos: DataSet) -> None:
    blind = Normalisation((0.0, -10.0, 0.0), (1.0, 1.0, 1.0))  # green is shifted up: everything looks green
    judged = judge(packages["tensor"], photos, PHONE, normalisation=blind)
    assert judged.score["top1"].value == pytest.approx(1 / 3)


def test_the_test_split_is_opened_for_the_record_only_when_asked(packages: dict[str, Program], photos: DataSet) -> None:
    before = len(photos.test_openings)
    judge(packages["rgb"], photos, PHONE, split="validation")
    assert len(photos.test_openings) == before
    judge(packages["rgb"], photos, PHONE, split="test")
    assert len(photos.test_openings) == before + 1


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_split_is_never_another_one(packages: dict[str, Program], photos: DataSet, split: Any) -> None:
    nothing = photos.train.subset(np.array([], dtype=np.int64))
    before = len(photos.test_openings)
    with pytest.raises(UserError, match=f"the {split} split of .* is empty"):
        judge(packages["rgb"], dataclasses.replace(photos, **{split: nothing}), PHONE, split=split)
    assert len(photos.test_openings) == before


def test_what_was_assumed_is_said(packages: dict[str, Program], photos: DataSet) -> None:
    assert "assumed: shorter side resized, centre cropped to 24x12" in judge(packages["wide"], photos, PHONE).notes[0]
    stated, other = judge(packages["ruled"], photos, PHONE).notes
    assert "as the package states" in stated and ".scaleFill" in stated
    assert other.startswith("warning: the pictures or splits are not those")
    assert preprocessing_for(packages["rgb"])[0] == Preprocessing(resolution=16)


def test_the_split_is_the_package_s_own(packages: dict[str, Program]) -> None:
    own = splitting_of(packages["ruled"], None)
    assert (own.seed, own.test, own.max_broken, own.validation) == (7, 0.2, 0.3, Splitting(0).validation)
    assert splitting_of(packages["ruled"], 7) == own
    with pytest.raises(UserError, match="seed 7; got --seed 8"):
        splitting_of(packages["ruled"], 8)
    assert splitting_of(packages["rgb"], None) == Splitting(0)
    assert splitting_of(packages["rgb"], 3).seed == 3
    damaged = dataclasses.replace(packages["rgb"], metadata={"com.coreml-pareto.splits": "{"})
    with pytest.raises(UserError, match="metadata is unreadable"):
        splitting_of(damaged, None)


def test_an_image_takes_no_normalisation_and_a_tensor_needs_one(packages: dict[str, Program], photos: DataSet) -> None:
    with pytest.raises(UserError, match="its own scale and bias apply"):
        judge(packages["rgb"], photos, PHONE, normalisation=HALF)
    with pytest.raises(UserError, match="--mean and --std"):
        judge(packages["tensor"], photos, PHONE)


def test_packages_without_labels_need_a_file(packages: dict[str, Program], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--labels FILE"):
        labels_of(packages["plain"], None)
    with pytest.raises(UserError, match="3 outputs; got 2 labels"):
        labels_of(packages["plain"], ["red", "green"])
    with pytest.raises(UserError, match="repeated: 'red'"):
        labels_of(packages["plain"], ["red", "red", "blue"])
    with pytest.raises(UserError, match="leave --labels out"):
        labels_of(packages["rgb"], ["red", "green", "blue"])
    (tmp_path / "labels.txt").write_text("red\n\n green \nblue\n")
    assert read_labels(tmp_path / "labels.txt") == ("red", "green", "blue")
    with pytest.raises(UserError, match="one class per line"):
        read_labels(tmp_path / "none.txt")


def test_a_mismatch_names_both_sides() -> None:
    with pytest.raises(UserError, match="only in the data: 'dog'; only in the package: 'cat', 'cow'"):
        match_labels(["cat", "cow", "owl"], ["dog", "owl"])
    with pytest.raises(UserError, match="data: none; only in the package: 'c0', 'c1', 'c2', 'c3', 'c4' and 4 more"):
        match_labels([f"c{i}" for i in range(9)] + ["owl"], ["owl"])


@given(st.permutations([f"class {i}" for i in range(8)]))
def test_labels_are_matched_by_name(order: list[str]) -> None:
    data = tuple(sorted(order))
    assert [order[i] for i in match_labels(order, data)] == list(data)


@pytest.mark.parametrize(
    ("mean", "std", "rule"),
    [("0.5", None, "go together"), ("a", "1", "one number or three"), ("0.5,0.5", "1", "one number or three"),
     ("0.5", "0", "above 0"), ("nan", "1", "one number or three")],
)  # fmt: skip
def test_nonsense_normalisation(mean: str, std: str | None, rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        parse_normalisation(mean, std)


def test_normalisation() -> None:
    assert parse_normalisation(None, None) is None
    assert parse_normalisation("0.485, 0.456,0.406", "0.5") == Normalisation((0.485, 0.456, 0.406), (0.5,))


@given(st.integers(20, 60), st.integers(20, 60), st.integers(8, 40))
def test_centre_crop_of_a_square_is_the_default_rule(width: int, height: int, side: int) -> None:
    rng = np.random.default_rng(width * 100 + height)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert np.array_equal(centre_crop(image, side, side), Preprocessing(resolution=side).apply(image))


def test_centre_crop_keeps_the_aspect_of_the_input() -> None:
    rows, columns = np.mgrid[0:30, 0:40].astype(np.uint8) * 4
    crop = centre_crop(Image.fromarray(np.stack([rows, columns, rows], axis=-1)), 20, 10)
    assert crop.shape == (10, 20, 3)
    # The centred box of 40 by 20 begins at row 5; each pixel is the middle of two by two.
    assert np.abs(crop[1:-1, 5, 0] - 4 * (5.5 + 2 * np.arange(1, 9))).max() <= 1
    assert np.abs(crop[5, 1:-1, 1] - 4 * (0.5 + 2 * np.arange(1, 19))).max() <= 1


@given(st.integers(10, 90), st.integers(10, 90), st.integers(1, 40), st.integers(1, 40))
def test_centre_crop_fits_every_picture(width: int, height: int, wide: int, high: int) -> None:
    assert centre_crop(Image.new("RGB", (width, height), "white"), wide, high).shape == (high, wide, 3)


def test_a_single_channel_tensor_sees_luma(tmp_path: Path, photos: DataSet) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct

        feature = ct.TensorType(name="x", shape=(1, 1, 16, 16))
        labels = ["red", "green", "blue"]
        program = load(convert(tmp_path / "grey.mlpackage", Eye(channels=1), feature, (1, 1, 16, 16), labels))
    # All three outputs are equal: ties go to the lowest index, red.
    assert judge(program, photos, PHONE, normalisation=HALF).score["top1"].value == pytest.approx(1 / 3)
    with pytest.raises(UserError, match="one per channel"):
        judge(program, photos, PHONE, normalisation=Normalisation((0.1, 0.2, 0.3), (1.0,)))


def test_other_tensors_are_refused_by_name(tmp_path: Path, photos: DataSet, packages: dict[str, Program]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct

        feature = ct.TensorType(name="features", shape=(1, 8))
        net: Callable[..., Any] = torch.nn.Sequential(torch.nn.Linear(8, 3), torch.nn.Softmax(-1))
        program = load(convert(tmp_path / "flat.mlpackage", net, feature, (1, 8), ["red", "green", "blue"]))
    with pytest.raises(UserError, match=r"'features' of flat\.mlpackage is"):
        judge(program, photos, PHONE, normalisation=HALF)
