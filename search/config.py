"""The question a study asks: YAML → `Plan`, checked before anything is trained.

A plan is a study file, a preset of `studies/`, or the defaults with a folder of pictures; options of the command line
override its keys. Unknown keys are refused with the legal ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, final

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from coreml_pareto.objectives.catalogue import OBJECTIVES, select
from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Target, find_device
from coreml_pareto.search.duration import parse_duration
from coreml_pareto.search.limits import parse_limit
from coreml_pareto.spaces import compression as schemes
from coreml_pareto.spaces.candidate import Compression
from coreml_pareto.spaces.distillation import NONE, DistillationSpace, is_checkpoint
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import FAMILIES, family_of
from coreml_pareto.spaces.space import Space

Auto = Literal["auto"]
AUTO: Auto = "auto"
RESOLUTIONS = (32, 48, 64, 96, 128, 160, 192, 224)


class Section(BaseModel):
    """A part of a study: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@final
class Networks(Section):
    """Which networks: backbones (ours or any of timm), multipliers, input sizes, initial weights."""

    backbones: tuple[str, ...] = (
        "mobilenetv2", "mobilenetv3_small", "mobilenetv4_conv_small",
        "efficientnet_b0", "efficientnet_lite0", "squeezenet1_0", "squeezenet1_1",
    )  # fmt: skip
    width: tuple[float, ...] = (0.35, 0.5, 0.75, 1.0)
    depth: tuple[float, ...] = (1.0,)
    resolution: tuple[int, ...] | Auto = AUTO
    stem_stride: tuple[int, ...] | Auto = AUTO
    pretrained: str = AUTO

    @field_validator("backbones")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        expanded = tuple(b for name in names for b in (FAMILIES[name].backbones if name in FAMILIES else (name,)))
        for name in expanded:
            family_of(name)
        return tuple(dict.fromkeys(expanded))

    @field_validator("width", "depth")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or any(not 0.1 <= value <= 4 for value in values):
            raise ValueError(f"multipliers lie between 0.1 and 4, got {list(values)}")
        return values

    @field_validator("resolution")
    @classmethod
    def _sides(cls, values: tuple[int, ...] | Auto) -> tuple[int, ...] | Auto:
        if isinstance(values, tuple) and (not values or any(not 32 <= side <= 384 for side in values)):
            raise ValueError(f"input resolutions lie between 32 and 384 pixels, got {list(values)}")
        return values

    @field_validator("stem_stride")
    @classmethod
    def _strides(cls, values: tuple[int, ...] | Auto) -> tuple[int, ...] | Auto:
        if isinstance(values, tuple) and (not values or not set(values) <= {1, 2}):
            raise ValueError(f"the stem's stride is 1 or 2 (or auto), got {list(values)}")
        return values

    @field_validator("pretrained", mode="before")
    @classmethod
    def _policy(cls, value: object) -> object:
        return str(value).lower() if isinstance(value, bool) else value  # YAML reads `true` as a boolean


@final
class Training(Section):
    """How long and on what; `images` trains on that many at most.

    `epochs` are the lengths to choose from, one for each backbone, or `auto`: planned from the timeout.
    """

    epochs: tuple[PositiveInt, ...] | Mapping[str, PositiveInt] | Auto = AUTO
    batch_size: int = Field(default=64, ge=2)
    images: int | None = Field(default=None, ge=8)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


@final
class Splits(Section):
    """How pictures without given splits are split, and how many are used at most."""

    validation: float = Field(default=0.15, gt=0, lt=0.5)
    test: float = Field(default=0.15, gt=0, lt=0.5)
    seed: int = 0
    limit: int | None = Field(default=None, ge=4)
    max_broken: float = Field(default=0.01, ge=0, le=1)


@final
class TargetSection(Section):
    """Whose latency, memory and energy are estimated."""

    device: str = "iPhone 15 Pro"
    os: int = 17
    compute_units: ComputeUnits = "ALL"

    def resolve(self) -> Target:
        """Return the device of the catalogue with system and units; unknown ones are refused."""
        return Target(find_device(self.device), self.os, self.compute_units)


@final
class SearchSection(Section):
    """How the space is searched and when it ends (whichever comes first)."""

    sampler: Literal["tpe", "nsga2", "nsga3", "gp", "random"] = "tpe"
    trials: int | None = Field(default=None, ge=1)
    timeout: str | None = None
    seed: int = 0
    packages_per_training: int = Field(default=2, ge=1)

    @property
    def seconds(self) -> float | None:
        """The timeout in seconds."""
        return None if self.timeout is None else parse_duration(self.timeout)


