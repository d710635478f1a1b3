"""Peak memory: each term by hand, and which systems keep weights compressed."""

from __future__ import annotations

from pathlib import Path

import pytest

from coreml_pareto.objectives.memory import input_output_bytes, kept_bytes, memory, streams
from coreml_pareto.objectives.program import Weight, liveness, load

INT4 = Weight("w", (1000,), 1000, "int4", 4.16, 520)


@pytest.mark.parametrize(
    ("os", "unit", "precision", "kept"),
    [
        (16, "Neural Engine", "fp16", 2000),
        (17, "Neural Engine", "fp16", 520),
        (26, "Neural Engine", "fp16", 520),
        (17, "GPU", "fp16", 2000),
        (18, "GPU", "fp16", 520),
        (18, "CPU", "fp16", 2000),
        (18, "CPU", "fp32", 4000),
    ],
)
def test_weights_as_the_system_keeps_them(os, unit, precision, kept) -> None:  # type: ignore[no-untyped-def]
    assert kept_bytes(INT4, precision, os, unit) == kept


def test_only_int4_streams_on_the_gpu() -> None:
    assert [scheme for scheme in ("int8", "palette-4", "sparse", "int4") if streams(scheme, 18, "GPU")] == ["int4"]


def test_the_sum_by_hand(packages: dict[str, Path], target) -> None:  # type: ignore[no-untyped-def]
    program = load(packages["fp16"])
    weights = 2 * (8 * 27 + 8 + 8 * 9 + 8 + 64 * 8 + 64 + 64 * 7 + 7)
    io = 4 * 16 * 16 + 2 * 3 * 16 * 16 + program.types[str(program.probabilities)].nbytes
    live = liveness(program)
    reading = memory(program, target(), "Neural Engine")["memory_bytes"]
    assert io == input_output_bytes(program)
    assert reading.value == weights + live.peak_bytes + io
    assert reading.low == weights + live.fused_peak_bytes + 4 * 16 * 16  # tensors of input and output are alive in it
    assert reading.high == 2 * weights + 2 * max(live.peak_bytes, live.naive_bytes // 2) + io
    assert "base" in reading.conditions["above"]


def test_compressed_weights_save_memory_from_ios_17_on(packages: dict[str, Path], target) -> None:  # type: ignore[no-untyped-def]
    def peak(name: str, os: int) -> float:
        return memory(load(packages[name]), target("iPhone 14 Pro", os), "Neural Engine")["memory_bytes"].value

    assert peak("int8", 16) == peak("fp16", 16) == peak("fp16", 17)
    stored = {name: sum(w.stored_bytes for w in load(packages[name]).weights) for name in ("fp16", "int8")}
    assert peak("fp16", 17) - peak("int8", 17) == stored["fp16"] - stored["int8"] > 0


@pytest.mark.parametrize("os", [16, 17])
@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_between_the_largest_live_set_and_everything_at_once(packages: dict[str, Path], target, name, os) -> None:  # type: ignore[no-untyped-def]
    program = load(packages[name])
    kept = sum(kept_bytes(weight, program.precision, os, "Neural Engine") for weight in program.weights)
    alive_at_once = max(
        sum(program.types[value].nbytes for value in {*step.operands(), *(output for output, _ in step.outputs)})
        for step in program.operations
        if not step.constexpr and step.kind in ("conv", "linear")
    )
    every = sum(kind.nbytes for kind in program.types.values()) + input_output_bytes(program)
    reading = memory(program, target("iPhone 14 Pro", os), "Neural Engine")["memory_bytes"]
    assert kept + alive_at_once <= reading.low <= reading.value <= kept + every
