"""Core ML itself: what can be shown without macOS is the refusal, and the translation of what `predict` answers."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coreml_pareto.objectives.program import CoreMLRunner, load
from coreml_pareto.spaces.errors import UserError


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML is there")
def test_off_macos_it_names_the_way_out() -> None:
    with pytest.raises(UserError, match=r"macOS only.*Executor"):
        CoreMLRunner(Path("any.mlpackage"))


def test_unknown_compute_units() -> None:
    with pytest.raises(UserError, match="CPU_AND_NE"):
        CoreMLRunner(Path("any.mlpackage"), compute_units="NPU")


class Answers:
    """`MLModel.predict` of a classifier: the label, and a dictionary in any order."""

    def predict(self, data: dict[str, Any]) -> dict[str, Any]:
        assert data["image"].mode == "RGB"
        best = int(np.asarray(data["image"])[0, 0, 0])
        probabilities = {f"class {i}": float(i == best) for i in reversed(range(10))}
        return {"classLabel": f"class {best}", "classLabel_probs": probabilities}


def test_answers_become_tensors(convert: Any, small: Any) -> None:
    runner = CoreMLRunner.__new__(CoreMLRunner)
    runner.program, runner._model = load(convert("small_fp16", small)), Answers()
    images = np.zeros((3, 48, 48, 3), np.uint8)
    images[:, 0, 0, 0] = [7, 0, 2]
    got = runner.run(images)
    assert got["classLabel"].tolist() == [7, 0, 2]
    assert torch.equal(got["classLabel_probs"], torch.eye(10)[[7, 0, 2]])
    with pytest.raises(UserError, match="outputs only"):
        runner.run(images, [runner.program.logits])
