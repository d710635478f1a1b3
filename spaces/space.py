"""What a study may choose from: knobs ⇄ Candidate. Decode, encode, count, neighbours.

`Space.decode(choose)` walks the knobs in order and asks `choose` for the value of each one that is open; what
depends on an earlier choice (a backbone's width, a teacher's temperature) is resolved here and nowhere else.
Encoding, counting and neighbours all replay the same walk with another `choose`, so they cannot disagree with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, TypeVar, final

from coreml_pareto.spaces import compression as schemes
from coreml_pareto.spaces.candidate import Calibration, Candidate, Compression, Network, Recipe
from coreml_pareto.spaces.distillation import NONE, DistillationSpace
from coreml_pareto.spaces.families import TIMM, backbone_of, family_of, training_defaults

Value = str | int | float
RUNG = "rung"
"""The name of the knob that says how long a candidate is trained."""
RUNG_FACTOR = 3
"""Each rung trains that many times as long as the one below: the reduction factor of successive halving
(Jamieson and Talwalkar 2016, arXiv:1502.07943; Li et al. 2017, Hyperband, arXiv:1603.06560, section 3.4)."""
LEAST_EPOCHS = 2
"""Of the lowest rung; a space whose trainings are too short for it has a rung less."""
SMALL_IMAGE = 48
"""Up to this resolution `stem_stride: auto` is 1: five strides of 2 would leave a map of one pixel."""


@final
@dataclass(frozen=True)
class Knob:
    """One open choice: its name in the study's record, its legal values, and where a Candidate keeps it."""

    name: str
    choices: tuple[Value, ...]
    read: Callable[[Candidate], Value]

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers, so that near values behave alike."""
        return all(isinstance(choice, int | float) for choice in self.choices)


Choose = Callable[[Knob], Any]
T = TypeVar("T")


@final
@dataclass(frozen=True)
class Space:
    """The open choices of a study.

    Attributes:
        backbones: names of ours or of timm.
        width, depth: multipliers, asked where the backbone can be scaled.
        resolution: sides of the input in pixels.
        stem_stride: 1, 2 or `auto` (1 for inputs of at most 48 pixels; alone).
        distillation: the teachers and the loss.
        epochs: lengths of a training, or the one length for each backbone.
        rungs: into how many budgets the one length is graded: a third of it, a third of that, …
        compressions: all legal on the study's OS.
        calibration_images, calibration: of W8A8.
        fine_tune_epochs: of training under a compression; 0 is none.
        classes, seed, batch_size: fixed for a study.
    """

    backbones: tuple[str, ...]
    width: tuple[float, ...]
    depth: tuple[float, ...]
    resolution: tuple[int, ...]
    stem_stride: tuple[int | Literal["auto"], ...]
    distillation: DistillationSpace
    epochs: tuple[int, ...] | Mapping[str, int]
    compressions: tuple[Compression, ...]
    classes: int
    seed: int = 0
    batch_size: int = 64
    calibration_images: tuple[int, ...] = (schemes.CALIBRATION_IMAGES,)
    calibration: tuple[Calibration, ...] = ("min-max",)
    fine_tune_epochs: tuple[int, ...] = (0,)
    rungs: int = 1

    def decode(self, choose: Choose) -> Candidate:
        """Ask `choose` for every open knob and return the Candidate that follows."""
        network = self._network(choose)
        recipe = self._recipe(choose, network.backbone)
        return Candidate(network=network, recipe=recipe, compression=self._compression(choose))

    def encode(self, candidate: Candidate) -> dict[str, Value]:
        """Return the value of every knob that `decode` asks on its way to `candidate`."""
        values: dict[str, Value] = {}

        def read(knob: Knob) -> Value:
            values[knob.name] = knob.read(candidate)
            return values[knob.name]

        self.decode(read)
        return values

    def compressed(self, candidate: Candidate, compression: Compression) -> Candidate:
        """Return a candidate under another of the space's compressions; knobs that this opens take their first value."""
        return self.decode(choose_from({**self.encode(candidate), "compression": schemes.spell(compression)}))

    def holds(self, network: Network, recipe: Recipe) -> bool:
        """Whether some candidate is this network trained by this recipe."""
        name = network.backbone
        if name not in self.backbones or recipe.epochs < self._length(min(self.epochs_of(name)), self.ladder[0]):
            return False
        plain = Candidate(network=network, recipe=recipe, compression=self.compressions[0])
        found = self.decode(choose_from(self.encode(plain)))
        return (found.network, found.recipe) == (network, recipe)

    def networks(self) -> Iterator[Network]:
        """Yield every network of the space once."""
        return _every(self._network)

    def count(self) -> int:
        """Return the number of candidates, exactly: the walks of the three parts are independent but for the backbone."""
        recipes = {name: sum(1 for _ in _every(partial(self._recipe, backbone=name))) for name in self.backbones}
        compressions = sum(1 for _ in _every(self._compression))
        return sum(recipes[network.backbone] for network in self.networks()) * compressions

    def neighbours(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """Return the candidates that differ in one knob: any other value, or the next one where values are ordered.

        Knobs that open because of the change take their first value.
        """
        own = self.encode(candidate)
        found: dict[str, Candidate] = {}
        for knob in self.knobs():
            if knob.name in own:
                for value in _steps(knob, own[knob.name]):
                    changed = self.decode(choose_from({**own, knob.name: value}))
                    found.setdefault(changed.digest, changed)
        found.pop(candidate.digest, None)
        return tuple(found.values())

    def knobs(self) -> tuple[Knob, ...]:
        """Return every knob that some candidate opens, in the order of asking."""
        seen: dict[str, Knob] = {}

        def note(knob: Knob) -> Value:
            seen.setdefault(knob.name, knob)
            return knob.choices[0]

        for family in self.families:
            for backbone in self.backbones_of(family):
                self._network(choose_from({"family": family, f"backbone.{family}": backbone}, note))
                for teacher in self.distillation.teachers:
                    self._recipe(choose_from({"teacher": teacher}, note), backbone)
        for compression in self.compressions:
            self._compression(choose_from({"compression": schemes.spell(compression)}, note))
        return tuple(seen.values())

    @property
    def families(self) -> tuple[str, ...]:
        """The families of the backbones, in order of first appearance."""
        return tuple(dict.fromkeys(family_of(name) for name in self.backbones))

    def backbones_of(self, family: str) -> tuple[str, ...]:
        """Return the study's backbones of one family."""
        return tuple(name for name in self.backbones if family_of(name) == family)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Every number of epochs that some backbone may be trained for, ascending."""
        return tuple(sorted({epochs for name in self.backbones for epochs in self.epochs_of(name)}))

    def epochs_of(self, backbone: str) -> tuple[int, ...]:
        """Return how long a backbone may be trained, on the highest rung."""
        return (self.epochs[backbone],) if isinstance(self.epochs, Mapping) else self.epochs

    @cached_property
    def ladder(self) -> tuple[int, ...]:
        """The rungs from the lowest, 0, up to the highest; one alone where trainings are too short or lengths a choice."""
        if not isinstance(self.epochs, Mapping) and len(self.epochs) > 1:
            return (0,)
        rungs = self.rungs
        while rungs > 1 and _graded(min(self.lengths), rungs - 1) < LEAST_EPOCHS:
            rungs -= 1
        return tuple(range(rungs))

    def rung_of(self, candidate: Candidate) -> int:
        """Return the rung on which a candidate is trained."""
        whole = min(self.epochs_of(candidate.network.backbone))
        return next(rung for rung in reversed(self.ladder) if self._length(whole, rung) <= candidate.recipe.epochs)

    def on_rung(self, candidate: Candidate, rung: int) -> Candidate:
        """Return the candidate trained on another rung."""
        return self.decode(choose_from({**self.encode(candidate), RUNG: rung}))

    def _length(self, whole: int, rung: int) -> int:
        return _graded(whole, self.ladder[-1] - rung)

    def _network(self, choose: Choose) -> Network:
        family = _ask(choose, "family", self.families, lambda c: c.network.family)
        name = _ask(choose, f"backbone.{family}", self.backbones_of(family), lambda c: c.network.backbone)
        row = backbone_of(family, name)
        width = _ask(choose, "width", self.width, lambda c: c.network.width) if row.scalable_width else 1.0
        depth = _ask(choose, "depth", self.depth, lambda c: c.network.depth) if row.scalable_depth else 1.0
        resolution = _ask(choose, "resolution", self.resolution, lambda c: c.network.resolution)
        return Network(
            family=family, backbone=name, width=width, depth=depth, resolution=resolution,
            stem_stride=self._stem(choose, family, resolution), classes=self.classes,
        )  # fmt: skip

    def _stem(self, choose: Choose, family: str, resolution: int) -> Literal[1, 2]:
        if family == TIMM or self.stem_stride == ("auto",):
            return auto_stem(family, resolution)
        strides: tuple[int, ...] = tuple(int(stride) for stride in self.stem_stride)
        return 1 if _ask(choose, "stem_stride", strides, lambda c: c.network.stem_stride) == 1 else 2

    def _recipe(self, choose: Choose, backbone: str) -> Recipe:
        defaults = training_defaults(family_of(backbone))
        teacher = _ask(choose, "teacher", self.distillation.teachers, lambda c: c.recipe.teacher or NONE)
        fixed: dict[str, Any] = {
            "epochs": self._epochs(choose, backbone),
            "learning_rate": defaults.learning_rate,
            "weight_decay": defaults.weight_decay,
            "gradient_clip": defaults.gradient_clip,
            "label_smoothing": defaults.label_smoothing,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }
        if teacher == NONE:
            return Recipe(**fixed)
        loss = self.distillation
        return Recipe(
            **fixed,
            teacher=teacher,
            temperature=_ask(choose, "temperature", loss.temperature, lambda c: c.recipe.temperature),
            hard_weight=_ask(choose, "hard_weight", loss.hard_weight, lambda c: c.recipe.hard_weight),
            soft_weight=_ask(choose, "soft_weight", loss.soft_weight, lambda c: c.recipe.soft_weight),
            feature_weight=_ask(choose, "feature_weight", loss.feature_weight, lambda c: c.recipe.feature_weight),
        )

    def _epochs(self, choose: Choose, backbone: str) -> int:
        whole: int = _ask(choose, "epochs", self.epochs_of(backbone), lambda c: c.recipe.epochs)
        rung: int = _ask(choose, RUNG, self.ladder, self.rung_of)
        return self._length(whole, rung)

    def _compression(self, choose: Choose) -> Compression:
        names = tuple(schemes.spell(compression) for compression in self.compressions)
        name = _ask(choose, "compression", names, lambda c: schemes.spell(c.compression))
        chosen = self.compressions[names.index(name)]
        changes: dict[str, Any] = {}
        if chosen.scheme == "w8a8":
            changes["calibration"] = _ask(choose, "calibration", self.calibration, lambda c: c.compression.calibration)
            changes["calibration_images"] = _ask(
                choose, "calibration_images", self.calibration_images, lambda c: c.compression.calibration_images
            )
        if chosen.scheme not in schemes.UNCOMPRESSED:
            changes["fine_tune_epochs"] = _ask(
                choose, "fine_tune_epochs", self.fine_tune_epochs, lambda c: c.compression.fine_tune_epochs
            )
        return chosen.model_copy(update=changes)


def auto_stem(family: str, resolution: int) -> Literal[1, 2]:
    """Return the stride of the stem that suits an input size; timm's other stems differ too much to be changed."""
    return 1 if family != TIMM and resolution <= SMALL_IMAGE else 2


def _graded(epochs: int, below: int) -> int:
    """Return the epochs so many rungs below the highest."""
    return math.ceil(epochs / int(RUNG_FACTOR**below))


def _ask(choose: Choose, name: str, choices: tuple[Any, ...], read: Callable[[Candidate], Any]) -> Any:
    """Ask for a knob's value; a knob with one value is closed and not asked."""
    return choices[0] if len(choices) == 1 else choose(Knob(name, choices, read))


def choose_from(values: Mapping[str, Value], otherwise: Choose = lambda knob: knob.choices[0]) -> Choose:
    """Return a `choose` that takes legal values from a mapping and asks `otherwise` for the rest."""

    def choose(knob: Knob) -> Value:
        fallback: Value = otherwise(knob)
        value = values.get(knob.name, fallback)
        return value if value in knob.choices else fallback

    return choose


def _every(walk: Callable[[Choose], T]) -> Iterator[T]:
    """Yield the result of every path of choices through `walk`: replay with the last open choice advanced."""
    path: list[int] = []
    while True:
        sizes: list[int] = []

        def choose(knob: Knob) -> Value:
            position = len(sizes)  # noqa: B023 - called within this turn of the loop
            sizes.append(len(knob.choices))  # noqa: B023
            if position == len(path):
                path.append(0)
            return knob.choices[path[position]]

        yield walk(choose)
        while path and path[-1] + 1 == sizes[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


def _steps(knob: Knob, value: Value) -> tuple[Value, ...]:
    """Return the other values of a knob; of an ordered one those next to `value`."""
    if not knob.ordered:
        return tuple(choice for choice in knob.choices if choice != value)
    line = sorted(knob.choices, key=float)
    at = line.index(value)
    return tuple(line[i] for i in (at - 1, at + 1) if 0 <= i < len(line))
