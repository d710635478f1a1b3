"""Which unit does Core ML prefer for each operation?  `MLComputePlan`, macOS 14.4 and newer.

From `coremltools.models.compute_plan` 9.0: the plan of a compiled model for given compute units, the preferred and
possible devices of every operation of `main`, and its share of the whole work as Core ML estimates it. The plan is what
Core ML intends before it runs; for constants, and now and then for others, it says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

UNKNOWN = "unknown"
_UNITS = {
    "MLCPUComputeDevice": "CPU",
    "MLGPUComputeDevice": "GPU",
    "MLNeuralEngineComputeDevice": "Neural Engine",
}


@dataclass(frozen=True)
class Placed:
    """One operation: the value it computes, the unit that Core ML prefers, those that could, its share of the work."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    value: str
    kind: str
    preferred: str
    supported: tuple[str, ...]
    share: float | None


def placement(compiled: str, compute_units: str) -> tuple[Placed, ...]:
    """Every operation of a compiled model (.mlmodelc) but constants, in order; empty where the plan has no program.

    Raises:
        Exception: whatever coremltools does, on systems without plans.
    """
    from coreml_pareto.objectives.program.quiet import coremltools

    plans, units = coremltools.models.compute_plan.MLComputePlan, getattr(coremltools.ComputeUnit, compute_units)
    return placed(plans.load_from_path(path=compiled, compute_units=units))


def placed(plan: Any) -> tuple[Placed, ...]:
    """What a plan says of each operation."""
    program = plan.model_structure.program
    if program is None:
        return ()
    operations = program.functions["main"].block.operations
    return tuple(_placed(plan, operation) for operation in operations if not _constant(operation))


def counts(operations: Sequence[Placed]) -> dict[str, int]:
    """Operations by preferred unit."""
    return dict(Counter(operation.preferred for operation in operations).most_common())


def _placed(plan: Any, operation: Any) -> Placed:
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
    cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
    return Placed(
        value=operation.outputs[0].name if operation.outputs else "",
        kind=_kind(operation),
        preferred=UNKNOWN if usage is None else _unit(usage.preferred_compute_device),
        supported=() if usage is None else tuple(_unit(device) for device in usage.supported_compute_devices),
        share=None if cost is None else float(cost.weight),
    )


def _kind(operation: Any) -> str:
    return str(operation.operator_name).rsplit(".", 1)[-1]  # "ios17.conv"


def _constant(operation: Any) -> bool:
    return _kind(operation) == "const" or _kind(operation).startswith("constexpr_")


def _unit(device: Any) -> str:
    name = type(device).__name__
    return _UNITS.get(name, UNKNOWN if device is None else name)
