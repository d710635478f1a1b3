"""A stand-in for the native part of coremltools, which exists on macOS only: `_MLModelProxy`, answered by our executor.

Everything above it is coremltools' own Python code, so what the tests call has the installed signatures. The stand-in
fails where it is told to, as Core ML does: with RuntimeErrors at loads and predictions, a silent clock, a plan that says
nothing. `install` also pretends that this is a Mac.
"""

from __future__ import annotations

import itertools
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from coreml_pareto.objectives.measuring import machine, records
from coreml_pareto.objectives.program import Executor, ImageInput, load
from coreml_pareto.objectives.program.quiet import coremltools

AIR_M2 = {"machine_name": "MacBook Air", "machine_model": "Mac14,2", "chip_type": "Apple M2"}


@dataclass
class Behaviour:
    """What Core ML is to do; by default it works, on a steady clock of 2 ms."""

    refused_units: set[str] = field(default_factory=set)
    stalled_units: set[str] = field(default_factory=set)  # a load on these never returns
    refused_outputs: set[str] = field(default_factory=set)  # a package that lets one of these out does not load
    failing: Iterator[bool] = field(default_factory=lambda: itertools.repeat(False))  # prediction by prediction
    clock: Iterator[int | None] = field(default_factory=lambda: itertools.repeat(2_000_000))  # nanoseconds
    wrong: dict[str, str] = field(default_factory=dict)  # by units, the weight that is read as twice its value
    broken: set[str] = field(default_factory=set)  # units that answer NaN
    plan: bool = True
    loads: list[str] = field(default_factory=list)
    predictions: int = 0


def proxy_class(behaviour: Behaviour) -> type:
    """A `_MLModelProxy` that behaves so."""

    class Proxy:
        def __init__(self, path: str, units: str, function: str, hints: dict[str, str], asset: None) -> None:
            behaviour.loads.append(f"{Path(path).suffix} {units}")
            self.program, self.units, self.last = load(Path(path)), units, None
            if units in behaviour.stalled_units:
                time.sleep(600)
            if units in behaviour.refused_units or behaviour.refused_outputs & set(self.program.output):
                raise RuntimeError('Error compiling model: "Failed to build the model execution plan",\n code -14')
            self.executor, self.path = Executor(self.program), path

        @staticmethod
        def maximum_supported_specification_version() -> int:
            return 10

        @staticmethod
        def compileModel(path: str) -> str:
            compiled = Path(tempfile.mkdtemp()) / "model.mlmodelc"
            shutil.copytree(path, compiled)
            return str(compiled)

        def get_compiled_model_path(self) -> str:
            return self.path

        def get_last_predict_duration_in_nano_seconds(self) -> int | None:
            return self.last

        def predict(self, data: dict[str, Any], state: None) -> dict[str, Any]:
            behaviour.predictions += 1
            self.last = next(behaviour.clock)
            if next(behaviour.failing):
                raise RuntimeError("Error computing NN outputs.")
            value = data[self.program.input.name]
            image = isinstance(self.program.input, ImageInput)
            inputs = np.array(value.convert("RGB"))[None] if image else np.array(value)
            return {name: self._said(name, inputs) for name in self.program.output}

        def _said(self, name: str, inputs: Any) -> Any:
            answer = self._computed(name, inputs)[0].numpy()
            answer = (
                np.full_like(answer, np.nan) if self.units in behaviour.broken and answer.dtype.kind == "f" else answer
            )
            labels, kind = self.program.labels, self.program.types[name].dtype
            if labels is not None and kind == "dictionary":
                return dict(zip(labels, answer.tolist(), strict=True))
            return labels[int(answer)] if labels is not None and kind == "string" else answer[None]

        def _computed(self, name: str, inputs: Any) -> Any:
            weight = behaviour.wrong.get(self.units)
            if weight is None:
                return self.executor.run(inputs)[name]
            twice = 2 * self.program.constants[weight].value
            return next(self.executor.vary(inputs, [(weight, twice)], name))

        @staticmethod
        def get_compute_plan(path: str, units: str) -> Any:
            if not behaviour.plan:
                raise RuntimeError("MLComputePlan is not supported")
            return Plan(Path(path), units)

    return Proxy


class Plan:
    """`MLComputePlan` for a program: everything on the Neural Engine but softmax; of `classify` it knows nothing."""

    def __init__(self, path: Path, units: str) -> None:
        plans = coremltools.models.compute_plan
        operations = [_operation("const", "weight")]
        operations += [_operation(f"ios17.{one.kind}", one.outputs[0][0]) for one in load(path).operations]
        block = plans.MLModelStructureProgramBlock(inputs=[], operations=operations, output_names=[])
        main = plans.MLModelStructureProgramFunction(inputs=[], block=block)
        program = plans.MLModelStructureProgram(functions={"main": main})
        self.model_structure = plans.MLModelStructure(neuralnetwork=None, program=program, pipeline=None)

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        if operation.operator_name.endswith(("const", "classify")):
            return None
        devices = coremltools.models.compute_device
        engine, cpu = (
            object.__new__(kind) for kind in (devices.MLNeuralEngineComputeDevice, devices.MLCPUComputeDevice)
        )
        softmax = operation.operator_name.endswith("softmax")
        return coremltools.models.compute_plan.MLComputePlanDeviceUsage(
            preferred_compute_device=cpu if softmax else engine,
            supported_compute_devices=[cpu] if softmax else [engine, cpu],
        )

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        weight = coremltools.models.compute_plan.MLComputePlanCost(weight=0.25)
        return weight if operation.operator_name.endswith("conv") else None


def _operation(kind: str, value: str) -> Any:
    return coremltools.models.compute_plan.MLModelStructureProgramOperation(
        inputs={}, operator_name=kind, outputs=[SimpleNamespace(name=value)], blocks=[], __proxy__=None
    )


def install(behaviour: Behaviour, replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Put the stand-in where coremltools looks for the native part."""
    proxy, native, models = proxy_class(behaviour), ModuleType("coremltools.libcoremlpython"), coremltools.models
    native._MLModelProxy = proxy  # type: ignore[attr-defined]
    sys.modules[native.__name__] = native
    for module in (models.model, models._compiled_model, models.compute_plan):
        replace(module, "_MLModelProxy", proxy)
    for module in (models.utils, models._compiled_model, models.model):
        replace(module, "_macos_version", lambda: (15, 0))
    replace(platform, "system", lambda: "Darwin")
    replace(platform, "mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    for module in (machine, records):
        replace(module, "hardware", lambda: AIR_M2)
    replace(records, "build", lambda: "24B83")
