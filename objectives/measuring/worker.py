"""How does one run of Core ML keep out of everybody's way?  A process for each, which can be stopped.

A fresh process makes the peak of memory the package's own, and a load or prediction that never returns is ended after a
while: no thread of ours could interrupt native code. The answer comes back in a file, because Core ML and coremltools
print what they like.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
from pydantic import TypeAdapter

from coreml_pareto.objectives.devices.catalogue import Device, find_device
from coreml_pareto.objectives.devices.measurements import Record
from coreml_pareto.objectives.measuring.agreement import Agreement, Expected, compare
from coreml_pareto.objectives.measuring.conditions import cool_down
from coreml_pareto.objectives.measuring.protocol import Protocol
from coreml_pareto.objectives.program import load
from coreml_pareto.spaces.errors import UserError

_FEWER_UNITS: Final = "raise --patience, or leave these compute units out"
COMMAND: tuple[str, ...] = (sys.executable, "-m", "coreml_pareto.objectives.measuring.worker")
Task = Literal["measurement", "measurement on the iPhone", "comparison"]
_WAYS_OUT: Final[Mapping[Task, str]] = {
    "measurement": _FEWER_UNITS,
    "measurement on the iPhone": f"unlock the phone, put its cable in anew and try again; or {_FEWER_UNITS}",
    "comparison": _FEWER_UNITS,
}
Answer = TypeVar("Answer", Record, Agreement)


def measure_apart(
    package: Path, compute_units: str, protocol: Protocol, *, with_energy: bool, patience: float
) -> Record:
    """`local.measure` in a process of its own, once this device is cool.

    Raises:
        UserError: what the process refused, that it died, or that it did not end in `patience` seconds.
    """
    cool_down()
    order = {"protocol": asdict(protocol), "with_energy": with_energy}
    with tempfile.TemporaryDirectory() as folder:
        return _apart("measurement", package, compute_units, order, Path(folder), patience, Record)


def measure_on_phone(
    package: Path, compute_units: str, device: Device, team: str, *, predictions: int, patience: float
) -> Record:
    """`phone.measure` in a process of its own: Xcode, the cable and the phone may each stall without an end.

    Raises:
        UserError: as `measure_apart`.
    """
    order = {"device": device.name, "team": team, "predictions": predictions}
    with tempfile.TemporaryDirectory() as folder:
        return _apart("measurement on the iPhone", package, compute_units, order, Path(folder), patience, Record)


def compare_apart(
    package: Path, reference: Expected, compute_units: str, least_db: float, *, patience: float
) -> Agreement:
    """`agreement.compare` in a process of its own; the errors are those of `measure_apart`."""
    with tempfile.TemporaryDirectory() as folder:
        expected = Path(folder) / "expected.npz"
        np.savez(expected, **vars(reference))
        order = {"expected": str(expected), "least_db": least_db}
        return _apart("comparison", package, compute_units, order, Path(folder), patience, Agreement)


def _apart(
    task: Task,
    package: Path,
    compute_units: str,
    order: Mapping[str, Any],
    folder: Path,
    patience: float,
    kind: type[Answer],
) -> Answer:
    what, answer = f"{package.name} on {compute_units}", folder / "answer.json"
    place = {"task": task, "package": str(package), "compute_units": compute_units, "answer": str(answer)}
    _run({**order, **place}, task, what, patience)
    return _read(answer, task, what, kind)


def _run(order: Mapping[str, Any], task: Task, what: str, patience: float) -> None:
    try:
        code, words = _ended([*COMMAND, json.dumps(order)], patience, with_others=task == "measurement on the iPhone")
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"a {task} ends within {patience:g} s; {what} gave no answer and was stopped; {_WAYS_OUT[task]}"
        ) from error
    if code:
        last = words.decode(errors="replace").strip().splitlines()[-1:] or ["no word of why"]
        raise UserError(f"a {task} ends with a record; {what} ended with code {code}: {last[0]}")


def _ended(command: Sequence[str], patience: float, *, with_others: bool) -> tuple[int, bytes]:
    """Exit code, and what was said on the standard error; TimeoutExpired once the process is ended.

    `with_others`: what it started is ended, too, as xcodebuild and devicectl would otherwise go on and hold the phone. Not
    on the Mac itself: `sudo -n` is the terminal's, and a group of its own stands in that terminal's background.
    """
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        process_group=0 if with_others else None,
    ) as process:  # fmt: skip
        try:
            _, words = process.communicate(timeout=patience)
        except BaseException:  # an interrupt of the user's, too
            if with_others:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            raise
    return process.returncode, words


def _read(answer: Path, task: Task, what: str, kind: type[Answer]) -> Answer:
    try:
        found = json.loads(answer.read_text(encoding="utf-8"))
        if "refused" not in found:
            return TypeAdapter(kind).validate_python(found)
    except (OSError, ValueError) as error:  # what pydantic refuses is a ValueError
        told = " ".join(str(error).split())
        raise UserError(f"a {task} ends with a record; {what} left none that can be read ({told})") from error
    raise UserError(found["refused"])


def main(arguments: Sequence[str]) -> None:
    """What the process does: one order as JSON in, one answer or refusal in the file that the order names."""
    order = json.loads(arguments[0])
    try:
        text = _TASKS[order["task"]](order)
    except UserError as error:
        text = json.dumps({"refused": str(error)})
    Path(order["answer"]).write_text(text, encoding="utf-8")


def _measured(order: Mapping[str, Any]) -> str:
    from coreml_pareto.objectives.measuring.local import measure

    protocol = Protocol(**order["protocol"])
    found = measure(Path(order["package"]), order["compute_units"], protocol, with_energy=order["with_energy"])
    return found.model_dump_json()


def _measured_on_phone(order: Mapping[str, Any]) -> str:
    from coreml_pareto.objectives.measuring import phone

    device = find_device(order["device"])
    found = phone.measure(Path(order["package"]), order["compute_units"], device, order["team"], order["predictions"])
    return found.model_dump_json()


def _compared(order: Mapping[str, Any]) -> str:
    with np.load(order["expected"]) as arrays:
        reference = Expected(**arrays)
    found = compare(load(Path(order["package"])), reference, order["compute_units"], order["least_db"])
    return json.dumps(asdict(found))


_TASKS: Mapping[Task, Callable[[Mapping[str, Any]], str]] = {
    "measurement": _measured,
    "measurement on the iPhone": _measured_on_phone,
    "comparison": _compared,
}


if __name__ == "__main__":
    main(sys.argv[1:])
