"""Liveness against brute force on random graphs, and against hand-counted ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.devices import Target, find_device
from coreml_pareto.objectives.devices.priors import Unit
from coreml_pareto.objectives.memory import memory
from coreml_pareto.objectives.program import (
    ImageInput,
    Liveness,
    Operation,
    Program,
    TensorInput,
    TensorType,
    liveness,
    load,
)
from coreml_pareto.spaces.errors import UserError


def program(operations: Sequence[Operation], size: int, outputs: Sequence[str]) -> Program:
    kind = TensorType("int8", (size,))
    types = {"in": kind} | {name: kind for operation in operations for name, kind in operation.outputs}
    return Program(Path("p"), TensorInput("in", kind), tuple(operations), {}, types, tuple(outputs), {}, 8)


def operation(kind: str, reads: Sequence[str], writes: str, size: int) -> Operation:
    inputs = dict(zip("xyzabcdef", ((name,) for name in reads), strict=False))
    return Operation(kind, writes, inputs, ((writes, TensorType("int8", (size,))),))


@st.composite
def graphs(draw: st.DrawFn, most: int = 12) -> Program:
    """Random operations: element-wise and views keep the size, others choose their own; any value may be read late."""
    sizes = {"in": draw(st.integers(1, 100))}
    operations = []
    for i in range(draw(st.integers(1, most))):
        kind = draw(st.sampled_from(["relu", "add", "reshape", "conv", "concat"]))
        count = {"relu": 1, "reshape": 1, "conv": 1}.get(kind, draw(st.integers(1, 3)))
        reads = draw(st.lists(st.sampled_from(list(sizes)), min_size=count, max_size=count))
        kept = kind in ("relu", "add", "reshape")
        sizes[f"v{i}"] = sizes[reads[0]] if kept else draw(st.integers(1, 100))
        operations.append(operation(kind, reads, f"v{i}", sizes[f"v{i}"]))
    outputs = draw(st.lists(st.sampled_from([o.name for o in operations]), min_size=1, max_size=3, unique=True))
    return program(operations, sizes["in"], outputs)


def brute_force(graph: Program) -> tuple[int, int]:
    """(naive, peak) from the definition: which memory is needed at or after each moment, and exists by then."""
    root = {"in": "in"}
    for step in graph.operations:
        source = next(iter(step.operands()))
        root[step.name] = root[source] if step.kind == "reshape" else step.name
    size = {name: graph.types[name].nbytes for name in set(root.values())}
    peak = size["in"]
    for now in range(len(graph.operations)):
        later = {root[name] for step in graph.operations[now:] for name in step.operands()}
        later |= {root[name] for name in graph.output} | {root[graph.operations[now].name]}
        exists = {"in"} | {root[step.name] for step in graph.operations[: now + 1]}
        peak = max(peak, sum(size[name] for name in later & exists))
    return sum(size.values()), peak


@given(graphs())
def test_agrees_with_brute_force(graph: Program) -> None:
    result = liveness(graph)
    assert (result.naive_bytes, result.peak_bytes) == brute_force(graph)


ELEMENTWISE = ("relu", "add")


def in_place_peak(graph: Program, chosen: Mapping[int, str]) -> int | None:
    """The peak where operation i overwrites the value `chosen[i]`; None where something would be read that is gone."""
    buffer, size, holds = {"in": "in"}, {"in": graph.types["in"].nbytes}, {"in": {"in"}}
    for now, step in enumerate(graph.operations):
        over = chosen.get(now, next(iter(step.operands())) if step.kind == "reshape" else None)
        home = step.name if over is None else buffer[over]
        if now in chosen:
            gone = holds[home]
            if home == "in" or size[home] != graph.types[step.name].nbytes or gone & set(graph.output):
                return None
            if any(name in gone for later in graph.operations[now + 1 :] for name in later.operands()):
                return None
            holds[home] = set()
        buffer[step.name] = home
        size.setdefault(home, graph.types[step.name].nbytes)
        holds.setdefault(home, set()).add(step.name)
    last = {home: -1 for home in size} | {"in": 0}
    first = {"in": 0}
    for now, step in enumerate(graph.operations):
        for name in (*step.operands(), step.name):
            last[buffer[name]] = now
            first.setdefault(buffer[name], now)
    last |= {buffer[name]: len(graph.operations) for name in graph.output}
    moments = range(len(graph.operations))
    return max([size["in"], *(sum(size[h] for h in size if first[h] <= now <= last[h]) for now in moments)])


@given(graphs(most=6))
def test_in_place_is_the_best_of_all_legal_ways(graph: Program) -> None:
    """Every choice of operations that overwrite one of their operands, tried one by one."""
    steps = [
        [None, *(name for name in step.operands() if step.kind in ELEMENTWISE)] for step in graph.operations
    ]  # fmt: skip
    peaks = []
    for ways in itertools.product(*steps):
        chosen = {now: name for now, name in enumerate(ways) if name is not None}
        if (peak := in_place_peak(graph, chosen)) is not None:
            peaks.append(peak)
    assert liveness(graph).fused_peak_bytes == min(peaks)


@given(graphs())
def test_what_an_operation_reads_and_writes_is_alive_together(graph: Program) -> None:
    result = liveness(graph)
    for step in graph.operations:
        read = {name: graph.types[name].nbytes for name in step.operands()}
        if step.kind == "conv":
            assert result.fused_peak_bytes >= sum(read.values()) + graph.types[step.name].nbytes
        assert result.fused_peak_bytes >= max(*read.values(), graph.types[step.name].nbytes)


@given(graphs())
def test_bounds(graph: Program) -> None:
    result = liveness(graph)
    largest = max(kind.nbytes for kind in graph.types.values())
    assert largest <= result.fused_peak_bytes <= result.peak_bytes <= result.naive_bytes


@given(graphs(), st.sampled_from(["Neural Engine", "GPU", "CPU"]))
def test_the_memory_reading_lies_between_the_largest_live_set_and_the_naive_sum(graph: Program, unit: Unit) -> None:
    """A live set: what one operation reads and writes; views share theirs, and in place only an operand is overwritten."""
    reading = memory(graph, Target(find_device("iPhone 15 Pro"), 17), unit)["memory_bytes"]
    root = {"in": "in"}
    for step in graph.operations:
        root[step.name] = root[next(iter(step.operands()))] if step.kind == "reshape" else step.name
    sizes = {name: graph.types[name].nbytes for name in root.values()}
    sets = [{root[name] for name in (*step.operands(), step.name)} for step in graph.operations]
    largest = max(sum(sizes[name] for name in alive) for alive in sets)
    convolving = [sum(sizes[name] for name in alive) for step, alive in zip(graph.operations, sets, strict=True)
                  if step.kind in ("conv", "concat")]  # fmt: skip
    read_and_returned = sizes["in"] + sum(graph.types[name].nbytes for name in graph.output)
    assert largest + read_and_returned <= reading.value <= sum(sizes.values()) + read_and_returned
    assert max([0, *convolving]) <= reading.low <= reading.value <= reading.high


def test_a_chain_of_activations_needs_two_buffers_or_one_in_place() -> None:
    chain = [operation("relu", [f"v{i}" if i else "in"], f"v{i + 1}", 10) for i in range(5)]
    assert liveness(program(chain, 10, ["v5"])) == Liveness(60, 20, 20)  # the caller's tensor is not overwritten
    picture = ImageInput("in", 1, 1, "RGB")
    assert liveness(replace(program(chain, 10, ["v5"]), input=picture)) == Liveness(60, 20, 10)


def test_a_residual_keeps_its_input_alive() -> None:
    steps = [
        operation("conv", ["in"], "a", 10),
        operation("conv", ["a"], "wide", 60),
        operation("conv", ["wide"], "narrow", 10),
        operation("add", ["narrow", "a"], "sum", 10),
    ]
    # in 5 | a 10; at `wide`: a + wide; at `narrow`: a + wide + narrow, the worst
    assert liveness(program(steps, 5, ["sum"])) == Liveness(95, 80, 80)


def test_what_is_returned_lives_to_the_end() -> None:
    steps = [operation("conv", ["in"], "a", 40), operation("conv", ["in"], "b", 50), operation("conv", ["b"], "c", 50)]
    assert liveness(program(steps, 1, ["c"])).peak_bytes == 100
    assert liveness(program(steps, 1, ["a", "c"])).peak_bytes == 140


def test_an_operation_that_nobody_prices_still_needs_memory() -> None:
    steps = [operation("unheard_of", ["in"], "a", 40)]
    assert liveness(program(steps, 2, ["a"])) == Liveness(42, 42, 42)


def test_constants_are_no_activations(build: Callable[..., Program]) -> None:
    weight = np.ones((3, 64), np.float32)
    graph = build(lambda x: mb.relu(x=mb.matmul(x=x, y=weight)), (1, 3))
    assert liveness(graph) == Liveness(12 + 256 + 256, 512, 12 + 256)


def test_open_shapes_are_refused(dynamic: Program) -> None:
    with pytest.raises(UserError, match="static shapes"):
        liveness(dynamic)


def test_half_precision_halves_what_is_alive(convert: Any, mobilenet: Any) -> None:
    half = liveness(load(convert("mobilenetv3_small_050_fp16", mobilenet)))
    full = liveness(load(convert("mobilenetv3_small_050_fp32", mobilenet, fp16=False)))
    assert half.peak_bytes < full.peak_bytes <= 2 * half.peak_bytes


@pytest.mark.parametrize("scheme", ["int8", "palette"])
def test_compression_changes_no_activation(
    scheme: str, convert: Any, mobilenet: Any, quiet: Any, tmp_path: Path
) -> None:
    """Weights are unpacked when the model is loaded: what lives between the operations stays the same."""
    original = convert("mobilenetv3_small_050_fp16", mobilenet)
    with quiet():
        model = ct.models.MLModel(str(original), skip_model_load=True)
        if scheme == "int8":
            settings = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=512)
            smaller = cto.linear_quantize_weights(model, cto.OptimizationConfig(settings))
        else:
            palette = cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=512)
            smaller = cto.palettize_weights(model, cto.OptimizationConfig(palette))
        smaller.save(str(tmp_path / "smaller.mlpackage"))
        del model, smaller
    graph, compressed = load(original), load(tmp_path / "smaller.mlpackage")
    assert not any(operation.constexpr for operation in graph.operations)
    assert sum(operation.constexpr for operation in compressed.operations) > 10
    assert liveness(compressed) == liveness(graph)
