from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from coreml_pareto.objectives.preprocessing import METADATA_KEY, Preprocessing, to_rgb, working_picture
from coreml_pareto.spaces.errors import UserError


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth random colours: what survives JPEG."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def reopened(image: Image.Image, format: str, **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return Image.open(buffer)


LEGAL: dict[str, dict[str, Any]] = {
    "centerCrop": {},
    "regionOfInterest": {"crop_fraction": 0.875},
    "scaleFill": {"resize": "squash", "crop": "none"},
}


@pytest.mark.parametrize("options", LEGAL.values(), ids=LEGAL)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@given(width=st.integers(1, 90), height=st.integers(1, 90), resolution=st.integers(8, 64))
def test_any_picture_becomes_a_square(
    options: dict[str, Any], interpolation: Any, width: int, height: int, resolution: int
) -> None:
    rule = Preprocessing(resolution=resolution, interpolation=interpolation, **options)
    pixels = rule.apply(picture(width, height))
    assert pixels.shape == (resolution, resolution, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("options", LEGAL.values(), ids=LEGAL)
@given(colour=st.tuples(*[st.integers(0, 255)] * 3), width=st.integers(1, 700), height=st.integers(1, 50))
def test_one_colour_stays_that_colour(
    options: dict[str, Any], colour: tuple[int, ...], width: int, height: int
) -> None:
    pixels = Preprocessing(resolution=24, **options).apply(Image.new("RGB", (width, height), colour))
    assert (pixels == colour).all()


@pytest.mark.parametrize(
    ("size", "resolution", "fraction"),
    [((200, 100), 50, 1.0), ((96, 160), 48, 1.0), ((80, 80), 20, 0.5), ((64, 64), 56, 0.875)],
)
def test_the_box_equals_resizing_then_cropping(size: tuple[int, int], resolution: int, fraction: float) -> None:
    """Independent second path: torchvision, where its whole-pixel rounding loses nothing."""
    transforms = pytest.importorskip("torchvision.transforms")
    image = picture(*size)
    expected = transforms.CenterCrop(resolution)(transforms.Resize(round(resolution / fraction))(image))
    pixels = Preprocessing(resolution=resolution, crop_fraction=fraction).apply(image)
    assert np.abs(pixels.astype(int) - np.asarray(expected)).max() <= 1


def test_the_centre_is_what_is_kept() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    image = Image.fromarray(pixels)
    assert (Preprocessing(resolution=10).apply(image) == 255).all()
    squashed = Preprocessing(resolution=30, resize="squash", crop="none", interpolation="nearest").apply(image)
    assert (squashed == np.repeat(pixels, 3, axis=0)).all()


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    image = picture(32, 32)
    assert (Preprocessing(resolution=32, interpolation="bicubic").apply(image) == np.asarray(image)).all()


def test_small_jpegs_are_decoded_at_full_size() -> None:
    image = reopened(picture(64, 40), "JPEG")
    full = np.asarray(reopened(picture(64, 40), "JPEG"))
    assert (np.asarray(working_picture(image)) == full).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("options", LEGAL.values(), ids=LEGAL)
def test_the_working_picture_gives_the_same_pixels_as_the_file(format: str, options: dict[str, Any]) -> None:
    image = picture(2300, 1700)
    kept = Image.fromarray(np.asarray(working_picture(reopened(image, format))))
    assert min(kept.size) == 512
    for resolution in (32, 96, 384):
        rule = Preprocessing(resolution=resolution, **options)
        assert (rule.apply(kept) == rule.apply(reopened(image, format))).all()


def test_the_decoders_own_reduction_changes_little() -> None:
    image = reopened(picture(2300, 1700), "JPEG")
    rule = Preprocessing(resolution=96)
    reduced = rule.apply(image.copy()).astype(int)  # a copy is loaded: reduced from full size
    drafted = rule.apply(reopened(picture(2300, 1700), "JPEG"))
    assert np.abs(reduced - drafted).mean() < 0.5


def test_large_resolutions_start_from_more_pixels() -> None:
    assert Preprocessing(resolution=448, crop_fraction=0.875).working_side == 512
    assert Preprocessing(resolution=600).working_side == 1024
    assert Preprocessing(resolution=512).working_side == 512
    checker = Image.fromarray((np.indices((1024, 1024)).sum(0) % 2 * 255).astype(np.uint8))
    pixels = Preprocessing(resolution=1024).apply(checker)
    assert set(np.unique(pixels)) == {0, 255}  # nothing was lost on the way


GREY = 100
MODES = {
    "grey": (Image.new("L", (9, 9), GREY), (GREY, GREY, GREY)),
    "black and white": (Image.new("1", (9, 9), 1), (255, 255, 255)),
    "16 bit": (Image.fromarray(np.full((9, 9), GREY * 257, np.uint16)), (GREY, GREY, GREY)),
    "32 bit holding 16": (Image.fromarray(np.full((9, 9), GREY * 257, np.int32)), (GREY, GREY, GREY)),
    "palette": (Image.new("RGB", (9, 9), (10, 200, 30)).quantize(4), (10, 200, 30)),
    "transparent": (Image.new("RGBA", (9, 9), (10, 20, 30, 0)), (255, 255, 255)),
    "half transparent": (Image.new("RGBA", (9, 9), (0, 0, 0, 51)), (204, 204, 204)),
    "grey with alpha": (Image.new("LA", (9, 9), (GREY, 255)), (GREY, GREY, GREY)),
    "cmyk": (Image.new("CMYK", (9, 9), (255, 0, 0, 0)), (0, 255, 255)),
}


@pytest.mark.parametrize(("image", "colour"), MODES.values(), ids=MODES)
def test_every_mode_becomes_rgb(image: Image.Image, colour: tuple[int, ...]) -> None:
    assert (Preprocessing(resolution=9).apply(image) == colour).all()


@pytest.mark.parametrize(
    ("name", "format"),
    [("16 bit", "PNG"), ("palette", "GIF"), ("grey with alpha", "PNG"), ("transparent", "WEBP"), ("cmyk", "TIFF")],
)
def test_every_mode_survives_its_file(name: str, format: str) -> None:
    image, colour = MODES[name]
    options = {"lossless": True} if format == "WEBP" else {}
    assert (Preprocessing(resolution=9).apply(reopened(image, format, **options)) == colour).all()


def test_a_transparent_palette_lies_on_white() -> None:
    image = Image.new("P", (9, 9), 0)
    image.putpalette([10, 20, 30])
    assert (Preprocessing(resolution=9).apply(reopened(image, "PNG", transparency=0)) == 255).all()


def test_floating_point_has_no_range() -> None:
    with pytest.raises(ValueError, match="no agreed range"):
        to_rgb(Image.new("F", (9, 9)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """Orientation n is undone by what the EXIF standard says: the stored picture is the upright one, transformed."""
    upright = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),  # shown after turning right
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = reopened(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert (Preprocessing(resolution=8).apply(image) == upright).all()


@pytest.mark.parametrize(
    "options",
    [
        {"resize": "squash"},
        {"crop": "none"},
        {"resize": "squash", "crop": "none", "crop_fraction": 0.9},
    ],
)
def test_illegal_combinations_say_the_way_out(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="write"):
        Preprocessing(resolution=64, **options)


@pytest.mark.parametrize(
    "options", [{"resolution": 0}, {"resolution": 64, "crop_fraction": 0}, {"resolution": 64, "x": 1}]
)
def test_values_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing(**options)


@given(
    resolution=st.integers(8, 1024),
    options=st.sampled_from(list(LEGAL.values())),
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest"]),
)
def test_metadata_carries_the_rule(resolution: int, options: dict[str, Any], interpolation: Any) -> None:
    rule = Preprocessing(resolution=resolution, interpolation=interpolation, **options)
    metadata = rule.to_metadata()
    assert json.loads(metadata["com.coreml-pareto.preprocessing"])["resolution"] == resolution
    assert Preprocessing.from_metadata({"other": "x", **metadata}) == rule


def test_foreign_packages_carry_no_rule() -> None:
    assert Preprocessing.from_metadata({"com.github.apple.coremltools.version": "9.0"}) is None


@pytest.mark.parametrize("text", ["", "{}", '{"resolution": "large"}', '{"resolution": 64, "blur": 1}'])
def test_unreadable_metadata_is_an_error(text: str) -> None:
    with pytest.raises(UserError, match=METADATA_KEY):
        Preprocessing.from_metadata({METADATA_KEY: text})


@pytest.mark.parametrize(
    ("name", "option"),
    [("centerCrop", ".centerCrop"), ("regionOfInterest", "regionOfInterest"), ("scaleFill", ".scaleFill")],
)
def test_people_read_which_option_of_vision_to_choose(name: str, option: str) -> None:
    sentence = Preprocessing(resolution=96, **LEGAL[name]).describe()
    assert option in sentence
    assert "96x96" in sentence
