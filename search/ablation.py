"""What did each method contribute to a recipe?  From a plain network to the full recipe, one method at a time, and back.

The plain baseline is the first network of the family (`spaces/families.py`) at width and depth 1 and the largest input of
the study, taught by nobody, in half precision, trained for as many epochs and with the same settings. Then the methods in
which the recipe differs from it are applied in the order of `METHODS`, each to the result of the one before:

| method       | what changes                                                    |
|--------------|-----------------------------------------------------------------|
| architecture | backbone, width and depth                                       |
| distillation | teacher, temperature, weights of the loss                       |
| quantization | integers, tables, mixed precision or W8A8, with its fine-tuning |
| pruning      | weights set to zero                                             |
| resolution   | the input size, and the stride of the stem that goes with it    |

The order matters: what a method gives depends on those before it. So each is also left out of the full recipe: where that
tells another amount than the step, methods overlap or help each other.

Every candidate is trained with the same seeds, from initial weights of its own (nothing is inherited, so that all are
alike), and a change is the mean over the seeds of after minus before. The changes along the way add up to the difference of
the full recipe from the baseline exactly. The interval is Student's t at 95 % over the seeds, as in `seeds.py`: it does not
cover the choice of validation images, nor the error of estimates, which both sides share, nor another training of the
teacher, which is trained once.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal, final, get_args

from scipy.stats import t

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective
from coreml_pareto.objectives.reading import Score
from coreml_pareto.search.methods import PLAIN, parts, untaught
from coreml_pareto.search.seeds import LEAST
from coreml_pareto.spaces.candidate import Candidate, Compression, Network
from coreml_pareto.spaces.compression import describe
from coreml_pareto.spaces.distillation import NONE
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import FAMILIES
from coreml_pareto.spaces.space import Knob, Space, auto_stem

Method = Literal["architecture", "distillation", "quantization", "pruning", "resolution"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
"""In the order in which they are applied."""
BASELINE: Final = "baseline"


@final
@dataclass(frozen=True)
class Design:
    """Which candidates are compared.

    Attributes:
        plain, full: where it begins and ends.
        methods: those in which the two differ, in order.
        steps: the baseline, then the candidate after each method; the last one is `full`.
        without: the full recipe without each method.
    """

    plain: Candidate
    full: Candidate
    methods: tuple[Method, ...]

    @property
    def steps(self) -> tuple[Candidate, ...]:
        """One more than there are methods."""
        return tuple(mixed(self.plain, self.full, self.methods[:count]) for count in range(len(self.methods) + 1))

    @property
    def without(self) -> Mapping[Method, Candidate]:
        """By the method that is left out."""
        return {
            left_out: mixed(self.plain, self.full, [method for method in self.methods if method != left_out])
            for left_out in self.methods
        }

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Each once, in the order in which they are first needed."""
        every = (*self.steps, *self.without.values())
        return tuple({candidate.digest: candidate for candidate in every}.values())

    def form(self, method: Method) -> str:
        """What a method is here, `mobilenetv3_large (T 4)`, `palette-4/tensor`."""
        network, recipe = self.full.network, self.full.recipe
        match method:
            case "architecture":
                return network.model_copy(update={"resolution": self.plain.network.resolution}).label.partition(" @")[0]
            case "distillation":
                return f"{recipe.teacher}, T {recipe.temperature:g}"
            case "quantization":
                return describe(parts(self.full.compression)[0])
            case "pruning":
                return describe(parts(self.full.compression)[1])
            case "resolution":
                return f"{self.plain.network.resolution} → {network.resolution} px"


def design(full: Candidate, space: Space) -> Design:
    """Return what is to be compared for a recipe.

    Raises:
        UserError: it is the baseline itself.
    """
    plain = baseline(full, space)
    methods = tuple(method for method in METHODS if mixed(plain, full, [method]) != plain)
    if not methods:
        raise UserError(
            f"An ablation needs a recipe with some method in it; {full.network.label}, {describe(full.compression)} is the "
            "plain baseline itself: name another trial."
        )
    return Design(plain, full, methods)


def baseline(full: Candidate, space: Space) -> Candidate:
    """Return the plain candidate that a recipe is compared with."""
    network, side = full.network, max(*space.resolution, full.network.resolution)
    family = FAMILIES.get(network.family)
    stem = auto_stem(network.family, side) if space.stem_stride == ("auto",) else network.stem_stride
    backbone = next(iter(family.backbones)) if family else network.backbone
    whole = {"backbone": backbone, "width": 1.0, "depth": 1.0, "resolution": side, "stem_stride": stem}
    return Candidate(
        network=network.model_copy(update=whole if family else {"resolution": side, "stem_stride": stem}),
        recipe=untaught(full.recipe),
        compression=PLAIN,
    )


