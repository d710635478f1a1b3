"""The question a study asks: YAML → `Plan`, checked before anything is trained.

A plan is a study file, a preset of `studies/`, or the defaults with a folder of pictures; options of the command line
override its keys. Unknown keys are refused with the legal ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, final, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from coreml_pareto.objectives.catalogue import OBJECTIVES, select
from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Target, find_device
from coreml_pareto.search.duration import parse_duration
from coreml_pareto.search.explain import explain
from coreml_pareto.search.limits import parse_limit
from coreml_pareto.search.settings import merged
from coreml_pareto.search.storage.address import AddressField
from coreml_pareto.spaces import compression as schemes
from coreml_pareto.spaces.candidate import Calibration, Compression
from coreml_pareto.spaces.choices import Choices
from coreml_pareto.spaces.distillation import NONE, DistillationSpace, is_checkpoint
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import FAMILIES, family_of
from coreml_pareto.spaces.space import Space

Auto = Literal["auto"]
AUTO: Auto = "auto"
RESOLUTIONS = (32, 48, 64, 96, 128, 160, 192, 224)
USUAL = ("fp16", "int8/channel", "palette-8/tensor", "palette-6/tensor", "palette-4/tensor")
"""The compressions of a study that names none."""


class Section(BaseModel):
    """A part of a study: frozen, unknown keys refused. The descriptions say in plain words what is legal."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


Multiplier = Annotated[float, Field(ge=0.1, le=4)]
Side = Annotated[int, Field(ge=32, le=384)]
Stride = Annotated[int, Field(ge=1, le=2)]
_MULTIPLIERS = "one or more multipliers from 0.1 to 4, such as [0.5, 1.0]"
_SHARE = "a share above 0 and below 0.5, such as 0.15"
_SEED = "a whole number from 0 on"
_FROM_1 = "a whole number from 1 on"


@final
class Networks(Section):
    """Which networks: backbones (ours or any of timm), multipliers, input sizes, initial weights."""

    backbones: Choices[str] = Field(
        default=(
            "mobilenetv2", "mobilenetv3_small", "mobilenetv4_conv_small",
            "efficientnet_b0", "efficientnet_lite0", "squeezenet1_0", "squeezenet1_1",
        ),
        description="one or more names of backbones or families, such as [mobilenetv2, squeezenet]",
    )  # fmt: skip
    width: Choices[Multiplier] = Field(default=(0.35, 0.5, 0.75, 1.0), description=_MULTIPLIERS)
    depth: Choices[Multiplier] = Field(default=(1.0,), description=_MULTIPLIERS)
    resolution: Choices[Side] | Auto = Field(
        default=AUTO, description="one or more whole numbers of pixels from 32 to 384, such as [64, 96], or auto"
    )
    stem_stride: Choices[Stride] | Auto = Field(
        default=AUTO, description="the stem's stride is 1 or 2, [1, 2] for both, or auto"
    )
    pretrained: str = Field(default=AUTO, description="auto, true, false, or the path of a file with weights")

    @field_validator("backbones")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        expanded = tuple(b for name in names for b in (FAMILIES[name].backbones if name in FAMILIES else (name,)))
        for name in expanded:
            family_of(name)
        return tuple(dict.fromkeys(expanded))

    @field_validator("pretrained", mode="before")
    @classmethod
    def _policy(cls, value: object) -> object:
        return str(value).lower() if isinstance(value, bool) else value  # YAML reads `true` as a boolean


@final
class Training(Section):
    """How long and on what; `images` trains on that many at most.

    `epochs` are the lengths to choose from, one for each backbone, or `auto`: planned from the timeout.
    `rungs`: trainings begin with a third of their epochs, a third of that, …; what proves good is trained on to all.
    `inherit`: a network begins with the weights of a trained one of its backbone, as far as shapes allow.
    `fine_tune_epochs` are added under the compression, to regain what it lost; 0 is none.
    """

    epochs: Choices[PositiveInt] | Mapping[str, PositiveInt] | Auto = Field(
        default=AUTO,
        description="one or more whole numbers from 1 on, such as [12, 20], one for each backbone, "
        "such as {mobilenetv2: 12}, or auto",
    )
    rungs: Annotated[int, Field(ge=1, le=4)] = Field(default=2, description="a whole number from 1 (off) to 4")
    inherit: bool = Field(default=True, description="true or false")
    batch_size: Annotated[int, Field(ge=2)] | Auto = Field(
        default=AUTO, description="a whole number from 2 on, such as 64, or auto"
    )
    images: int | None = Field(default=None, ge=8, description="a whole number from 8 on, such as 5000")
    fine_tune_epochs: Choices[Annotated[int, Field(ge=0)]] = Field(
        default=(0,), description="one or more whole numbers from 0 on, such as [0, 3]"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default=AUTO, description="auto, cpu, cuda or mps")

    @property
    def batch(self) -> int:
        """Images in a batch; 64 while it is not decided."""
        return 64 if self.batch_size == AUTO else self.batch_size


