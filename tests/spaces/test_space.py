"""The space against brute force: every path of choices walked by an independent enumeration, and random spaces."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coreml_pareto.spaces.candidate import Candidate, Compression
from coreml_pareto.spaces.compression import every_compression, parse, spell
from coreml_pareto.spaces.distillation import NONE, DistillationSpace
from coreml_pareto.spaces.families import TIMM, backbone_of, check_network, family_of
from coreml_pareto.spaces.space import SMALL_IMAGE, Knob, Space, choose_from

SMALL: dict[str, Any] = {
    "backbones": ("mobilenetv2", "mobilenetv4_conv_small", "squeezenet1_1", "resnet10t"),
    "width": (0.5, 1.0),
    "depth": (1.0, 1.2),
    "resolution": (32, 64, 96),
    "stem_stride": (1, 2),
    "distillation": DistillationSpace(teachers=(NONE, "resnet18"), temperature=(3, 4), feature_weight=(0.0,)),
    "epochs": (1, 2),
    "compressions": (parse("fp16"), parse("int8/channel")),
    "classes": 10,
}


def subset(values: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True).map(tuple)


def sorted_subset(values: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return subset(values).map(lambda chosen: tuple(sorted(chosen)))


BACKBONES = ("mobilenetv1", "mobilenetv3_small", "mobilenetv4_conv_small", "efficientnet_b1", "resnet10t")
SPACES = st.builds(
    Space,
    backbones=subset(BACKBONES),
    width=sorted_subset([0.35, 0.5, 1.0]),
    depth=sorted_subset([0.8, 1.0, 1.2]),
    resolution=sorted_subset([32, 48, 64, 224]),
    stem_stride=st.sampled_from([("auto",), (1,), (2,), (1, 2)]),
    distillation=st.builds(
        DistillationSpace,
        teachers=subset([NONE, "resnet18", "resnet34"]),
        temperature=sorted_subset([1.0, 4.0, 10.0]),
        hard_weight=sorted_subset([0.0, 1.0]),
        soft_weight=sorted_subset([0.5, 1.0]),
        feature_weight=sorted_subset([0.0, 0.1]),
    ),
    epochs=st.one_of(
        sorted_subset([1, 4]), sorted_subset([6, 20]), st.just(dict(zip(BACKBONES, (6, 7, 20, 30, 9), strict=True)))
    ),
    rungs=st.integers(1, 4),
    compressions=subset(every_compression()),
    calibration=subset(["min-max", "percentile", "moving-average"]),
    fine_tune_epochs=sorted_subset([0, 1, 3]),
    classes=st.just(10),
)  # fmt: skip


def brute_force(space: Space) -> Iterator[tuple[Any, ...]]:
    """Yield every candidate as a tuple, by plain loops that know nothing of the walk."""
    loss, none = space.distillation, [(NONE,)]
    for name in space.backbones:
        row = backbone_of(family_of(name), name)
        for width, depth, side in itertools.product(
            space.width if row.scalable_width else (1.0,),
            space.depth if row.scalable_depth else (1.0,),
            space.resolution,
        ):
            stems: Any = space.stem_stride
            if stems == ("auto",):
                stems = (1 if side <= SMALL_IMAGE else 2,)
            if family_of(name) == TIMM:
                stems = (2,)
            taught = itertools.product(
                [t for t in loss.teachers if t != NONE],
                loss.temperature,
                loss.hard_weight,
                loss.soft_weight,
                loss.feature_weight,
            )
            recipes = [*(none if NONE in loss.teachers else []), *taught]
            ways = [way for compression in space.compressions for way in ways_of(space, compression)]
            yield from itertools.product([(name, width, depth, side)], stems, recipes, lengths_of(space, name), ways)


def lengths_of(space: Space, backbone: str) -> tuple[int, ...]:
    """Return every number of epochs of a backbone: a choice of lengths, or one length and its thirds from 2 on."""
    if isinstance(space.epochs, tuple) and len(space.epochs) > 1:
        return space.epochs
    one = space.epochs if isinstance(space.epochs, dict) else dict.fromkeys(space.backbones, space.epochs[0])
    shortest, rungs = min(one[name] for name in space.backbones), 1
    while rungs < space.rungs and math.ceil(shortest / 3**rungs) >= 2:
        rungs += 1
    return tuple(math.ceil(one[backbone] / 3**below) for below in reversed(range(rungs)))


def ways_of(space: Space, compression: Compression) -> Iterator[Compression]:
    """Yield a compression with every calibration and fine-tuning that it may have."""
    integers = compression.scheme == "w8a8"
    for method, images, epochs in itertools.product(
        space.calibration if integers else (compression.calibration,),
        space.calibration_images if integers else (compression.calibration_images,),
        (0,) if compression.scheme in ("fp32", "fp16") else space.fine_tune_epochs,
    ):
        yield compression.model_copy(
            update={"calibration": method, "calibration_images": images, "fine_tune_epochs": epochs}
        )


def as_tuple(candidate: Candidate) -> tuple[Any, ...]:
    n, r = candidate.network, candidate.recipe
    recipe = (
        (NONE,) if r.teacher is None else (r.teacher, r.temperature, r.hard_weight, r.soft_weight, r.feature_weight)
    )
    return (n.backbone, n.width, n.depth, n.resolution), n.stem_stride, recipe, r.epochs, candidate.compression


def randomly(seed: int) -> Any:
    source = random.Random(seed)
    return lambda knob: source.choice(knob.choices)


def every(space: Space) -> list[Candidate]:
    """Return all candidates by decoding each combination of the knobs' values, the same ones dropped."""
    knobs = space.knobs()
    found: dict[str, Candidate] = {}
    for values in itertools.product(*(knob.choices for knob in knobs)):
        named = dict(zip((knob.name for knob in knobs), values, strict=True))
        candidate = space.decode(lambda knob, named=named: named[knob.name])
        found.setdefault(candidate.digest, candidate)
    return list(found.values())