def mixed(plain: Candidate, full: Candidate, applied: Collection[Method]) -> Candidate:
    """Return the candidate with some methods of `full`, and the rest as in `plain`."""
    return Candidate(
        network=_network(plain.network, full.network, applied),
        recipe=full.recipe if "distillation" in applied else plain.recipe,
        compression=_compression(full.compression, applied),
    )


def _network(plain: Network, full: Network, applied: Collection[Method]) -> Network:
    shape = full if "architecture" in applied else plain
    picture = full if "resolution" in applied else plain
    return shape.model_copy(update={"resolution": picture.resolution, "stem_stride": picture.stem_stride})


def _compression(full: Compression, applied: Collection[Method]) -> Compression:
    quantized, pruned = parts(full)
    if "quantization" in applied and "pruning" in applied:
        return full
    return quantized if "quantization" in applied else pruned if "pruning" in applied else PLAIN


def most_compressed(space: Space) -> Candidate:
    """Return the recipe that stands for a study without a trial: everything that it offers, at once.

    Its first backbone, at the smallest width, depth and input; its first teacher, with the first values of the loss; of the
    compressions the one that stores the fewest bits for a weight (zeros count nothing); the longest training.
    """
    smallest = min(space.compressions, key=_bits)

    def choose(knob: Knob) -> object:
        match knob.name:
            case "width" | "depth" | "resolution":
                return min(knob.choices)
            case "epochs" | "rung":
                return max(knob.choices)
            case "teacher":
                return next((name for name in knob.choices if name != NONE), NONE)
            case "compression":
                return knob.choices[space.compressions.index(smallest)]
            case _:
                return knob.choices[0]

    return space.decode(choose)


def _bits(compression: Compression) -> float:
    """Bits for a weight, as far as the form tells; one that spends the bytes of a package counts as half precision."""
    return (compression.average_bits or compression.bits) * (1 - compression.sparsity)


@final
@dataclass(frozen=True)
class Shift:
    """How far one axis moves from one candidate to another: the mean over the seeds, in the reading's unit.

    `low` and `high` are its 95 % interval over the seeds; None below two seeds.
    """

    value: float
    low: float | None
    high: float | None


@final
@dataclass(frozen=True)
class Ablation:
    """A design with its readings.

    Attributes:
        design: what was compared.
        seeds: with which every candidate was trained.
        scores: readings by candidate (its digest) and seed.
    """

    design: Design
    seeds: tuple[int, ...]
    scores: Mapping[str, Mapping[int, Score]]

    @property
    def axes(self) -> tuple[Objective, ...]:
        """The objectives that every package has a reading on."""
        every = [score for by_seed in self.scores.values() for score in by_seed.values()]
        return tuple(axis for axis in OBJECTIVES.values() if all(axis.reading in score for score in every))

    def mean(self, candidate: Candidate, axis: Objective) -> Shift:
        """Mean of a candidate's reading over the seeds; its interval holds no amount that the axis has not."""
        found = _over_seeds(self._values(candidate, axis))
        if found.low is None or found.high is None:
            return found
        return replace(
            found, low=max(0.0, found.low), high=min(1.0, found.high) if axis.name == "accuracy" else found.high
        )

    def steps(self, axis: Objective) -> tuple[Shift, ...]:
        """What each method changed when it was applied, in order."""
        way = self.design.steps
        return tuple(self.change(before, after, axis) for before, after in pairwise(way))

    def last(self, axis: Objective) -> tuple[Shift, ...]:
        """What each method changes in the full recipe: that minus the recipe without it."""
        return tuple(self.change(candidate, self.design.full, axis) for candidate in self.design.without.values())

    def change(self, before: Candidate, after: Candidate, axis: Objective) -> Shift:
        """After minus before, seed by seed."""
        first, second = self._values(before, axis), self._values(after, axis)
        return _over_seeds([b - a for a, b in zip(first, second, strict=True)])

    def estimated(self, axis: Objective) -> bool:
        """Whether an axis is an estimate, for the tilde."""
        return any(
            score[axis.reading].how in ("estimated", "corrected")
            for by_seed in self.scores.values() for score in by_seed.values()
        )  # fmt: skip

    def _values(self, candidate: Candidate, axis: Objective) -> list[float]:
        by_seed = self.scores[candidate.digest]
        return [by_seed[seed][axis.reading].value for seed in self.seeds]


def _over_seeds(values: Sequence[float]) -> Shift:
    mean = math.fsum(values) / len(values)
    if len(values) < LEAST:
        return Shift(mean, None, None)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return Shift(mean, mean - half, mean + half)
