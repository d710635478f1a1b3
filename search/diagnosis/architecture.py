"""Architecture mismatch, second part: does the network suit its input, its classes and its unit?  Read from the program.

*Starved*: the map that the last pooling averages is a single place: every kernel of that stage wider than 1 sees padding
on most of its taps, and the pooling pools nothing. *Capacity*: from d features the logits reach d dimensions of the
C - 1 that distributions over C classes have (Z. Yang et al., "Breaking the softmax bottleneck", ICLR 2018, section 2).
*Off the Neural Engine*: operations that it is reported not to run, with what the estimate adds for them or the unit that
it takes for the whole program instead, or a program in fp32, none of which runs there. Shapes are exact; milliseconds are
estimates with their 80 % intervals, and only a share whose lower end is above TOLERATED is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.priors import Unit
from coreml_pareto.objectives.explanation import Explanation, explain
from coreml_pareto.objectives.latency import unit_milliseconds
from coreml_pareto.objectives.program import Cost, Program, costs
from coreml_pareto.objectives.program.engine import kernel_sides
from coreml_pareto.objectives.program.program import UNKNOWN, Operation
from coreml_pareto.objectives.workload import runs_on_neural_engine
from coreml_pareto.search.diagnosis.finding import Check, Evidence, Finding, Severity
from coreml_pareto.search.report.words import many

FAILURE: Final = "architecture mismatch"
STARVED, CAPACITY, ENGINE = "resolution of the last stage", "capacity against classes", "off the Neural Engine"
TOLERATED: Final = 0.1
"""Share of the latency that operations off the Neural Engine may take."""
SEVERE: Final = 0.5
NAMED: Final = 3
_POOLING: Final = frozenset({"reduce_mean", "reduce_max", "reduce_sum", "avg_pool", "max_pool", "l2_pool"})
_PRODUCTS: Final = frozenset({"linear", "conv", "matmul"})
_REPLACE: Final = (
    "Replace these operations, or choose a network without them; `measure` tells on a Mac where each really runs."
)


@final
@dataclass(frozen=True)
class Remedies:
    """Commands that try what a finding says, which depend on where the package comes from."""

    resolution: str
    wider: str
    half: str
    look: str


def check(
    program: Program, target: Target, subject: str, trials: tuple[int, ...], tries: Remedies
) -> Iterator[Finding | Check]:
    """Look at one package for all three causes."""
    yield from _starved(program, subject, trials, tries)
    yield from _capacity(program, subject, trials, tries)
    yield from _engine(program, target, subject, trials, tries)


def _starved(program: Program, subject: str, trials: tuple[int, ...], tries: Remedies) -> Iterator[Finding | Check]:
    last = last_map(program)
    if last is None:
        yield Check(FAILURE, STARVED, "unknown", f"{subject}: no pooling of a whole map was found in the program")
        return
    height, width = last
    side = _input_side(program)
    if height * width == 1:
        blind = _taps_on_padding(program)
        yield Finding(
            failure=FAILURE,
            cause=STARVED,
            severity="warning",
            subject=subject,
            trials=trials,
            what=f"An input of {side} pixels leaves a last map of 1×1: nothing is left to pool{_seeing(blind)}.",
            evidence=(
                Evidence("last map", height * width, "places", "exact"),
                Evidence("input", side, "pixels", "exact"),
                *((Evidence("taps on padding, kernels on that map", 100 * blind, "%", "exact"),) if blind else ()),
            ),
            remedy="Give the network a larger input, or its stem a stride of 1.",
            command=tries.resolution,
        )
    told = f"{subject}: the last map has {height}×{width} places at an input of {side} pixels, exact"
    yield Check(FAILURE, STARVED, "found" if height * width == 1 else "healthy", told)


def _seeing(blind: float) -> str:
    return f", and {100 * blind:.0f} % of the taps of its kernels lie on padding" if blind else ""


def last_map(program: Program) -> tuple[int, int] | None:
    """Height and width of the map that the last pooling of a whole map reads; None where there is none."""
    for operation in reversed(program.operations):
        source = operation.one("x")
        if operation.kind not in _POOLING or not isinstance(source, str):
            continue
        before, after = program.types[source].shape, operation.outputs[0][1].shape
        if len(before) == 4 and UNKNOWN not in before and math.prod(after) == before[0] * before[1]:
            return before[2], before[3]
    return None


def _taps_on_padding(program: Program) -> float:
    """Of the kernels wider than 1 that write a map of 1×1: the share of taps that lie on padding; 0 without any."""
    taps = blind = 0
    for operation in program.operations:
        if operation.kind == "conv" and operation.outputs[0][1].shape[2:] == (1, 1):
            every, seen = _taps(program, operation)
            taps, blind = (taps + every, blind + every - seen) if every > 1 else (taps, blind)
    return blind / taps if taps else 0.0


def _taps(program: Program, operation: Operation) -> tuple[int, int]:
    """Taps of a kernel that is laid on its input once, and how many of them meet the input itself."""
    kernel, source = kernel_sides(program, operation), operation.one("x")
    sides = program.types[source].shape[2:] if isinstance(source, str) else kernel
    before = _padding_before(operation, kernel, sides)
    seen = (max(0, min(side, k - pad)) for side, k, pad in zip(sides, kernel, before, strict=True))
    return math.prod(kernel), math.prod(seen)


def _padding_before(operation: Operation, kernel: Sequence[int], sides: Sequence[int]) -> list[int]:
    """Padding in front of each axis (MIL `conv`: pad_type, and pad as begin and end of each axis)."""
    kind = operation.parameter("pad_type", "valid")
    if kind == "custom":
        pad: list[int] = operation.parameter("pad", [0] * (2 * len(kernel)))
        return pad[::2]
    if kind == "valid":
        return [0] * len(kernel)
    both = [max(0, k - side) for k, side in zip(kernel, sides, strict=True)]  # one place: the stride does not matter
    return [total - total // 2 for total in both] if kind == "same_lower" else [total // 2 for total in both]


def _input_side(program: Program) -> int:
    from coreml_pareto.search.evaluation import input_size

    return min(input_size(program))


def _capacity(program: Program, subject: str, trials: tuple[int, ...], tries: Remedies) -> Iterator[Finding | Check]:
    found = classifier(program)
    if found is None:
        yield Check(FAILURE, CAPACITY, "unknown", f"{subject}: no layer was found that turns features into classes")
        return
    features, classes = found
    few = features < classes - 1
    if few:
        yield Finding(
            failure=FAILURE,
            cause=CAPACITY,
            severity="warning",
            subject=subject,
            trials=trials,
            what=f"{features} features decide between {classes} classes: not every distribution over them can be told.",
            evidence=(Evidence("features", features, "1", "exact"), Evidence("classes", classes, "1", "exact")),
            remedy="Take a wider network, or one with a wider head.",
            command=tries.wider,
        )
    told = f"{subject}: {features} features for {classes} classes, exact"
    yield Check(FAILURE, CAPACITY, "found" if few else "healthy", told)


def classifier(program: Program) -> tuple[int, int] | None:
    """Features and classes of the last convolution or product before the scores; None where there is none.

    A kernel that is laid on its map once reads a feature at each of its taps.
    """
    name = program.logits or program.scores
    operation = program.producers.get(name) if name else None
    while operation is not None and operation.kind not in _PRODUCTS:
        source = operation.one("x")
        operation = program.producers.get(source) if isinstance(source, str) else None
    if operation is None:
        return None
    source, classes = operation.one("x"), operation.outputs[0][1].shape
    if not isinstance(source, str):
        return None
    axis = 1 if operation.kind == "conv" else -1
    taps = _taps(program, operation)[1] if operation.kind == "conv" and math.prod(classes[2:]) == 1 else 1
    return program.types[source].shape[axis] * taps, classes[axis]


def _engine(
    program: Program, target: Target, subject: str, trials: tuple[int, ...], tries: Remedies
) -> Iterator[Finding | Check]:
    if target.compute_units not in ("ALL", "CPU_AND_NE"):
        told = f"{subject}: {target.compute_units} leaves the Neural Engine out, as asked"
        yield Check(FAILURE, ENGINE, "healthy", told)
        return
    found = explain(program, target)
    if not runs_on_neural_engine(costs(program)):
        finding: Finding | None = _in_single_precision(program, target, found, subject, trials, tries)
    elif found.unit != "Neural Engine":
        finding = _left(program, target, found, subject, trials, tries)
    else:
        finding = _handed_over(program, target, found, subject, trials, tries)
    if finding is not None:
        yield finding
    told = f"{subject}: operations and precision, as is reported of the Neural Engine"
    yield Check(FAILURE, ENGINE, "found" if finding else "healthy", told)


def _in_single_precision(
    program: Program, target: Target, found: Explanation, subject: str, trials: tuple[int, ...], tries: Remedies
) -> Finding:
    """Against the same operations in fp16 on the Neural Engine, whose bytes are counted as they are: too many."""
    here = _ms(f"latency on the {found.unit}", costs(program), target, found.unit)
    half = [replace(cost, precision="fp16") for cost in costs(program)]
    return _elsewhere(
        subject,
        trials,
        f"The program computes in fp32, which the Neural Engine does not: it runs on the {found.unit}",
        (here, _ms("latency in fp16 on the Neural Engine", half, target, "Neural Engine")),
        "Convert with compute precision fp16, and compare both on the same pictures.",
        tries.half,
    )


def _left(
    program: Program, target: Target, found: Explanation, subject: str, trials: tuple[int, ...], tries: Remedies
) -> Finding:
    """Another unit is faster than going there and back: against an engine that ran all operations."""
    here, names = _ms(f"latency on the {found.unit}", costs(program), target, found.unit), found.handed_over
    kept = [replace(cost, off_engine="") for cost in costs(program)]
    finding = _elsewhere(
        subject,
        trials,
        f"{many(len(names), 'operation')} off the Neural Engine, as is reported: the whole program is taken to run "
        f"on the {found.unit}",
        (here, _ms("latency if the Neural Engine ran them", kept, target, "Neural Engine")),
        _REPLACE,
        tries.look,
    )
    return replace(finding, layers=names[:NAMED])


def _elsewhere(
    subject: str, trials: tuple[int, ...], why: str, times: tuple[Evidence, Evidence], remedy: str, command: str
) -> Finding:
    """Tell of a program that runs on another unit; `times` are those there, and instead on the Neural Engine."""
    here, instead = times
    return Finding(
        failure=FAILURE,
        cause=ENGINE,
        severity=_surely(here, instead),
        subject=subject,
        trials=trials,
        what=f"{why}, ~{here.value:.3g} ms instead of ~{instead.value:.3g} ms.",
        evidence=times,
        remedy=remedy,
        command=command,
    )


def _ms(name: str, rows: Sequence[Cost], target: Target, unit: Unit) -> Evidence:
    value, low, high = unit_milliseconds(rows, target, unit)
    return Evidence(name, value, "ms", "estimated, 80 %", low, high)


def _surely(here: Evidence, instead: Evidence) -> Severity:
    """Slower with both intervals apart, or perhaps."""
    return "warning" if here.low is not None and instead.high is not None and here.low > instead.high else "notice"


def _handed_over(
    program: Program, target: Target, found: Explanation, subject: str, trials: tuple[int, ...], tries: Remedies
) -> Finding | None:
    """The penalty of leaving the engine against the whole estimate, its interval from both; None where it is small."""
    if not found.handed_over:
        return None
    prior, (_, low, high) = priors.FALLBACK, unit_milliseconds(costs(program), target, "Neural Engine")
    rest_low, rest_high = low - prior.low, high - prior.high
    share_low, share_high = prior.low / (prior.low + rest_high), prior.high / (prior.high + rest_low)
    if share_low <= TOLERATED:
        return None
    names, share = found.handed_over, prior.value / found.ms
    return Finding(
        failure=FAILURE,
        cause=ENGINE,
        severity="severe" if share_low > SEVERE else "warning",
        subject=subject,
        trials=trials,
        what=(
            f"{many(len(names), 'operation')} off the Neural Engine, as is reported: that takes ~{prior.value:g} of "
            f"~{found.ms:.3g} ms, at least {100 * share_low:.0f} %."
        ),
        evidence=(
            Evidence("added latency", prior.value, "ms", "estimated, 80 %", prior.low, prior.high),
            Evidence("share of the latency", 100 * share, "%", "estimated, 80 %", 100 * share_low, 100 * share_high),
        ),
        remedy=_REPLACE,
        command=tries.look,
        layers=names[:NAMED],
    )  # fmt: skip
