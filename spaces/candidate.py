"""What one point of the search is: a `Candidate` = `Network` + `Recipe` + `Compression`.

Three frozen records and their sum. A record's `digest` is the hash of its canonical JSON (sorted keys, no spaces),
so equal content has an equal name on any machine: it names files, keys the store and derives every seed.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal, final

from pydantic import BaseModel, ConfigDict, Field

Scheme = Literal["fp32", "fp16", "int8", "int4", "palette", "pruning", "joint", "mixed", "w8a8"]
Granularity = Literal["none", "tensor", "channel", "block", "group"]
Mode = Literal["usual", "asymmetric", "uniform"]
Calibration = Literal["min-max", "percentile", "moving-average"]


def digest_of(value: object) -> str:
    """Return the first 16 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Record(BaseModel):
    """A frozen record that refuses unknown fields and knows its own digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def digest(self) -> str:
        """The content's name: 16 hex digits."""
        return digest_of(self.model_dump(mode="json"))


@final
class Network(Record):
    """A network before training.

    `width` and `depth` multiply the backbone's published channels and block repeats; `resolution` is the side of
    the square input in pixels; `stem_stride` the stride of the first convolution (1 keeps detail of small images).
    """

    family: str
    backbone: str
    width: float = Field(default=1.0, gt=0)
    depth: float = Field(default=1.0, gt=0)
    resolution: int = Field(ge=32, le=384)
    stem_stride: Literal[1, 2] = 2
    classes: int = Field(ge=2)

    @property
    def label(self) -> str:
        """The name for people, e.g. `mobilenetv2×0.5 @64`."""
        width = "" if self.width == 1 else f"×{self.width:g}"
        depth = "" if self.depth == 1 else f" depth×{self.depth:g}"
        stem = "" if self.stem_stride == 2 else " stem/1"
        return f"{self.backbone}{width}{depth} @{self.resolution}{stem}"


@final
class Recipe(Record):
    """How a network is trained: epochs, optimiser, and what it learns from.

    The loss is `hard_weight`·CE(labels) + `soft_weight`·T²·KL(teacher ‖ student at temperature T)
    + `feature_weight`·MSE(feature maps); without a teacher only the labels count.
    """

    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    batch_size: int = Field(default=64, ge=2)
    gradient_clip: float = Field(default=1.0, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0
    teacher: str | None = None
    temperature: float = Field(default=1.0, ge=1, le=10)
    hard_weight: float = Field(default=1.0, ge=0)
    soft_weight: float = Field(default=0.0, ge=0)
    feature_weight: float = Field(default=0.0, ge=0)

    @property
    def label(self) -> str:
        """The name for people, e.g. `12 epochs, taught by resnet18 (T 4)`."""
        epochs = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        if self.teacher is None:
            return epochs
        weights = f"hard {self.hard_weight:g} soft {self.soft_weight:g} features {self.feature_weight:g}"
        return f"{epochs}, taught by {self.teacher} (T {self.temperature:g}, {weights})"


@final
class Compression(Record):
    """How the weights (and for W8A8 the activations) are stored; legal cells: `compression.SCHEMES`.

    Attributes:
        bits: of a stored integer or index; 16 where values stay in half precision, and for `mixed`.
        mode: `usual` for symmetric integers and for tables found by k-means.
        group_size: channels of a block or group; 0 without.
        sparsity: share of the weights set to zero.
        average_bits, target_bytes: what `mixed` may spend, one of them: bits per weight, or the whole package.
        calibration_images, calibration: how many training images give the ranges of the activations of W8A8, and how.
        fine_tune_epochs: of training under the compression, to regain what it lost.
    """

    scheme: Scheme = "fp16"
    bits: int = 16
    granularity: Granularity = "none"
    mode: Mode = "usual"
    group_size: int = 0
    sparsity: float = Field(default=0.0, ge=0, lt=1)
    average_bits: float = Field(default=0.0, ge=0)
    target_bytes: int = Field(default=0, ge=0)
    calibration_images: int = Field(default=0, ge=0)
    calibration: Calibration = "min-max"
    fine_tune_epochs: int = Field(default=0, ge=0)


@final
class Candidate(Record):
    """One point of the search: what to build, how to train it, how to store it."""

    network: Network
    recipe: Recipe
    compression: Compression

    @property
    def training(self) -> tuple[Network, Recipe]:
        """What is trained: candidates that differ in their compression alone share it."""
        return self.network, self.recipe