def test_the_small_space_is_its_brute_force() -> None:
    space = Space(**SMALL)
    expected = set(brute_force(space))
    assert {as_tuple(candidate) for candidate in every(space)} == expected
    assert space.count() == len(expected)
    assert len(set(space.networks())) == len(list(space.networks())) == len({row[:2] for row in expected})


@settings(max_examples=60)
@given(SPACES)
def test_count_is_brute_force(space: Space) -> None:
    assert space.count() == sum(1 for _ in brute_force(space))


@settings(max_examples=100)
@given(SPACES, st.integers(0, 2**32))
def test_decode_undoes_encode(space: Space, seed: int) -> None:
    candidate = space.decode(randomly(seed))
    values = space.encode(candidate)
    assert space.decode(lambda knob: values[knob.name]) == candidate
    known = {knob.name: knob for knob in space.knobs()}
    assert all(value in known[name].choices for name, value in values.items())
    assert as_tuple(candidate) in set(brute_force(space))


@settings(max_examples=60)
@given(SPACES, st.integers(0, 2**32))
def test_neighbours_are_legal_other_and_symmetric_among_the_same_knobs(space: Space, seed: int) -> None:
    candidate = space.decode(randomly(seed))
    own, members = space.encode(candidate), set(brute_force(space))
    neighbours = space.neighbours(candidate)
    assert len({n.digest for n in neighbours} | {candidate.digest}) == len(neighbours) + 1
    for neighbour in neighbours:
        assert as_tuple(neighbour) in members
        check_network(neighbour.network)
        if space.encode(neighbour).keys() == own.keys():  # no knob opened or closed
            assert candidate in space.neighbours(neighbour)
            assert sum(space.encode(neighbour)[name] != own[name] for name in own) == 1


@settings(max_examples=60)
@given(SPACES, st.integers(0, 2**32))
def test_another_compression_is_one_of_the_space(space: Space, seed: int) -> None:
    candidate, members = space.decode(randomly(seed)), set(brute_force(space))
    for compression in space.compressions:
        other = space.compressed(candidate, compression)
        assert as_tuple(other) in members and spell(other.compression) == spell(compression)
        assert (other.network, other.recipe) == (candidate.network, candidate.recipe)
    assert space.compressed(candidate, candidate.compression) == candidate


@settings(max_examples=60)
@given(SPACES, st.integers(0, 2**32))
def test_rungs_differ_in_the_epochs_alone(space: Space, seed: int) -> None:
    candidate = space.decode(randomly(seed))
    ladder = [space.on_rung(candidate, rung) for rung in space.ladder]
    assert ladder[space.rung_of(candidate)] == candidate
    assert [space.rung_of(other) for other in ladder] == list(space.ladder)
    if len(ladder) > 1:
        assert tuple(other.recipe.epochs for other in ladder) == lengths_of(space, candidate.network.backbone)
    for other in ladder:
        assert (other.network, other.compression) == (candidate.network, candidate.compression)
        assert other.recipe.model_copy(update={"epochs": candidate.recipe.epochs}) == candidate.recipe


def test_rungs_are_thirds_of_the_whole_length() -> None:
    space = Space(**{**SMALL, "epochs": {"mobilenetv2": 20, "mobilenetv4_conv_small": 12, "squeezenet1_1": 40}, "rungs": 3,
                     "backbones": ("mobilenetv2", "mobilenetv4_conv_small", "squeezenet1_1")})  # fmt: skip
    assert space.ladder == (0, 1, 2)
    epochs = {name: lengths_of(space, name) for name in space.backbones}
    assert epochs == {
        "mobilenetv2": (3, 7, 20), "mobilenetv4_conv_small": (2, 4, 12), "squeezenet1_1": (5, 14, 40)
    }  # fmt: skip
    assert Space(**{**SMALL, "epochs": (5,), "rungs": 4}).ladder == (0, 1)
    assert Space(**{**SMALL, "epochs": (3,), "rungs": 4}).ladder == (0,)
    assert "rung" not in {knob.name for knob in Space(**{**SMALL, "rungs": 4}).knobs()}


