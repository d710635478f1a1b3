"""An estimate taken apart adds up to it, on every unit; each operation is told by its kind, and costs what it adds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.devices import Target, devices, find_device, priors
from coreml_pareto.objectives.devices.priors import Unit
from coreml_pareto.objectives.explanation import DISPATCH, HANDED_OVER, explain, kind_of
from coreml_pareto.objectives.latency import latency, unit_milliseconds, unit_shares
from coreml_pareto.objectives.program import Cost, Program, costs, load
from coreml_pareto.objectives.program.operations import OPERATIONS
from coreml_pareto.objectives.workload import row_terms

UNITS: tuple[Unit, ...] = ("Neural Engine", "GPU", "CPU")
KINDS = ("conv", "linear", "matmul", "relu", "transpose", "reshape", "max_pool", "concat", "softmax", "mystery")


def operation(
    kind: str, group: str, precision: str, macs: int, weights: int, stored: int, moved: int, off: str
) -> Cost:
    return Cost("n", kind, group, precision, macs, stored, weights, moved, moved // 2, kernel=1, aligned_bytes=2 * moved,
                off_engine=off)  # type: ignore[arg-type]  # fmt: skip


tables = st.lists(
    st.builds(
        operation,
        kind=st.sampled_from(KINDS),
        group=st.sampled_from(["dense", "depthwise", "matrix", "other"]),
        precision=st.sampled_from(["fp16", "w8a8"]),
        macs=st.sampled_from([0, 10**5, 10**8, 10**10]),
        weights=st.sampled_from([0, 10**3, 10**7]),
        stored=st.integers(0, 10**7),
        moved=st.sampled_from([0, 10**4, 10**7]),
        off=st.sampled_from(["", "", "", "gathering"]),
    ),
    max_size=8,
)
places = st.sampled_from(
    [
        Target(d, os)
        for d in devices()
        for os in (15, 17, 26)
        if d.os_first is None or (d.os_first <= os <= (d.os_latest or 26))
    ]
)


@given(tables, places, st.sampled_from(UNITS))
def test_shares_add_up_to_the_estimate_of_every_unit(rows: list[Cost], target: Target, unit: Unit) -> None:
    shares = unit_shares(rows, target, unit)
    told = shares.t0 + sum(sum(terms.values()) for terms in shares.operations) + shares.fallback
    assert told == pytest.approx(unit_milliseconds(rows, target, unit)[0], rel=1e-9)
    assert all(ms >= 0 for terms in shares.operations for ms in terms.values())


@given(tables, places)
def test_an_operation_is_told_by_the_terms_that_it_has(rows: list[Cost], target: Target) -> None:
    for cost, terms in zip(rows, unit_shares(rows, target, "Neural Engine").operations, strict=True):
        assert set(terms) == {name for name, amount in row_terms(cost) if amount}


@given(tables)
def test_a_layer_costs_what_the_estimate_loses_without_it(rows: list[Cost]) -> None:
    """A second way to the same milliseconds: the difference of two estimates."""
    target = Target(find_device("iPhone 15 Pro"), 17)
    rows = [dataclasses.replace(cost, off_engine="") for cost in rows]
    shares = unit_shares(rows, target, "Neural Engine").operations
    total = unit_milliseconds(rows, target, "Neural Engine")[0]
    for index, terms in enumerate(shares):
        without = unit_milliseconds(rows[:index] + rows[index + 1 :], target, "Neural Engine")[0]
        assert sum(terms.values()) == pytest.approx(total - without, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["fp16", "fp32", "int8"])
@pytest.mark.parametrize("units", ["ALL", "CPU_ONLY", "CPU_AND_GPU"])
def test_parts_of_a_package_add_up(
    packages: dict[str, Path], target: Callable[..., Target], name: str, units: str
) -> None:
    program, where = load(packages[name]), target(compute_units=units)
    found = explain(program, where)
    assert found.ms == latency(costs(program), where)["latency_ms"].value
    assert sum(part.ms for part in found.parts) == pytest.approx(found.ms, rel=1e-9)
    assert sum(part.share for part in found.parts) == pytest.approx(1, rel=1e-9)
    assert sum(part.operations for part in found.parts) == len(costs(program))
    for part in found.parts[1:]:
        assert part.ms == pytest.approx(part.arithmetic + part.weights + part.bytes, rel=1e-9)
    assert found.parts[0].kind == DISPATCH and found.handed_over == ()


def test_the_layers_are_the_most_expensive_ones(packages: dict[str, Path], target: Callable[..., Target]) -> None:
    program = load(packages["fp16"])
    every = explain(program, target(), most=1000).layers
    first = explain(program, target()).layers
    assert len(first) == 5 < len(every) and first == every[:5]
    assert [layer.ms for layer in every] == sorted((layer.ms for layer in every), reverse=True)
    kinds = {layer.kind: layer.shape for layer in every}
    assert kinds["depthwise convolution"] == (1, 8, 8, 8) and kinds["1x1 convolution"] == (1, 64, 8, 8)
    assert kinds["dense convolution"] == (1, 8, 8, 8) and kinds["matrix product"] == (1, 7)
    told = sum(layer.ms for layer in every)
    assert told == pytest.approx(sum(part.ms for part in explain(program, target()).parts[1:]), rel=1e-9)


def test_operations_off_the_neural_engine_are_named_with_their_penalty(
    packages: dict[str, Path], target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = load(packages["fp16"])
    moved = [_as_gather(o) if o.kind == "relu" else o for o in program.operations]
    handing: Program = dataclasses.replace(program, operations=tuple(moved))
    cheap = dataclasses.replace(priors.FALLBACK, value=0.05, low=0.02, high=0.1)
    monkeypatch.setattr(priors, "FALLBACK", cheap)  # less than the CPU takes for all
    here, there = explain(program, target()), explain(handing, target())
    (penalty,) = (part for part in there.parts if part.kind == HANDED_OVER)
    assert penalty.ms == priors.FALLBACK.value
    assert there.ms > here.ms + 0.99 * priors.FALLBACK.value
    gathers = [o.name for o in moved if o.kind == "gather"]
    assert there.handed_over == tuple(f"{name} (gather): gathering" for name in gathers) and len(gathers) > 1
    assert explain(handing, target(compute_units="CPU_ONLY")).handed_over == ()
    assert sum(part.ms for part in there.parts) == pytest.approx(there.ms, rel=1e-9)


def test_another_unit_takes_the_whole_program_and_the_reason_stays(
    packages: dict[str, Path], target: Callable[..., Target]
) -> None:
    program = load(packages["fp16"])
    moved = tuple(_as_gather(o) if o.kind == "relu" else o for o in program.operations)
    handing: Program = dataclasses.replace(program, operations=moved)
    found, cpu = explain(handing, target()), explain(handing, target(compute_units="CPU_ONLY"))
    assert found.unit == "CPU" and found.handed_over and found.parts == cpu.parts and found.layers == cpu.layers
    assert found.ms == latency(costs(handing), target())["latency_ms"].value
    assert HANDED_OVER not in {part.kind for part in found.parts}


def _as_gather(operation: Any) -> Any:
    return dataclasses.replace(operation, kind="gather")


def test_every_operation_that_we_know_has_a_kind(row: Callable[..., Cost]) -> None:
    convolving = {"conv", "conv_transpose", "linear", "matmul", "einsum", "scaled_dot_product_attention"}  # by group
    unnamed = {
        k for k in OPERATIONS if k not in convolving and kind_of(row(kind=k, group="other")) == "unknown operation"
    }
    assert unnamed == set()
    assert kind_of(row(kind="mystery", group="other")) == "unknown operation"
    assert kind_of(row(kernel=9)) == "dense convolution" and kind_of(row(kernel=1)) == "1x1 convolution"
