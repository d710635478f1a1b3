"""Features of the operation table: which bytes count, what compression saves, where a program may run."""

from __future__ import annotations

import pytest

from coreml_pareto.objectives.devices.priors import TERMS
from coreml_pareto.objectives.program.costs import REARRANGED
from coreml_pareto.objectives.program.engine import WIDE
from coreml_pareto.objectives.program.operations import OPERATIONS
from coreml_pareto.objectives.program.operations.elementwise import ROWS as ELEMENTWISE
from coreml_pareto.objectives.workload import (
    FUSED,
    effective_weight_bytes,
    handed_over,
    off_engine,
    runs_on_neural_engine,
    terms,
    total,
    units,
)


def test_only_known_operations_are_fused_and_none_that_computes_or_gathers() -> None:
    assert set(ELEMENTWISE) <= FUSED
    moving = {"conv", "linear", "matmul", "max_pool", "avg_pool", "reduce_mean", "softmax", "concat", "transpose"}
    assert moving <= set(OPERATIONS)
    assert not moving & FUSED


def test_sums_split_depthwise_from_dense_and_leave_fused_bytes_out(row) -> None:  # type: ignore[no-untyped-def]
    costs = [
        row(macs=5, weight_elements=10, read_bytes=100, written_bytes=50),
        row(macs=7, group="depthwise", weight_elements=3),
        row(macs=11, group="matrix", kind="linear", read_bytes=8, written_bytes=2),
        row(group="other", kind="relu", read_bytes=1000, written_bytes=1000),
    ]
    work = total(costs, on_chip_bytes=120)
    assert (work.dense_macs, work.depthwise_macs, work.macs) == (16, 7, 23)
    assert (work.full_weight_bytes, work.activation_bytes, work.spilled_bytes) == (26, 160, 30)


@pytest.mark.parametrize(
    ("elements", "stored", "precision", "eta", "expected"),
    [
        (1000, 2000, "fp16", 0.4, 2000),
        (1000, 500, "fp16", 0.4, 2000 * (1 - 0.4 * (1 - 4 / 16))),  # 4 bits
        (1000, 2000 * 0.5 + 125, "fp16", 0.4, 2000 * (1 - 0.4 * (1 - (0.5 + 1 / 16)))),  # half density and a mask
        (1000, 500, "fp16", 0.0, 2000),
        (1000, 2100, "fp16", 0.4, 2000),  # overhead of tables never makes a network slower than fp16
        (1000, 1000, "fp32", 1.0, 1000),
        (0, 0, "fp16", 0.4, 0),
    ],
)
def test_effective_weight_bytes(row, elements, stored, precision, eta, expected) -> None:  # type: ignore[no-untyped-def]
    cost = row(weight_elements=elements, weight_bytes=stored, precision=precision)
    assert effective_weight_bytes(cost, eta) == pytest.approx(expected)


def test_fp32_arithmetic_keeps_off_the_neural_engine_but_a_cast_does_not(row) -> None:  # type: ignore[no-untyped-def]
    assert runs_on_neural_engine([row(macs=1), row(kind="cast", group="other", precision="fp32")])
    assert not runs_on_neural_engine([row(macs=1), row(macs=1, precision="fp32")])


@pytest.mark.parametrize(
    ("compute_units", "precision", "expected"),
    [
        ("ALL", "fp16", ("Neural Engine",)),
        ("CPU_AND_NE", "w8a8", ("Neural Engine",)),
        ("CPU_AND_GPU", "fp16", ("GPU", "CPU")),
        ("CPU_ONLY", "fp16", ("CPU",)),
        ("ALL", "fp32", ("GPU", "CPU")),
        ("CPU_AND_NE", "fp32", ("CPU",)),
    ],
)
def test_units_that_may_run_a_program(row, target, compute_units, precision, expected) -> None:  # type: ignore[no-untyped-def]
    assert units([row(macs=1, precision=precision)], target(compute_units=compute_units)) == expected


@pytest.mark.parametrize(
    ("compute_units", "expected"),
    [
        ("ALL", ("Neural Engine", "GPU", "CPU")),
        ("CPU_AND_NE", ("Neural Engine", "CPU")),
        ("CPU_AND_GPU", ("GPU", "CPU")),
        ("CPU_ONLY", ("CPU",)),
    ],
)
def test_what_is_handed_over_puts_the_other_allowed_units_in_question(row, target, compute_units, expected) -> None:  # type: ignore[no-untyped-def]
    gather, place = row(kind="gather", group="other", off_engine="gathering"), target(compute_units=compute_units)
    assert units([row(macs=1), gather], place) == expected
    assert handed_over([row(macs=1), gather], place) == ((gather,) if "Neural Engine" in expected else ())
    assert units([row(macs=1, precision="fp32"), gather], target()) == ("GPU", "CPU")
    assert handed_over([row(macs=1, precision="fp32"), gather], target()) == ()


def test_what_an_older_chip_hands_over_a_newer_one_runs(row, target) -> None:  # type: ignore[no-untyped-def]
    wide = row(macs=1, off_engine=WIDE)
    assert off_engine([wide], target("iPhone 13")) == (wide,)
    assert off_engine([wide], target("iPhone 15 Pro")) == ()
    assert units([wide], target("iPhone 15 Pro")) == ("Neural Engine",)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"macs": 10**9, "kernel": 9}, {"spatial": 1.0}),
        ({"macs": 10**9}, {"pointwise": 1.0}),
        ({"macs": 10**9, "group": "depthwise", "kernel": 9}, {"depthwise": 1.0}),
        (
            {"macs": 10**9, "kind": "linear", "group": "matrix", "weight_elements": 10**6},
            {"pointwise": 1.0, "weights": 2},
        ),
        (
            {"macs": 10**9, "kind": "matmul", "group": "matrix", "read_bytes": 10**6},
            {"pointwise": 1.0, "activations": 1},
        ),
        ({"kind": "max_pool", "group": "other", "read_bytes": 3 * 10**6}, {"activations": 3, "spilled": 1}),
        ({"kind": "concat", "group": "other", "read_bytes": 10**6}, {"activations": 1}),
        ({"kind": "transpose", "group": "other", "read_bytes": 10**6, "aligned_bytes": 4 * 10**6}, {"arranged": 4}),
        ({"kind": "reshape", "group": "other", "aligned_bytes": 4 * 10**6}, {"arranged": 4}),
        (
            {"kind": "concat", "group": "other", "read_bytes": 10**6, "aligned_bytes": 10**6, "note": REARRANGED},
            {"arranged": 1},
        ),
        ({"kind": "relu", "group": "other", "read_bytes": 10**6}, {}),
        ({"kind": "mystery", "group": "other", "written_bytes": 10**6}, {"activations": 1}),
    ],
)
def test_terms_say_what_a_unit_does_with_an_operation(row, changes, expected) -> None:  # type: ignore[no-untyped-def]
    told = {name: amount for name, amount in zip(TERMS, terms([row(**changes)]), strict=True) if amount}
    assert told == pytest.approx(expected)