@final
class CalibrationSection(Section):
    """From how many training images W8A8 takes the ranges of its activations, and how."""

    images: Choices[PositiveInt] = Field(
        default=(schemes.CALIBRATION_IMAGES,), description="one or more whole numbers from 1 on, such as [128, 512]"
    )
    method: Choices[Calibration] = Field(
        default=("min-max",), description=f"one or more of {', '.join(get_args(Calibration))}"
    )


@final
class Splits(Section):
    """How pictures without given splits are split, and how many are used at most."""

    validation: float = Field(default=0.15, gt=0, lt=0.5, description=_SHARE)
    test: float = Field(default=0.15, gt=0, lt=0.5, description=_SHARE)
    seed: int = Field(default=0, ge=0, description=_SEED)
    limit: int | None = Field(default=None, ge=4, description="a whole number from 4 on, such as 5000")
    max_broken: float = Field(default=0.01, ge=0, le=1, description="a share from 0 to 1, such as 0.01")


@final
class TargetSection(Section):
    """Whose latency, memory and energy are estimated."""

    device: str = Field(default="iPhone 15 Pro", description="a device's name, such as iPhone 15 Pro")
    os: int = Field(default=17, description="an iOS release, such as 17")
    compute_units: ComputeUnits = Field(default="ALL", description="ALL, CPU_AND_NE, CPU_AND_GPU or CPU_ONLY")

    @model_validator(mode="after")
    def _exists(self) -> TargetSection:
        self.resolve()
        return self

    def resolve(self) -> Target:
        """Return the device of the catalogue with system and units; unknown ones are refused."""
        return Target(find_device(self.device), self.os, self.compute_units)


@final
class SearchSection(Section):
    """How the space is searched and when it ends (whichever comes first).

    `sampler`: auto chooses trainings by expected gain of hypervolume for their effort; the others are Optuna's.
    `gate`: trainings are stopped that cannot enter the front.
    `workers` processes evaluate beside the search's own; none: it evaluates itself. One that gives no sign of life for
    `patience` is ended: a training gives one twice a second, the longest step without any takes a few minutes.
    `finalists`: so many of the front, the most balanced first, are trained again with `seeds` other seeds, after the budget.
    """

    sampler: Literal["auto", "tpe", "nsga2", "nsga3", "gp", "random"] = Field(
        default=AUTO, description="auto, tpe, nsga2, nsga3, gp or random"
    )
    trials: int | None = Field(default=None, ge=1, description=_FROM_1)
    timeout: str | None = Field(default=None, description="a duration such as 30m, 8h, 1h30m, or 600 (seconds)")
    seed: int = Field(default=0, ge=0, description=_SEED)
    gate: bool = Field(default=True, description="true or false")
    packages_per_training: Annotated[int, Field(ge=1)] | Auto = Field(
        default=AUTO, description="a whole number from 1 on, or auto: every compression that may enter the front"
    )
    workers: int | None = Field(default=None, ge=1, description=_FROM_1)
    patience: str = Field(default="30m", description="a duration such as 10m or 1h")
    finalists: int = Field(default=0, ge=0, description="a whole number from 0 (none) on")
    seeds: int = Field(default=3, ge=2, description="a whole number from 2 on")

    @field_validator("timeout", "patience", mode="before")
    @classmethod
    def _spelled(cls, value: object) -> object:
        return f"{value}s" if isinstance(value, int | float) and not isinstance(value, bool) else value

    @property
    def seconds(self) -> float | None:
        """The timeout in seconds."""
        return None if self.timeout is None else parse_duration(self.timeout)

    @property
    def patience_seconds(self) -> float:
        """The patience in seconds."""
        return parse_duration(self.patience)