def test_neighbours_connect_the_whole_space() -> None:
    space = Space(**SMALL)
    start = space.decode(lambda knob: knob.choices[0])
    seen, todo = {start.digest: start}, [start]
    while todo:
        for neighbour in space.neighbours(todo.pop()):
            if neighbour.digest not in seen:
                seen[neighbour.digest] = neighbour
                todo.append(neighbour)
    assert len(seen) == space.count()


def test_ordered_knobs_step_to_the_next_value() -> None:
    space = Space(**{**SMALL, "backbones": ("mobilenetv2",), "width": (1.0, 0.35, 0.5, 0.75)})
    start = space.decode(lambda knob: 0.5 if knob.name == "width" else knob.choices[0])
    widths = {neighbour.network.width for neighbour in space.neighbours(start)}
    assert widths == {0.35, 0.5, 0.75}


def test_a_knob_with_one_value_is_not_asked() -> None:
    asked: list[str] = []

    def choose(knob: Knob) -> Any:
        asked.append(knob.name)
        return knob.choices[-1]

    space = Space(**{**SMALL, "width": (1.0,), "resolution": (64,), "backbones": ("mobilenetv2",)})
    candidate = space.decode(choose)
    assert asked == [
        "depth",
        "stem_stride",
        "teacher",
        "epochs",
        "temperature",
        "hard_weight",
        "soft_weight",
        "compression",
    ]
    assert candidate.network.resolution == 64 and candidate.recipe.teacher == "resnet18"


def test_knobs_are_each_named_once_with_all_their_values() -> None:
    knobs = {knob.name: knob.choices for knob in Space(**SMALL).knobs()}
    assert knobs["family"] == ("mobilenet", "squeezenet", TIMM)
    assert knobs["backbone.mobilenet"] == ("mobilenetv2", "mobilenetv4_conv_small")
    assert knobs["teacher"] == (NONE, "resnet18") and knobs["temperature"] == (3.0, 4.0)
    assert knobs["compression"] == ("fp16", "int8/channel")
    assert "backbone.squeezenet" not in knobs and "feature_weight" not in knobs  # one value: closed


@pytest.mark.parametrize(("side", "stride"), [(32, 1), (SMALL_IMAGE, 1), (SMALL_IMAGE + 1, 2), (224, 2)])
def test_the_stem_keeps_small_images_large(side: int, stride: int) -> None:
    space = Space(**{**SMALL, "backbones": ("mobilenetv2",), "resolution": (side,), "stem_stride": ("auto",)})
    assert {network.stem_stride for network in space.networks()} == {stride}


def test_a_family_brings_its_training_settings() -> None:
    space = Space(**{**SMALL, "seed": 7, "batch_size": 32})
    recipes = {
        name: space.decode(lambda k, n=name: n if k.name == "family" else k.choices[0]).recipe
        for name in space.families
    }
    assert recipes["squeezenet"].learning_rate < recipes["mobilenet"].learning_rate
    assert {(recipe.seed, recipe.batch_size) for recipe in recipes.values()} == {(7, 32)}


def test_calibration_and_fine_tuning_are_asked_where_they_mean_something() -> None:
    space = Space(**SMALL | {
        "compressions": tuple(map(parse, ("fp16", "palette-4/tensor", "w8a8"))), "calibration": ("min-max", "percentile"),
        "calibration_images": (64, 128), "fine_tune_epochs": (0, 2),
    })  # fmt: skip
    plain = Space(**SMALL | {"compressions": (parse("fp16"),)})
    assert space.count() == plain.count() * (1 + 2 + 2 * 2 * 2)
    assert {"calibration", "calibration_images", "fine_tune_epochs"} <= {knob.name for knob in space.knobs()}
    tuned = space.decode(choose_from({"compression": "palette-4/tensor", "fine_tune_epochs": 2}))
    assert tuned.compression == parse("palette-4/tensor").model_copy(update={"fine_tune_epochs": 2})
    assert "fine_tune_epochs" not in space.encode(space.decode(choose_from({"compression": "fp16"})))


@settings(max_examples=60)
@given(SPACES, SPACES, st.integers(0, 2**32))
def test_a_space_holds_the_trainings_of_its_candidates_and_no_others(space: Space, other: Space, seed: int) -> None:
    candidate = space.decode(randomly(seed))
    assert space.holds(candidate.network, candidate.recipe)
    trained = as_tuple(candidate)[:4]
    assert other.holds(candidate.network, candidate.recipe) == (trained in {row[:4] for row in brute_force(other)})
    assert not space.holds(candidate.network, candidate.recipe.model_copy(update={"seed": 9}))
