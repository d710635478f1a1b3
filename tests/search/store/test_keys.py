"""Keys follow what a stage reads: each part changes the key of its stage, and what is not read changes none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.search.config import load_plan
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.search.preparation import limited
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.recover import Tuning, recover
from coreml_pareto.search.stages.train import Trained, Trainer
from coreml_pareto.search.store import TOOLS, TRAINING_TOOLS, Store, keys, stage_key, tool_versions
from coreml_pareto.spaces.candidate import Compression, Network, Recipe
from coreml_pareto.spaces.compression import parse
from coreml_pareto.spaces.space import choose_from

NETWORK = Network(family="squeezenet", backbone="squeezenet1_1", width=0.25, resolution=32, classes=10, stem_stride=1)
WIDE = NETWORK.model_copy(update={"width": 0.5})
RECIPE = Recipe(epochs=1, learning_rate=1e-3, weight_decay=0.01, batch_size=32)
TAUGHT = RECIPE.model_copy(update={"teacher": "./big", "soft_weight": 0.5})
TEACHER = Trained("0123", WIDE, RECIPE, Path("nowhere"))
TRAINED = Trained("4567", NETWORK, RECIPE, Path("nowhere"))
W8A8 = parse("w8a8").model_copy(update={"fine_tune_epochs": 1, "calibration_images": 8})
INT8 = parse("int8/channel")
INT4 = parse("int4/block-32").model_copy(update={"fine_tune_epochs": 1})


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load_data("digits", limit=300)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Store], Any]], dict[str, str]]:
    """names(action): under which key each stage is asked of a store; nothing is made."""

    def ask(action: Callable[[Store], Any], root: str = "root") -> dict[str, str]:
        asked: dict[str, str] = {}

        def produce(store: Store, stage: str, key: str, make: object, about: str = "") -> Path:
            asked[stage] = key
            return store.root / stage / key

        with monkeypatch.context() as patch:
            patch.setattr(Store, "produce", produce)
            action(Store(Path(root)))
        return asked

    return ask


def _other(data: DataSet, **changes: Any) -> DataSet:
    return dataclasses.replace(data, **changes)


RECIPES = [
    {"epochs": 2}, {"learning_rate": 2e-3}, {"weight_decay": 0.02}, {"batch_size": 16}, {"gradient_clip": 2.0},
    {"label_smoothing": 0.1}, {"seed": 1}, {"temperature": 2.0}, {"hard_weight": 0.5}, {"soft_weight": 0.25},
    {"feature_weight": 0.1},
]  # fmt: skip


def test_a_training_reads_network_recipe_data_weights_teacher_and_augmentation(data: DataSet, tmp_path: Path) -> None:
    assert set().union(*RECIPES) == set(Recipe.model_fields) - {"teacher"}
    trainer = Trainer(Store(tmp_path), data)

    def key(*, network: Network = NETWORK, recipe: Recipe = TAUGHT, weights: str = "random", **more: Any) -> str:
        own = dataclasses.replace(trainer, data=_other(data, **more.get("data", {})))
        return own.key(network, recipe, weights, more.get("teacher", TEACHER))

    networks = [{"width": 0.5}, {"depth": 2.0}, {"resolution": 48}, {"stem_stride": 2}, {"backbone": "squeezenet1_0"}]
    found = [
        key(),
        *(key(network=NETWORK.model_copy(update=change)) for change in networks),
        *(key(recipe=TAUGHT.model_copy(update=change)) for change in RECIPES),
        key(weights="imagenet-0"),
        key(weights="file-0"),
        key(data={"digest": "other"}),
        key(data={"flip_safe": not data.flip_safe}),
        key(teacher=None),
        key(teacher=dataclasses.replace(TEACHER, key="89ab")),
        key(teacher=dataclasses.replace(TEACHER, network=NETWORK)),
    ]
    assert len(set(found)) == len(found)


def test_a_training_reads_neither_paths_nor_names_nor_the_machine(data: DataSet, tmp_path: Path) -> None:
    keyed = Trainer(Store(tmp_path), data, "auto", "cpu").key(NETWORK, TAUGHT, "random", TEACHER)
    elsewhere = Trainer(Store(tmp_path / "other"), _other(data, name="elsewhere"), "false", "cuda")
    assert elsewhere.key(NETWORK, TAUGHT, "random", TEACHER) == keyed
    renamed = TAUGHT.model_copy(update={"teacher": "/another/place/big"})
    moved = dataclasses.replace(TEACHER, folder=Path("moved"))
    assert elsewhere.key(NETWORK, renamed, "random", moved) == keyed
    assert elsewhere.seed(NETWORK, renamed) == Trainer(Store(tmp_path), data).seed(NETWORK, TAUGHT)


def test_packages_and_conversions_read_weights_compression_labels_and_data(data: DataSet, names: Any) -> None:
    def asked(compression: Compression = INT8, **more: Any) -> tuple[str, str]:
        own, source = _other(data, **more.get("data", {})), more.get("source", TRAINED)

        def action(store: Store) -> None:
            packager = Packager(store, own, more.get("splits", {"seed": 0}))
            packager.package(source, compression)
            packager._converted(source.key, source.network, compression, source)

        found = names(action, more.get("root", "root"))
        return found["package"], found["convert"]

    base = asked()
    both = [
        asked(source=dataclasses.replace(TRAINED, key="other")),
        asked(data={"digest": "other"}),
        asked(data={"classes": tuple("abcdefghij")}),
        asked(splits={"seed": 1}),
    ]
    for place in (0, 1):
        assert len({found[place] for found in (base, *both)}) == 1 + len(both)
    assert asked(root="elsewhere", data={"name": "elsewhere"}) == base
    assert asked(source=dataclasses.replace(TRAINED, folder=Path("moved"))) == base
    texts = ("int8/channel", "int8/channel/asymmetric", "palette-4/tensor", "palette-6/tensor", "pruning-50", "fp16")
    found = [asked(parse(text)) for text in texts]
    assert len({package for package, _ in found}) == len(texts)
    # One conversion for all that the same system loads; fp32 and a newer system have their own.
    converted = {asked(parse(text))[1] for text in ("int8/channel", "palette-4/tensor", "pruning-50")}
    assert converted == {base[1]}
    assert len({base[1], asked(parse("fp32"))[1], asked(parse("int4/block-32"))[1]}) == 3


def test_what_is_fine_tuned_reads_the_teacher_and_the_lesson_too(data: DataSet, names: Any, tmp_path: Path) -> None:
    def asked(compression: Compression, recipe: Recipe = TAUGHT, **more: Any) -> str:
        own = _other(data, **more.get("data", {}))
        trained = dataclasses.replace(TRAINED, recipe=recipe)

        def action(store: Store) -> None:
            trainer = Trainer(store, own, device="cpu")
            if compression.scheme == "w8a8":
                tuning = Tuning(trainer, lambda step: None, more.get("teacher", TEACHER))
                Packager(store, data, {"seed": 0}).package(trained, compression, tuning)
            else:
                recover(trainer, trained, compression, lambda step: None, more.get("teacher", TEACHER))

        (key,) = names(action).values()
        return str(key)

    for compression in (W8A8, INT4):
        found = [
            asked(compression),
            asked(compression.model_copy(update={"fine_tune_epochs": 2})),
            asked(compression, teacher=None),
            asked(compression, teacher=dataclasses.replace(TEACHER, network=NETWORK)),
            asked(compression, data={"flip_safe": not data.flip_safe}),
            asked(compression, data={"digest": "other"}),
            asked(compression, TAUGHT.model_copy(update={"soft_weight": 0.25})),
        ]
        assert len(set(found)) == len(found)
        assert asked(compression, TAUGHT.model_copy(update={"teacher": "/elsewhere"})) == found[0]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_new_version_of_a_tool_renews_what_it_makes(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_key(a=1), stage_key(TRAINING_TOOLS, a=1)
    monkeypatch.setattr(keys, "tool_versions", lambda: tool_versions() | {tool: "0.0"})
    assert stage_key(a=1) != before[0]
    assert (stage_key(TRAINING_TOOLS, a=1) == before[1]) == (tool not in TRAINING_TOOLS)


def test_a_new_coremltools_trains_nothing_again(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(Store(tmp_path), data)
    before = trainer.key(NETWORK, RECIPE, "random", None)
    monkeypatch.setattr(keys, "tool_versions", lambda: tool_versions() | {"coremltools": "99.0"})
    assert trainer.key(NETWORK, RECIPE, "random", None) == before
    monkeypatch.setattr(keys, "tool_versions", lambda: tool_versions() | {"torch": "99.0"})
    assert trainer.key(NETWORK, RECIPE, "random", None) != before


def test_fewer_training_images_count_by_which_they_are(data: DataSet) -> None:
    """The splits of a data set may be given, so that its digest does not know the seed of this draw."""

    def digest(images: int, seed: int) -> str:
        plan = load_plan(None, {"training": {"images": images}, "splits": {"seed": seed}})
        return limited(data, plan).digest

    assert len({data.digest, digest(50, 0), digest(50, 1), digest(60, 0)}) == 4
    assert digest(50, 0) == digest(50, 0)
    assert digest(10_000, 0) == data.digest
    assert digest(50, 0).split("-")[0] == data.digest  # `evaluate` recognises the pictures by this part


def test_the_order_in_which_a_study_is_written_and_its_name_change_no_candidate(tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(
        "name: a\nnetworks: {width: [0.5], backbones: [mobilenetv2]}\ntraining: {epochs: [3], batch_size: 32}\n"
    )
    other.write_text(
        "training: {batch_size: 32, epochs: [3]}\nstore: ./shared\nnetworks: {backbones: [mobilenetv2], width: [0.5]}\nname: b\n"
    )
    first, second = (load_plan(str(path)).space(10).decode(choose_from({})) for path in (one, other))
    assert first.digest == second.digest
