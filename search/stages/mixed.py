"""Which form does each layer get under mixed precision?  The bits that a compression may spend, put where they help most.

The options of a layer are `FORMS`, or to stay in fp16; the harm of each is the divergence that it alone causes on
training images (`sensitivity`), and the best combination is `allocate`'s. A probe has no trained weights and no need to
know which layer gets what, only how many bytes they make together: there every bit counts as much in one layer as in
another.

A target of bytes is that of the whole package. What the program's text and the operations that unpack weights take
follows from the choice, so the package is written, weighed, and the budget corrected, at most `PASSES` times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from coreml_pareto.objectives.size import parts
from coreml_pareto.search.stages.allocate import Option, allocate, least_bits
from coreml_pareto.search.stages.compress import Plan, Weights, decided, stored_bits
from coreml_pareto.search.stages.sensitivity import Effect
from coreml_pareto.spaces.candidate import Compression
from coreml_pareto.spaces.compression import parse, spell
from coreml_pareto.spaces.errors import UserError

FORMS = ("palette-1/tensor", "palette-2/tensor", "palette-4/tensor", "palette-6/tensor", "int8/channel")
"""What a layer may be from iOS 16 on, besides fp16."""

NEWER = (
    "palette-3/tensor", "pruning-50+palette-1", "pruning-50+palette-2", "pruning-50+palette-3",
    "int4/block-32/asymmetric", "palette-3/group-{size}", "palette-4/group-{size}", "palette-6/group-{size}",
)  # fmt: skip
"""And from iOS 18 on. Both lists hold what was least harmful at its bits, on the weights themselves, in most layers of a
MobileNetV2 trained on photographs; the others are dominated there."""

PASSES, CLOSE = 8, 0.995
"""How often a package is written to meet a target of bytes, and the share of it that is close enough."""


def forms_for(compression: Compression) -> tuple[Compression, ...]:
    """What a layer may be under this mixed precision, besides fp16."""
    texts = FORMS if compression.granularity == "tensor" else (*FORMS, *NEWER)
    return tuple(parse(text.format(size=compression.group_size)) for text in texts)


def measured_options(weights: Weights, effects: Iterable[Effect]) -> dict[str, list[Option]]:
    """Each layer's options with the divergence that was measured."""
    found = _untouched(weights)
    for effect in effects:
        bits = effect.bits * weights[effect.layer].size
        found[effect.layer].append(Option(effect.applied, bits, effect.divergence))
    return found


def assumed_options(weights: Weights, compression: Compression) -> dict[str, list[Option]]:
    """Each layer's options where all are equally sensitive: an error falls by 6 dB with each bit."""
    found = _untouched(weights)
    for form in forms_for(compression):
        for layer in decided(weights, form):
            if layer.applied:
                bits = stored_bits(layer.shape, parse(layer.applied))
                found[layer.name].append(Option(layer.applied, bits, 4 ** (-bits / math.prod(layer.shape))))
    return found


def write_within(
    compression: Compression,
    weights: Weights,
    options: Mapping[str, list[Option]],
    source: Path,
    write: Callable[[Plan], Path],
) -> None:
    """Write a package with the best choice within the compression's budget.

    Args:
        options: of each of the weights.
        source: the fp16 package that they are of.
        write: writes (again) under a plan, and returns the package.

    Raises:
        UserError: not even the smallest forms are within the budget.
    """
    if compression.average_bits:
        elements, least = sum(weight.size for weight in weights.values()), least_bits(options)
        if least > compression.average_bits * elements:
            raise _too_small(compression, f"{least / elements:.2f} bits per weight")
        write(_plan(allocate(options, compression.average_bits * elements)))
        return
    _write_within_bytes(compression, weights, options, source, write)


def _write_within_bytes(
    compression: Compression,
    weights: Weights,
    options: Mapping[str, list[Option]],
    source: Path,
    write: Callable[[Plan], Path],
) -> None:
    target, plans = compression.target_bytes, dict[int, Plan]()
    others = parts(source).total - sum(weight.nbytes for weight in weights.values())
    budget = 8.0 * (target - others)
    for _ in range(PASSES):
        chosen = allocate(options, max(budget, least_bits(options)))
        size = parts(write(_plan(chosen))).total
        seen = size in plans
        plans[size] = _plan(chosen)
        if seen or CLOSE * target <= size <= target:
            break
        spent = sum(option.bits for option in chosen.values())
        budget = spent + 8 * (target - size) - (1 if size > target else 0)
    if min(plans) > target:
        smallest = _plan(allocate(options, least_bits(options)))
        size = parts(write(smallest)).total
        plans[size] = smallest
    fitting = [known for known in plans if known <= target]
    if not fitting:
        raise _too_small(compression, f"{min(plans):,} bytes")
    if size != max(fitting):
        write(plans[max(fitting)])


def _plan(chosen: Mapping[str, Option]) -> Plan:
    return {name: parse(option.form) for name, option in chosen.items() if option.form}


def _too_small(compression: Compression, least: str) -> UserError:
    return UserError(
        f"{spell(compression)} must leave room for the smallest forms of all layers; in this network they make {least}: "
        "raise the target, or leave it out."
    )


def _untouched(weights: Weights) -> dict[str, list[Option]]:
    return {name: [Option(None, 8 * weight.nbytes, 0.0)] for name, weight in weights.items()}
