"""How much memory does one inference need at its peak, above the runtime's own base?

    peak = r_w W + kappa L + IO                                                     (bytes)

W: weights as the system keeps them. From iOS 17 on the Neural Engine reads compressed weights as stored, and the GPU
block-wise int4 from iOS 18 (Apple, Core ML Tools guide, opt-overview); before that and elsewhere they are expanded to
the compute precision when the model is loaded, as Apple's guide documents for iOS 16. L: liveness of the activations
(`program.liveness`). IO: a BGRA picture, its fp16 tensor (or the tensor input) and the outputs.

    value   r_w = 1, kappa = 1, L = liveness peak
    low     r_w = 1, kappa = 1, L = liveness peak with element-wise operations in place; IO is the picture alone, because
            the tensors of input and output are part of L already
    high    r_w = 2 (a copy while the model is specialised), kappa = 2 (padding), L = max(peak, half of all activations)

Which planner the Neural Engine's compiler uses is not public, and no footprint of a small classifier is published, so
the ends are bounds by argument, not quantiles. The runtime's base (unknown, the same for every package) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.priors import Unit
from coreml_pareto.objectives.program import ImageInput, Liveness, Program, TensorInput, Weight, liveness
from coreml_pareto.objectives.reading import Reading


def memory(
    program: Program,
    target: Target,
    unit: Unit,
    weights: Sequence[Weight] | None = None,
    live: Liveness | None = None,
) -> dict[str, Reading]:
    """`memory_bytes` of a program on the unit that runs it.

    Args:
        program: gives the activations, input and output.
        target: the device and its system.
        unit: where the program runs.
        weights: as they would be stored, where that is not as the program stores them.
        live: the program's liveness, where it is known already.
    """
    stored = program.weights if weights is None else weights
    kept = sum(kept_bytes(weight, program.precision, target.os, unit) for weight in stored)
    live, io = live or liveness(program), input_output_bytes(program)
    conditions = target.conditions | {
        "above": "the runtime's own base",
        "weights": "as stored" if kept == stored_bytes(stored) else f"expanded where the {unit} does not stream them",
        "method": "weights + liveness peak + input and output; bounds by argument, none published to compare with",
    }
    low = kept + live.fused_peak_bytes + picture_bytes(program)
    value = kept + live.peak_bytes + io
    high = 2 * kept + 2 * max(live.peak_bytes, live.naive_bytes // 2) + io
    return {"memory_bytes": Reading(value, "B", low, high, "estimated", conditions)}


def kept_bytes(weight: Weight, precision: str, os: int, unit: Unit) -> int:
    """Bytes that one weight occupies while the model is loaded: as stored, or expanded to the compute precision."""
    if streams(weight.scheme, os, unit):
        return weight.stored_bytes
    return max(weight.stored_bytes, weight.elements * (4 if precision == "fp32" else 2))


def streams(scheme: str, os: int, unit: Unit) -> bool:
    """Whether a unit reads this storage form as it is."""
    if unit == "Neural Engine":
        return os >= 17
    return unit == "GPU" and os >= 18 and scheme == "int4"


def stored_bytes(weights: Sequence[Weight]) -> int:
    """All weights as stored."""
    return sum(weight.stored_bytes for weight in weights)


def input_output_bytes(program: Program) -> int:
    """Pictures as BGRA and as fp16 tensor, or tensor inputs; probabilities and other outputs."""
    read = sum(map(_input_bytes, program.inputs))
    outputs = {*program.output, *((program.probabilities,) if program.probabilities else ())}
    return read + sum(program.types[name].nbytes for name in outputs if name in program.types)


def _input_bytes(feature: ImageInput | TensorInput) -> int:
    if not isinstance(feature, ImageInput):
        return feature.type.nbytes
    channels = 1 if feature.color_layout.startswith("GRAYSCALE") else 3
    return (4 + 2 * channels) * feature.width * feature.height


def picture_bytes(program: Program) -> int:
    """The pictures as they come, BGRA; nothing where the program takes tensors."""
    return sum(4 * feature.width * feature.height for feature in program.inputs if isinstance(feature, ImageInput))
