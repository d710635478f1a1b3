"""Whose weights are these?  The chain of trainings is followed to where it begins, and nothing is made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm

from coreml_pareto.search.delivery.licences import NO_ONE, UNKNOWN, imagenet_terms, origins
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network, Recipe

NETWORK = Network(family="mobilenet", backbone="mobilenetv3_small", resolution=32, classes=5)
SQUEEZENET = Network(family="squeezenet", backbone="squeezenet1_1", resolution=32, classes=5)


@pytest.fixture
def train(tmp_path: Path):  # type: ignore[no-untyped-def]
    """train("key", "random", parent="other"): a finished training in the run's store, as far as its record goes."""

    def put(key: str, weights: str, parent: str | None = None, network: Network = NETWORK) -> None:
        recipe = Recipe(epochs=1, learning_rate=1e-3, weight_decay=0.0)
        record = {
            "network": network.model_dump(), "recipe": recipe.model_dump(), "initial_weights": weights, "parent": parent,
        }  # fmt: skip
        Store(tmp_path / "store").produce(
            "train", key, lambda work: (work / "record.json").write_text(json.dumps(record)) and None
        )

    return put


def test_random_weights_are_nobodys(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    train("a" * 16, "random")
    (origin,) = origins(tmp_path, "a" * 16)
    assert origin.licence == NO_ONE and origin.network == NETWORK.label


def test_inherited_weights_are_followed_to_imagenets(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    train("a" * 16, "imagenet-0123")
    train("b" * 16, "inherited-4567", "a" * 16, NETWORK.model_copy(update={"width": 0.5}))
    (origin,) = origins(tmp_path, "b" * 16)
    config = timm.get_pretrained_cfg("mobilenetv3_small_100")
    assert config is not None and origin.licence == config.license
    assert config.hf_hub_id in origin.source and origin.weights == "ImageNet weights (0123)"


@pytest.mark.parametrize("weights", ["file-0123", "inherited-0123"])
def test_what_was_given_is_unknown(weights: str, train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    train("a" * 16, weights)
    (origin,) = origins(tmp_path, "a" * 16)
    assert origin.licence == UNKNOWN


def test_a_training_that_is_gone_is_said(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    train("b" * 16, "inherited-4567", "a" * 16)
    (origin,) = origins(tmp_path, "b" * 16)
    assert "not in the store" in origin.weights and origin.licence == UNKNOWN
    assert origins(tmp_path, None) == ()


def test_torchvisions_networks_have_no_terms_in_timm() -> None:
    licence, source = imagenet_terms(SQUEEZENET)
    assert licence == UNKNOWN and source.startswith("torchvision")
