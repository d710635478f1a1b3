"""Which distillations a study may choose from: the teacher, the temperature, and the three weights of the loss.

Hinton et al. 2015 (arXiv:1503.02531): soft labels at temperature T, their gradient scaled by T².
Romero et al. 2015 (FitNets, arXiv:1412.6550): hints from the teacher's feature maps through 1×1 adapters.
"""

from __future__ import annotations

from pathlib import Path
from typing import final

from pydantic import BaseModel, ConfigDict, Field, field_validator

NONE = "none"


def is_checkpoint(teacher: str) -> bool:
    """Whether a teacher's name is the folder of a finished training rather than a backbone."""
    return "/" in teacher or "\\" in teacher or Path(teacher).is_dir()


@final
class DistillationSpace(BaseModel):
    """The values that each knob of distillation may take; `none` among the teachers is "no distillation".

    A teacher is a backbone's name (one of ours or any of timm), fine-tuned once on the data set, or the folder of a
    finished training (`RUN/store/train/KEY`) on the same classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    teachers: tuple[str, ...] = (NONE,)
    temperature: tuple[float, ...] = (3.0, 4.0, 5.0)
    hard_weight: tuple[float, ...] = (0.3, 0.5, 1.0)
    soft_weight: tuple[float, ...] = (0.5, 1.0)
    feature_weight: tuple[float, ...] = (0.0, 0.1)
    teacher_width: float = Field(default=1.0, gt=0)
    teacher_resolution: int | None = Field(default=None, ge=32, le=384)
    teacher_epochs: int | None = Field(default=None, ge=1)

    @field_validator("temperature")
    @classmethod
    def _temperatures(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 1 <= value <= 10 for value in values):
            raise ValueError(f"temperatures lie between 1 and 10 (3 to 5 suits most), got {list(values)}")
        return values

    @field_validator("hard_weight", "soft_weight", "feature_weight")
    @classmethod
    def _weights(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(value < 0 for value in values):
            raise ValueError(f"weights of the loss are not negative, got {list(values)}")
        return values

    @field_validator("hard_weight", "soft_weight", "feature_weight", "temperature", "teachers")
    @classmethod
    def _not_empty(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if not values:
            raise ValueError("a knob needs at least one value")
        return tuple(dict.fromkeys(values))
