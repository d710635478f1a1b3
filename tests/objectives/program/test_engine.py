"""Operations that the Neural Engine is reported not to run: named, each by its rule, in programs written for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb

from coreml_pareto.objectives.devices import Target, find_device
from coreml_pareto.objectives.program import costs
from coreml_pareto.objectives.program.engine import LONG, REFLECTING, ROLLING, SAMPLING, SINES, WIDE, holds, off_engine
from coreml_pareto.objectives.score import static_score


def _conv(x: Any, side: int) -> Any:
    return mb.conv(x=x, weight=np.ones((4, 4, 1, side), np.float32), pad_type="same")


CASES = {
    "gathering": lambda x: mb.gather(x=x, indices=np.array([0, 2], np.int32), axis=1),
    ROLLING: lambda x: mb.gather(x=x, indices=np.array([5, *range(6, 16), *range(5)], np.int32), axis=2),
    "products over an axis": lambda x: mb.reduce_prod(x=x, axes=[1]),
    "sorting": lambda x: mb.topk(x=x, k=2, axis=1)[0],
    WIDE: lambda x: _conv(x, 15),
    "kernels wider than 15": lambda x: _conv(x, 17),
    LONG: lambda x: mb.tile(x=x, reps=[1, 1, 1, 1025]),
    "sides beyond 65536": lambda x: mb.tile(x=x, reps=[1, 1, 1, 4097]),
    "channels beyond 65536": lambda x: mb.tile(x=x, reps=[1, 16385, 1, 1]),
    "the greatest of more than 2048": lambda x: mb.reduce_argmax(x=mb.tile(x=x, reps=[1, 513, 1, 1]), axis=1),
    REFLECTING: lambda x: mb.pad(x=x, pad=[1, 1, 1, 1], mode="reflect"),
    SAMPLING: lambda x: mb.affine(
        x=x, transform_matrix=np.ones((1, 6), np.float32), output_height=8, output_width=8,
        sampling_mode="bilinear", padding_mode="constant", padding_value=0.0, coordinates_mode="normalized_minus_one_to_one",
        align_corners=True,
    ),
    SINES: lambda x: mb.sin(x=x),
    "": lambda x: mb.pad(x=_conv(x, 13), pad=[1, 1, 1, 1], mode="constant"),
}  # fmt: skip


@pytest.mark.parametrize("reason", CASES)
def test_reason(reason: str, build: Any) -> None:
    assert reason in {cost.off_engine for cost in costs(build(CASES[reason], (1, 4, 16, 16)))}


def test_the_longest_search_counts_its_own_axis(build: Any) -> None:
    program = build(lambda x: mb.reduce_argmax(x=mb.tile(x=x, reps=[1, 512, 1, 1]), axis=1), (1, 4, 16, 16))
    assert {cost.off_engine for cost in costs(program)} == {""}
    program = build(lambda x: mb.reduce_argmin(x=mb.tile(x=x, reps=[1, 1, 1, 129])), (1, 4, 16, 16))  # the last axis
    assert "the greatest of more than 2048" in {cost.off_engine for cost in costs(program)}


def test_a_rank_above_five_is_none_of_the_engine() -> None:
    """Core ML Tools 9.0 writes no such program; others may."""
    value = SimpleNamespace(shape=(1, 2, 2, 2, 2, 2))
    parameters: dict[str, Any] = {}
    operation: Any = SimpleNamespace(
        kind="relu", outputs=(("y", value),), parameter=lambda name, default: parameters.get(name, default)
    )
    assert off_engine(cast("Any", None), operation) == "ranks above 5"
    operation.outputs = (("y", SimpleNamespace(shape=(1, 2, 2, 2, 2))),)
    assert off_engine(cast("Any", None), operation) == ""


@pytest.mark.parametrize(
    ("reason", "runs", "not_yet"),
    [
        (WIDE, ("A16", "A17 Pro", "A19 Pro", "M4", "M4 Max", "M5"), ("A15", "M3", "M3 Max", "M1", "A12", "Z80", "")),
        (LONG, ("A16", "M4"), ("A15", "M3", "")),
        (SINES, ("A15", "M3"), ("A14", "M2", "")),
        (REFLECTING, ("A14", "M2"), ("A13", "M1", "M1 Max", "")),
        (SAMPLING, ("A14", "M2"), ("A13", "M1", "")),
        ("gathering", (), ("A12", "A19 Pro", "M5", "")),
    ],
)
def test_a_reason_may_be_one_of_older_chips_alone(reason: str, runs: tuple[str, ...], not_yet: tuple[str, ...]) -> None:
    """A chip that nobody knows runs nothing that is doubted anywhere."""
    assert not any(holds(reason, chip) for chip in runs)
    assert all(holds(reason, chip) for chip in not_yet)
    assert not holds("", "A12")


@pytest.mark.parametrize("indices", [[0, 1, 2, 3], [1, 2, 3, 1], [3, 2, 1, 0], [2, 3, 0, 1]])
def test_only_a_roll_is_one(build: Any, indices: list[int]) -> None:
    program = build(lambda x: mb.gather(x=x, indices=np.array(indices, np.int32), axis=1), (1, 4, 16, 16))
    (row,) = (cost for cost in costs(program) if cost.kind == "gather")
    assert row.off_engine == (ROLLING if indices == [2, 3, 0, 1] else "gathering")


def test_usual_operations_have_none(build: Any) -> None:
    assert {cost.off_engine for cost in costs(build(CASES[""], (1, 4, 16, 16)))} == {""}


@pytest.mark.parametrize(("side", "stride", "reason"), [(16, 16, ""), (16, 8, "kernels wider than 15")])
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
