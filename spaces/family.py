"""What a family of networks is: its backbones, how one is built, and the training settings that suit it.

These records carry no torch: tables of families can be shown and counted without loading it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from torch import nn

    from coreml_pareto.spaces.candidate import Network


@final
@dataclass(frozen=True)
class Backbone:
    """One network that has a name.

    Attributes:
        name: our name, which is timm's or torchvision's wherever they have one.
        native_resolution: side of the square input it was published with, in pixels.
        scalable_width, scalable_depth: whether the multipliers may differ from 1.
        published: timm names of its published widths, by width multiplier (their parameter counts are our test).
        pretrained: the timm (or torchvision) name whose ImageNet weights fit at width and depth 1.
    """

    name: str
    native_resolution: int
    scalable_width: bool
    scalable_depth: bool
    pretrained: str | None
    published: Mapping[float, str]


@final
@dataclass(frozen=True)
class TrainingDefaults:
    """Settings with which a family learns from random weights; the learning rate is that of AdamW at batch 64."""

    learning_rate: float
    weight_decay: float
    gradient_clip: float
    label_smoothing: float


@final
@dataclass(frozen=True)
class Family:
    """A row of the table of families.

    `build` returns an untrained module (or one with ImageNet weights) whose forward maps images
    [batch, 3, side, side], normalised, to logits [batch, classes], and which has timm's `feature_info`.
    """

    name: str
    backbones: Mapping[str, Backbone]
    build: Callable[[Network, bool], nn.Module]
    training: TrainingDefaults


def by_name(*backbones: Backbone) -> dict[str, Backbone]:
    """Index backbones by their name, in the given order."""
    return {backbone.name: backbone for backbone in backbones}
