"""Operations that the Neural Engine is reported not to run: named, each by its rule, in programs written for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb

from coreml_pareto.objectives.devices import Target, find_device
from coreml_pareto.objectives.program import costs
from coreml_pareto.objectives.program.engine import ROLLING
from coreml_pareto.objectives.score import static_score


def _conv(x: Any, side: int) -> Any:
    return mb.conv(x=x, weight=np.ones((4, 4, 1, side), np.float32), pad_type="same")


CASES = {
    "gathering": lambda x: mb.gather(x=x, indices=np.array([0, 2], np.int32), axis=1),
    ROLLING: lambda x: mb.gather(x=x, indices=np.array([5, *range(6, 16), *range(5)], np.int32), axis=2),
    "products over an axis": lambda x: mb.reduce_prod(x=x, axes=[1]),
    "sorting": lambda x: mb.topk(x=x, k=2, axis=1)[0],
    "kernels wider than 13": lambda x: _conv(x, 15),
    "": lambda x: _conv(x, 13),
}


@pytest.mark.parametrize("reason", CASES)
def test_reason(reason: str, build: Any) -> None:
    assert reason in {cost.off_engine for cost in costs(build(CASES[reason], (1, 4, 16, 16)))}


@pytest.mark.parametrize("indices", [[0, 1, 2, 3], [1, 2, 3, 1], [3, 2, 1, 0], [2, 3, 0, 1]])
def test_only_a_roll_is_one(build: Any, indices: list[int]) -> None:
    program = build(lambda x: mb.gather(x=x, indices=np.array(indices, np.int32), axis=1), (1, 4, 16, 16))
    (row,) = (cost for cost in costs(program) if cost.kind == "gather")
    assert row.off_engine == (ROLLING if indices == [2, 3, 0, 1] else "gathering")


def test_usual_operations_have_none(build: Any) -> None:
    assert {cost.off_engine for cost in costs(build(CASES[""], (1, 4, 16, 16)))} == {""}


@pytest.mark.parametrize(("side", "stride", "reason"), [(16, 16, ""), (16, 8, "kernels wider than 13")])
def test_patches_are_no_wide_kernels(build: Any, side: int, stride: int, reason: str) -> None:
    """As vision transformers cut their input, and as Next-ViT averages keys."""
    weight = np.ones((4, 4, side, side), np.float32)
    for operation in (
        lambda x: mb.conv(x=x, weight=weight, strides=[stride, stride]),
        lambda x: mb.avg_pool(x=x, kernel_sizes=[side, side], strides=[stride, stride], pad_type="valid"),
    ):
        (row,) = (cost for cost in costs(build(operation, (1, 4, 32, 32))) if cost.kind in ("conv", "avg_pool"))
        assert row.off_engine == reason


def test_rows_are_filled_up_to_64_bytes(build: Any) -> None:
    program = build(lambda x: mb.reshape(x=mb.relu(x=x), shape=(1, 4, 256, 1)), (1, 4, 16, 16))
    (view,) = (cost for cost in costs(program) if cost.kind == "reshape")
    assert (view.read_bytes, view.written_bytes) == (0, 0)
    assert view.aligned_bytes == 4 * 16 * 64 + 4 * 256 * 64


def test_a_program_with_unknown_operations_is_priced(build: Any) -> None:
    program = build(lambda x: mb.band_part(x=x, lower=1, upper=1), (1, 4, 16, 16))
    rows = {cost.kind: cost for cost in costs(program)}
    assert rows["band_part"].note == "unknown operation"
    assert rows["band_part"].read_bytes == 4 * 4 * 16 * 16
    score = static_score(program, Target(find_device("iPhone 15 Pro"), 18))
    assert "1 × band_part" in score["latency_ms"].conditions["unknown"]
