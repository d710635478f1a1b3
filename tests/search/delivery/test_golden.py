"""Golden answers: another way to compute them, and the ranges against brute force."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from coreml_pareto.objectives.measuring.agreement import LEAST_DB, ratio_db
from coreml_pareto.search.delivery.golden import DEVIATIONS, HALF_STEP, ROUNDINGS, bounds, decided, tolerance
from coreml_pareto.search.delivery.handover import Written
from coreml_pareto.search.delivery.subject import Subject, choose, open_subject
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.stages.convert import Classifier
from coreml_pareto.search.stages.trained import Trained


def softmax(logits: Any) -> Any:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def folder(written: Written) -> Path:
    return written.folder / "OptimizedModel/Tests/OptimizedModelTests/Golden"


@pytest.fixture(scope="module")
def golden(folder: Path) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads((folder / "golden.json").read_text("utf-8"))
    return plain


def pixels(folder: Path, sample: dict[str, Any]) -> Any:
    return np.asarray(Image.open(folder / sample["file"]).convert("RGB"))


def test_the_samples_are_pictures_at_input_size_by_their_digest(
    folder: Path, golden: dict[str, Any], subject: Subject
) -> None:
    side = subject.rule.resolution
    assert sorted(path.name for path in folder.glob("*.png")) == [sample["file"] for sample in golden["samples"]]
    for sample in golden["samples"]:
        found = pixels(folder, sample)
        assert found.shape == (side, side, 3) and hashlib.sha256(found.tobytes()).hexdigest() == sample["pixels"]
        assert b"sRGB" in (folder / sample["file"]).read_bytes()


def test_torch_gives_the_same_answers(folder: Path, golden: dict[str, Any], subject: Subject) -> None:
    """The network of the store, not the package, and torch's own convolutions: fp16 weights move little."""
    trained = Trained.of(subject.run.folder / "store/train" / subject.scored.provenance[TRAINING])
    classifier = Classifier(trained.module(), trained.network).eval()
    images = np.stack([pixels(folder, sample) for sample in golden["samples"]])
    with torch.inference_mode():
        found = classifier(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()
    fp16 = subject.result.candidate.compression.scheme == "fp16"
    for row, sample in zip(found, golden["samples"], strict=True):
        if fp16:
            np.testing.assert_allclose(row, sample["probability"], atol=2e-3)
            assert (row >= sample["low"]).all() and (row <= sample["high"]).all()
        if sample["decided"]:
            assert golden["labels"][row.argmax()] == sample["label"]


def test_the_fp16_package_was_looked_at(searched: Any, tmp_path: Path) -> None:
    """The comparison with torch above says most of the uncompressed package: it is made of that one, too."""
    from coreml_pareto.search.delivery.golden import write_golden

    subject = open_subject(searched, choose(searched, 0))  # type: ignore[arg-type]
    write_golden(subject.program, subject.data.validation, subject.rule, subject.answers, tmp_path)
    found = json.loads((tmp_path / "golden.json").read_text("utf-8"))
    assert subject.result.candidate.compression.scheme == "fp16"
    test_torch_gives_the_same_answers(tmp_path, found, subject)


def test_ranges_and_labels_are_those_of_the_tolerance(golden: dict[str, Any]) -> None:
    tau = golden["tolerance"]["tau"]
    values = np.array([sample["probability"] for sample in golden["samples"]])
    low, high = bounds(values, tau)
    np.testing.assert_allclose(low, [sample["low"] for sample in golden["samples"]], atol=1e-4)
    np.testing.assert_allclose(high, [sample["high"] for sample in golden["samples"]], atol=1e-4)
    assert [golden["labels"][row.argmax()] for row in values] == [sample["label"] for sample in golden["samples"]]
    assert any(sample["decided"] for sample in golden["samples"])


@given(
    st.lists(st.floats(-8, 8), min_size=2, max_size=6),
    st.floats(0.001, 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 5),
)
def test_no_move_of_the_logits_leaves_the_range_and_one_reaches_it(
    logits: list[float], tau: float, seed: int, place: int
) -> None:
    given_logits, place = np.array([logits]), place % len(logits)
    low, high = bounds(softmax(given_logits), tau)
    moves = np.random.default_rng(seed).uniform(-tau, tau, (50, len(logits)))
    found = softmax(given_logits + moves)
    assert (found >= low - 1e-12).all() and (found <= high + 1e-12).all()
    extreme = np.full(len(logits), -tau)
    extreme[place] = tau
    reached = softmax(given_logits + extreme)[0, place] + HALF_STEP
    assert high[0, place] == pytest.approx(min(1.0, reached), abs=1e-12)
    if decided(given_logits, tau)[0]:
        assert (found.argmax(axis=1) == given_logits.argmax()).all()


def test_the_tolerance_is_the_rule_of_verify() -> None:
    """Noise of that deviation has the ratio at which `verify` begins to object."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (4000, 10))
    allowed = tolerance(logits, logits[:5], logits[:5] + 1e-3)
    assert allowed.tau == pytest.approx(DEVIATIONS * allowed.noise)
    noisy = logits + random.normal(0, allowed.noise, logits.shape)
    assert ratio_db(logits, noisy) == pytest.approx(LEAST_DB, abs=0.1)
    coarse = tolerance(logits, logits[:5], logits[:5] + 1.0)
    assert coarse.tau == pytest.approx(ROUNDINGS * 1.0)