@final
class Plan(Section):
    """A study, whole: what is asked, of which data, from which space, within which limits."""

    name: str = Field(default="search", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: str | None = None
    splits: Splits = Splits()
    networks: Networks = Networks()
    distillation: DistillationSpace = DistillationSpace()
    compression: tuple[str, ...] = ("fp16", "int8/channel", "palette-8/tensor", "palette-6/tensor", "palette-4/tensor")
    training: Training = Training()
    objectives: tuple[str, ...] = tuple(OBJECTIVES)
    limits: Mapping[str, str | float] = Field(default_factory=dict)
    strict: bool = False
    target: TargetSection = TargetSection()
    search: SearchSection = SearchSection()

    @field_validator("compression", mode="before")
    @classmethod
    def _all(cls, value: object) -> object:
        return tuple(schemes.spell(c) for c in schemes.every_compression()) if value == "all" else value

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        select(self.objectives)
        if self.limits:
            select(self.limits)
        _ = self.bounds, self.target.resolve(), self.search.seconds
        for teacher in self.distillation.teachers:
            if teacher != NONE and not is_checkpoint(teacher):
                family_of(teacher)
        if isinstance(self.training.epochs, Mapping):
            without = [name for name in self.networks.backbones if name not in self.training.epochs]
            if without:
                raise UserError(
                    f"training.epochs by backbone lacks {', '.join(without)}: give every backbone its epochs."
                )
        if not self.compressions:
            raise UserError(f"No compression is left that iOS {self.target.os} loads; name one, e.g. fp16.")
        return self

    @property
    def bounds(self) -> dict[str, float]:
        """The limits in the unit of each objective's reading."""
        return {name: parse_limit(name, str(text)) for name, text in self.limits.items()}

    @property
    def compressions(self) -> tuple[Compression, ...]:
        """The compressions of the space, each checked against the target's system."""
        parsed = tuple(schemes.check(schemes.parse(text), os=self.target.os) for text in self.compression)
        return tuple(dict.fromkeys(parsed))

    def space(self, classes: int) -> Space:
        """Return the space of candidates; whatever is still `auto` takes the widest choice."""
        networks, epochs = self.networks, self.training.epochs
        return Space(
            backbones=networks.backbones,
            width=networks.width,
            depth=networks.depth,
            resolution=networks.resolution if isinstance(networks.resolution, tuple) else RESOLUTIONS,
            stem_stride=networks.stem_stride if isinstance(networks.stem_stride, tuple) else (AUTO,),
            distillation=self.distillation,
            epochs=(1,) if epochs == AUTO else epochs,
            compressions=self.compressions,
            classes=classes,
            seed=self.search.seed,
            batch_size=self.training.batch_size,
        )


def presets() -> dict[str, str]:
    """Return the text of every preset by name, from the installed package."""
    folder = files("coreml_pareto.studies")
    return {
        entry.name.removesuffix(".yaml"): entry.read_text("utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    }


def load_plan(study: str | None, overrides: Mapping[str, Any] | None = None) -> Plan:
    """Read a study file or preset (None: the defaults), lay `overrides` over it (nested by section), and check it.

    Raises:
        UserError: no such study, no YAML, an unknown key, an illegal value; the message names the place.
    """
    text, place = _text_of(study)
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{place} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{place} must be a mapping of keys such as data, networks, limits; got {type(content).__name__}."
        )
    try:
        return Plan.model_validate(_merged(content, overrides or {}))
    except ValidationError as error:
        raise UserError(_explain(error, place)) from error


def dump_plan(plan: Plan) -> str:
    """Return a plan as YAML that `load_plan` reads back."""
    return yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _text_of(study: str | None) -> tuple[str, str]:
    if study is None:
        return "", "the command line"
    path = Path(study)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise UserError(f"There is no study file {study}; presets are: {', '.join(presets())}.")
        return path.read_text("utf-8"), study
    known = presets()
    if study not in known:
        raise UserError(f"{study!r} is neither a file nor a preset; presets are: {', '.join(known)}.")
    return known[study], f"preset {study}"


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top, section by section."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def _explain(error: ValidationError, place: str) -> str:
    """Return the first two problems as sentences: where, what came, what is legal."""
    return "\n".join(_sentence(problem, place) for problem in error.errors()[:2])


def _sentence(problem: Any, place: str) -> str:
    path = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key {'.'.join(path)!r}; legal here: {', '.join(_legal_keys(path[:-1]))}."
    what = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {'.'.join(path) or 'the study'}: {what} (got {problem['input']!r})"


def _legal_keys(path: list[str]) -> list[str]:
    model: Any = Plan
    for part in path:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


__all__ = ["AUTO", "RESOLUTIONS", "Plan", "dump_plan", "load_plan", "presets"]
