"""Candidates are frozen, refuse what they do not know, and equal content has one digest on any machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe, digest_of

NETWORK = Network(family="mobilenet", backbone="mobilenetv2", width=0.5, resolution=64, classes=10)
RECIPE = Recipe(epochs=12, learning_rate=3e-3, weight_decay=0.02)
CANDIDATE = Candidate(network=NETWORK, recipe=RECIPE, compression=Compression())


def test_the_digest_is_the_hash_of_sorted_compact_json() -> None:
    text = '{"a":[1,2.5],"b":"\\u00d7"}'
    assert digest_of({"b": "×", "a": [1, 2.5]}) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_digest_is_the_same_in_another_process() -> None:
    code = f"from coreml_pareto.spaces.candidate import *; print(Candidate.model_validate({CANDIDATE.model_dump()!r}).digest)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == CANDIDATE.digest


def test_json_round_trip_keeps_content_and_digest() -> None:
    again = Candidate.model_validate_json(CANDIDATE.model_dump_json())
    assert again == CANDIDATE and again.digest == CANDIDATE.digest and hash(again) == hash(CANDIDATE)


@pytest.mark.parametrize(
    ("part", "change"),
    [("network", {"width": 0.75}), ("network", {"stem_stride": 1}), ("recipe", {"seed": 1}), ("recipe", {"teacher": "t"}),
     ("compression", {"scheme": "fp32", "bits": 32})],
)  # fmt: skip
def test_any_change_changes_the_digest(part: str, change: dict[str, object]) -> None:
    changed = CANDIDATE.model_copy(update={part: getattr(CANDIDATE, part).model_copy(update=change)})
    assert changed.digest != CANDIDATE.digest


def test_equal_numbers_have_equal_digests() -> None:
    assert Network.model_validate({**NETWORK.model_dump(), "depth": 1}).digest == NETWORK.digest


@pytest.mark.parametrize(
    "bad",
    [
        {"resolution": 31},
        {"resolution": 385},
        {"width": 0},
        {"depth": -1},
        {"stem_stride": 3},
        {"classes": 1},
        {"colour": 1},
    ],
)
def test_illegal_networks_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Network.model_validate({**NETWORK.model_dump(), **bad})


def test_records_are_frozen() -> None:
    with pytest.raises(ValidationError):
        NETWORK.width = 1.0  # type: ignore[misc]


def test_not_a_number_has_no_digest() -> None:
    with pytest.raises(ValueError):
        digest_of({"x": float("nan")})
    json.dumps(CANDIDATE.model_dump(mode="json"), allow_nan=False)


def test_labels_are_for_people() -> None:
    assert NETWORK.label == "mobilenetv2×0.5 @64"
    assert NETWORK.model_copy(update={"depth": 1.2, "stem_stride": 1}).label == "mobilenetv2×0.5 depth×1.2 @64 stem/1"
    assert RECIPE.label == "12 epochs"
    taught = RECIPE.model_copy(update={"epochs": 1, "teacher": "resnet18", "temperature": 4.0, "soft_weight": 0.5})
    assert taught.label == "1 epoch, taught by resnet18 (T 4, hard 1 soft 0.5 features 0)"
