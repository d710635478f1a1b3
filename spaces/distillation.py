"""Which distillations a study may choose from: the teacher, the temperature, and the three weights of the loss.

Hinton et al. 2015 (arXiv:1503.02531): soft labels at temperature T, their gradient scaled by T².
Romero et al. 2015 (FitNets, arXiv:1412.6550): hints from the teacher's feature maps through 1×1 adapters.
"""

from __future__ import annotations

from typing import Annotated, final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from coreml_pareto.spaces.choices import Choices

NONE = "none"
Weight = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(ge=1, le=10)]
_WEIGHTS = "one or more weights of the loss, 0 or more, such as [0.5, 1.0]"


def is_checkpoint(teacher: str) -> bool:
    """Whether a teacher is written as a path rather than as a backbone's name, whatever lies in the working folder."""
    return "/" in teacher or "\\" in teacher or teacher.startswith((".", "~"))


@final
class DistillationSpace(BaseModel):
    """The values that each knob of distillation may take; `none` among the teachers is "no distillation".

    A teacher is a backbone's name (one of ours or any of timm), fine-tuned once on the data set, or the folder of a
    finished training (`RUN/store/train/KEY`) on the same classes, written as a path: `./mine`, where `mine` alone would
    be a backbone. The descriptions say in plain words what is legal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    teachers: Choices[str] = Field(
        default=(NONE,),
        description="one or more of: none, a backbone's name, the folder of a finished training written as a path "
        "(./mine); such as [none, mobilenetv3_large]",
    )
    temperature: Choices[Temperature] = Field(
        default=(3.0, 4.0, 5.0), description="one or more temperatures from 1 to 10, such as [3, 4, 5]"
    )
    hard_weight: Choices[Weight] = Field(default=(0.3, 0.5, 1.0), description=_WEIGHTS)
    soft_weight: Choices[Weight] = Field(default=(0.5, 1.0), description=_WEIGHTS)
    feature_weight: Choices[Weight] = Field(default=(0.0, 0.1), description=_WEIGHTS)
    teacher_width: float = Field(default=1.0, ge=0.1, le=4, description="a multiplier from 0.1 to 4, such as 0.75")
    teacher_resolution: int | None = Field(
        default=None, ge=32, le=384, description="a whole number of pixels from 32 to 384, such as 96"
    )
    teacher_epochs: int | None = Field(default=None, ge=1, description="a whole number from 1 on, such as 20")

    @model_validator(mode="after")
    def _teaches(self) -> DistillationSpace:
        if 0 in self.hard_weight and 0 in self.soft_weight and 0 in self.feature_weight:
            raise ValueError(
                "a loss whose hard_weight, soft_weight and feature_weight are all 0 teaches nothing, and these lists "
                "allow it: take the 0 out of one of them"
            )
        return self
