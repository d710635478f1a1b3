"""How does a picture become the square of pixels that a network sees?

One rule for training, evaluation and the executor; it travels in the package's metadata, so that whoever reads the
package later prepares pictures as the training did. The pixels depend on the picture and the rule only:

1. EXIF orientation is applied; the first frame of an animation or a multi-page file counts.
2. 8-bit RGB: palettes are resolved, grey is repeated three times, 16-bit values are scaled (x/257), CMYK is converted
   without a colour profile, transparency is laid on white (our choice: Core ML's `ImageType` RGB has no alpha, and
   white is the usual page). Embedded colour profiles are ignored, as torchvision and timm do.
3. A shorter side above the working side (512 pixels, or the next power of two that holds the target) is first reduced
   to it: JPEG by the decoder's own 1/2, 1/4, 1/8 (`PIL.Image.draft`), then Lanczos. A data set keeps this working
   picture, so photographs are decoded once and every resolution is cut from it with the same result.
4. Resize and crop in one step: the crop box is placed in the picture with sub-pixel accuracy, then scaled.

The options are those of Vision's `VNImageCropAndScaleOption` (Apple, Vision documentation): `.centerCrop` "scales the
image to fit its shorter side within the input dimensions, while preserving its aspect ratio, and center-crops the
image"; `.scaleFill` "scales the image to fill the input dimensions". `.scaleFit` pads instead and has no rule here.
Apple does not publish the filter that Vision resamples with: pixels on a device can differ by rounding and filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from coreml_pareto.spaces.errors import UserError

PREFIX = "com.coreml-pareto."
"""Of every key that we write into a package's user-defined metadata."""
METADATA_KEY: Final = f"{PREFIX}preprocessing"
WORKING_SIDE: Final = 512
_FILTERS: Final = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any mode that has an agreed range; transparency on white. ValueError for floating point."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; save it as 8-bit or 16-bit")
    if image.mode.startswith("I"):  # PIL's own conversion clips at 255 instead of scaling
        wide = np.clip(np.asarray(image).astype(np.float32), 0, 65535)
        image = Image.fromarray(np.round(wide / 257).astype(np.uint8))
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        image = page
    return image if image.mode == "RGB" else image.convert("RGB")


def working_picture(image: Image.Image, side: int = WORKING_SIDE) -> Image.Image:
    """Steps 1 to 3: upright RGB whose shorter side is at most `side` pixels; a second call changes nothing.

    Raises what PIL raises for damaged files (OSError, SyntaxError, ValueError, ...): this is where pixels are decoded.
    """
    image.draft(None, (side, side))  # only JPEG files that are not loaded yet; never below `side`
    image = to_rgb(ImageOps.exif_transpose(image))
    shorter = min(image.size)
    if shorter <= side:
        return image
    width, height = (max(side, round(length * side / shorter)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


class Preprocessing(BaseModel):
    """Resize, crop and interpolation to [resolution, resolution] pixels.

    | resize          | crop     | crop_fraction | Vision option                                |
    | shortest_side   | center   | 1             | .centerCrop                                  |
    | shortest_side   | center   | below 1       | .centerCrop within a centred regionOfInterest |
    | squash          | none     | 1             | .scaleFill                                   |

    `crop_fraction` is the share of the shorter side that the crop keeps (timm's `crop_pct`): 0.875 means resizing the
    shorter side to resolution / 0.875 and cutting the centre.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resolution: int = Field(ge=8, le=1024)
    resize: Literal["shortest_side", "squash"] = "shortest_side"
    crop: Literal["center", "none"] = "center"
    crop_fraction: float = Field(default=1.0, ge=0.25, le=1.0)
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"

    @model_validator(mode="after")
    def _legal(self) -> Preprocessing:
        legal = ("shortest_side", "center") if self.resize == "shortest_side" else ("squash", "none")
        if (self.resize, self.crop) != legal:
            raise UserError(
                "resize: shortest_side goes with crop: center, squash with crop: none; "
                f"got resize: {self.resize} with crop: {self.crop}; write crop: {legal[1]}"
            )
        if self.crop == "none" and self.crop_fraction != 1.0:
            raise UserError(f"crop: none keeps the whole picture; got crop_fraction {self.crop_fraction}; write 1.0")
        return self

    @property
    def working_side(self) -> int:
        """Pixels of the shorter side that this rule starts from: a power of two, at least 512."""
        target = int(np.ceil(self.resolution / self.crop_fraction))
        return max(WORKING_SIDE, 1 << (target - 1).bit_length())

    def apply(self, image: Image.Image) -> NDArray[np.uint8]:
        """The pixels of one picture: uint8 [resolution, resolution, 3], RGB.

        Pass a freshly opened file where there is one. A JPEG that is already loaded skips the decoder's own reduction;
        above 1024 pixels its result then differs slightly (12 megapixels to 224: 0.2 of 255 grey levels on average).
        """
        image = working_picture(image, self.working_side)
        box = self._box(image.width, image.height)
        size = (self.resolution, self.resolution)
        if image.size != size or box != (0, 0, *size):
            image = image.resize(size, _FILTERS[self.interpolation], box=box)
        return np.asarray(image)

    def _box(self, width: int, height: int) -> tuple[float, float, float, float]:
        if self.resize == "squash":
            return (0, 0, width, height)
        side = min(width, height) * self.crop_fraction
        left, top = (width - side) / 2, (height - side) / 2
        return (left, top, left + side, top + side)

    def to_metadata(self) -> dict[str, str]:
        """The entry for a package's user-defined metadata."""
        return {METADATA_KEY: self.model_dump_json()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Preprocessing | None:
        """The rule that a package carries; None where it carries none. UserError where it is unreadable."""
        text = metadata.get(METADATA_KEY)
        if text is None:
            return None
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "JSON"
            raise UserError(
                f"The package's {METADATA_KEY} must be a pre-processing rule; {where}: {problem['msg']}; "
                "correct the metadata or remove the entry"
            ) from error

    def describe(self) -> str:
        """One sentence for people, with the matching option of Vision."""
        square = f"{self.resolution}x{self.resolution} pixels ({self.interpolation})"
        if self.resize == "squash":
            return f"The whole picture is resized to {square}, changing its aspect ratio: Vision's .scaleFill."
        if self.crop_fraction == 1.0:
            shorter = f"The shorter side is resized to {self.resolution}"
            return f"{shorter}, then the centre is cropped to {square}: Vision's .centerCrop."
        margin = (1 - self.crop_fraction) / 2
        return (
            f"The centre square of {self.crop_fraction:g} times the shorter side is resized to {square}: Vision's "
            f".centerCrop with a regionOfInterest that trims {margin:g} of the shorter side from all four edges."
        )