@final
class Plan(Section):
    """A study, whole: what is asked, of which data, from which space, within which limits."""

    name: str = Field(
        default="search",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="letters, digits, dots, dashes and underscores, beginning with a letter or digit",
    )
    data: str | None = Field(
        default=None, description="a folder of pictures, its .tar, a .csv of paths and labels, hf:NAME, or digits"
    )
    store: str | None = Field(
        default=None,
        description="a folder or URL that runs and machines share, such as /shared/store or s3://bucket/store, or null",
    )
    storage: AddressField | None = Field(
        default=None,
        description="where several machines keep the study, such as postgresql://user@host/database, or null",
    )
    origin: str | None = Field(
        default=None, description="the folder of a run whose trained networks are candidates first, or null"
    )
    splits: Splits = Splits()
    networks: Networks = Networks()
    distillation: DistillationSpace = DistillationSpace()
    target: TargetSection = TargetSection()
    compression: Choices[str] = Field(
        default=(AUTO,),
        validate_default=True,
        description="one or more compressions, such as [fp16, int8/channel], auto (the usual ones) or all",
    )
    calibration: CalibrationSection = CalibrationSection()
    training: Training = Training()
    objectives: Choices[str] = Field(default=tuple(OBJECTIVES), description=f"one or more of {', '.join(OBJECTIVES)}")
    limits: Mapping[str, str | int | float] = Field(
        default_factory=dict, description="limits by objective, such as {size: 10MB, accuracy: 90%}"
    )
    strict: bool = Field(default=False, description="true or false")
    search: SearchSection = SearchSection()

    @field_validator(
        "splits", "networks", "distillation", "target", "calibration", "training", "limits", "search", mode="before"
    )
    @classmethod
    def _left_empty(cls, value: object) -> object:
        return {} if value is None else value  # a section whose keys are all commented out

    @field_validator("compression")
    @classmethod
    def _loadable(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """Expand `auto` and `all` to what the target's iOS loads; refuse what is named and not loaded by it."""
        target: TargetSection | None = info.data.get("target")
        os = target.os if target else None  # None: refused already
        every = [
            row for row in schemes.every_compression() if row.mode != "uniform"
        ]  # k-means loses less in the same bytes
        groups = {AUTO: map(schemes.parse, USUAL), "all": every}
        found: list[Compression] = []
        for name in names:
            if name in groups:
                found += [row for row in groups[name] if os is None or schemes.minimum_os(row) <= os]
            else:
                found.append(schemes.check(schemes.parse(name), os=os))
        return tuple(dict.fromkeys(map(schemes.spell, found)))

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        select(self.objectives)
        if self.limits:
            select(self.limits)
        _ = self.bounds, self.search.seconds, self.search.patience_seconds
        for teacher in self.distillation.teachers:
            if teacher != NONE and not is_checkpoint(teacher):
                family_of(teacher)
        self._check_epochs()
        if self.storage is not None and self.store is None:
            raise UserError(
                "A study of several machines needs a store that all of them share, for each reads the packages of the "
                "others: give --store DIR|URL beside --storage."
            )
        return self

    def _check_epochs(self) -> None:
        if not isinstance(self.training.epochs, Mapping):
            return
        backbones, named = self.networks.backbones, self.training.epochs
        if without := [name for name in backbones if name not in named]:
            raise UserError(f"training.epochs by backbone lacks {', '.join(without)}: give every backbone its epochs.")
        if strange := [name for name in named if name not in backbones]:
            raise UserError(
                f"training.epochs names {', '.join(strange)}, which networks.backbones does not: leave it out there too."
            )

    @property
    def bounds(self) -> dict[str, float]:
        """The limits in the unit of each objective's reading."""
        return {name: parse_limit(name, str(text)) for name, text in self.limits.items()}

    @property
    def compressions(self) -> tuple[Compression, ...]:
        """The compressions of the space; the target's system loads them all."""
        return tuple(map(schemes.parse, self.compression))

    @property
    def packages_per_training(self) -> int:
        """How many packages a training yields at most."""
        wanted = self.search.packages_per_training
        return len(self.compression) if wanted == AUTO else wanted

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
            batch_size=self.training.batch,
            calibration_images=self.calibration.images,
            calibration=self.calibration.method,
            fine_tune_epochs=self.training.fine_tune_epochs,
            rungs=self.training.rungs,
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
        UserError: no such study, no readable YAML, an unknown key, an illegal value; the message names the place.
    """
    text, place = _text_of(study)
    try:
        content = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        raise UserError(f"{place} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{place} must be a mapping of keys such as data, networks, limits; got {type(content).__name__}."
        )
    return plan_of(_named(content, study), place, overrides)


def plan_of(content: Mapping[str, Any], place: str, overrides: Mapping[str, Any] | None = None) -> Plan:
    """Return a study from plain values, `overrides` laid over them; `place` names them in a refusal.

    Raises:
        UserError: an unknown key, an illegal value.
    """
    content = merged(content, overrides or {})
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, Plan, content, place)) from error


def dump_plan(plan: Plan) -> str:
    """Return a plan as YAML that `load_plan` reads back."""
    return yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _text_of(study: str | None) -> tuple[str, str]:
    if study is None:
        return "", "the command line"
    path, known = Path(study), presets()
    if path.is_file():
        return _read(path), study
    if study in known:
        return known[study], f"preset {study}"
    if path.is_dir():
        raise UserError(
            f"A study is a YAML file or a preset ({', '.join(known)}); {study} is a folder: pictures are given with --data."
        )
    if path.suffix in (".yaml", ".yml"):
        raise UserError(f"There is no study file {study}; presets are: {', '.join(known)}.")
    raise UserError(f"{study!r} is neither a file nor a preset; presets are: {', '.join(known)}.")


def _named(content: dict[str, Any], study: str | None) -> dict[str, Any]:
    """Return a study with its name; a file that gives none is called by its stem, so that each has a run folder."""
    if study is None or "name" in content or not Path(study).is_file():
        return content
    plain = unicodedata.normalize("NFKD", Path(study).stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("._-")
    return {"name": name, **content} if name else content


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"A study is text in UTF-8; {path} is not (byte {error.start}): save it as UTF-8.") from error
    except OSError as error:
        raise UserError(
            f"A study must be readable; {path} is not ({error.strerror}): check its permissions."
        ) from error


__all__ = ["AUTO", "RESOLUTIONS", "Plan", "dump_plan", "load_plan", "plan_of", "presets"]
