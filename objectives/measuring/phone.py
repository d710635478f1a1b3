"""What does a package take on an iPhone at the cable of this Mac?  coremltools' remote device, as far as 9.0 carries.

`coremltools.models.ml_program.experimental`: `remote_device.Device.get_connected_devices(DeviceType.IPHONE)`,
`prepare_for_model_debugging(AppSigningCredentials(development_team=...))`, which builds and installs Apple's ModelRunner
app with Xcode, and `perf_utils.MLModelBenchmarker`. Durations are taken on the phone, around Core ML's own calls.

Its limits in 9.0, read in its source: no images (so a twin of the package with the tensor behind the image is measured,
its scores instead of labels), no predictions back to back (files go to and fro in between: the Neural Engine goes cold,
and medians come out too high, most for small networks), a load is given up after 20 questions of half a second, and the
compiled model never lies at one path, so that a second load specialises again and is not read. The phone gives its own
name and system, not its model: that has to be told. None of this has met a phone in this project.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from coreml_pareto.objectives.devices.catalogue import Device
from coreml_pareto.objectives.devices.measurements import Details, Record
from coreml_pareto.objectives.measuring import records
from coreml_pareto.objectives.measuring.local import OTHER_WAYS
from coreml_pareto.objectives.measuring.protocol import statistics
from coreml_pareto.objectives.program import Program, content_digest, load
from coreml_pareto.objectives.program.twin import as_tensors
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.objectives.devices.catalogue import ComputeUnits

HARNESS: Final = "coreml-pareto measure 1, iPhone at the cable, predictions seconds apart"
"""This stopwatch: coremltools' remote device, on a twin of the package with tensors for images and labels."""
PREDICTIONS: Final = 30
"""So many unless told otherwise."""
_COLD: Final = (
    "predictions were seconds apart: the Neural Engine goes cold between them, and the median comes out too high"
)


def measure(path: Path, compute_units: str, device: Device, team: str, predictions: int = PREDICTIONS) -> Record:
    """The record of one package on the connected iPhone, which is a `device`; `team` signs the app.

    Nothing in here has an end of its own but a load and a prediction: `worker.measure_on_phone` gives it one.

    Raises:
        UserError: no phone, or more than one; whatever Xcode, devicectl or Core ML refuse.
    """
    program = load(path)
    with tempfile.TemporaryDirectory() as folder:
        twin = as_tensors(program, Path(folder) / "twin.mlpackage")
        try:
            found = asyncio.run(_measured(program, twin, compute_units, team, predictions))
        except UserError:
            raise
        except Exception as error:  # ValueError, and private errors of devicectl, of the build and of the transfer
            raise UserError(
                f"coremltools could not measure {path.name} on the iPhone: {_words(error)}; check cable, trust, "
                f"developer mode and --team; {OTHER_WAYS}"
            ) from error
    return Record(
        digest=content_digest(program),
        device=device.identifier or device.name,
        harness=HARNESS,
        compute_units=cast("ComputeUnits", compute_units),
        **found,
        load2_ms=None,
        rounds=1,
        predictions_per_round=predictions,
        back_to_back=False,
        warm_up=1,
        thermal=None,
        low_power=None,
        measured_at=records.now(),
        details=Details(warnings=(_COLD,), tools=records.tool_versions()),
    )


async def _measured(program: Program, twin: Path, compute_units: str, team: str, predictions: int) -> dict[str, Any]:
    from coreml_pareto.objectives.program.quiet import coremltools, quiet

    with quiet():
        from coremltools.models.ml_program.experimental import perf_utils, remote_device

        phone = _only(remote_device.Device.get_connected_devices(remote_device.DeviceType.IPHONE))
        credentials = remote_device.AppSigningCredentials(development_team=team)
        phone = await phone.prepare_for_model_debugging(credentials=credentials)
        units = getattr(coremltools.ComputeUnit, compute_units)
        model = coremltools.models.MLModel(str(twin), compute_units=units, skip_model_load=True)
        benchmarker = perf_utils.MLModelBenchmarker(model, device=phone)
        loads = await benchmarker.benchmark_load(iterations=1)
        # Pixels, as the package will see them; the benchmarker's own random inputs lie in 0..1.
        inputs = {program.input.name: _tensor(program)}
        times = await benchmarker.benchmark_predict(inputs=inputs, iterations=predictions, warmup=True)
    return {
        "os": phone.os_version,
        "os_build": phone.os_build_number,
        **statistics(times.samples),
        "load1_ms": float(loads.samples[0]),
    }


def _words(error: Exception) -> str:
    """9.0 reads the error of an answer that never came, after it has asked 20 times."""
    if isinstance(error, AttributeError) and "'NoneType'" in str(error):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__


def _only(phones: list[Any]) -> Any:
    if len(phones) != 1:
        raise UserError(
            f"one connected iPhone is measured at a time; {len(phones)} are; connect one by cable, unlock it, trust this Mac "
            f"and switch its developer mode on; {OTHER_WAYS}"
        )
    return phones[0]


def _tensor(program: Program) -> Any:
    """Random values in the form of the tensor behind the image."""
    import numpy as np

    shape = program.types[program.input.name].shape
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
