"""How does one measurement keep out of the next one's way?  A process for each, which can be stopped.

A fresh process makes the peak of memory the package's own, and a load or prediction that never returns is ended after a
while: no thread of ours could interrupt native code. The record comes back in a file, because Core ML and coremltools
print what they like.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coreml_pareto.objectives.devices.measurements import Record
from coreml_pareto.objectives.measuring.conditions import cool_down
from coreml_pareto.objectives.measuring.protocol import Protocol
from coreml_pareto.spaces.errors import UserError

COMMAND: tuple[str, ...] = (sys.executable, "-m", "coreml_pareto.objectives.measuring.worker")


def measure_apart(
    package: Path, compute_units: str, protocol: Protocol, *, with_energy: bool, patience: float
) -> Record:
    """`local.measure` in a process of its own, once this device is cool.

    Raises:
        UserError: what the process refused, that it died, or that it did not end in `patience` seconds.
    """
    cool_down()
    order = {"package": str(package), "compute_units": compute_units, "with_energy": with_energy}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        order |= {"protocol": asdict(protocol), "answer": str(answer)}
        _run(order, f"{package.name} on {compute_units}", patience)
        return _read(answer, f"{package.name} on {compute_units}")


def _run(order: dict[str, Any], what: str, patience: float) -> None:
    try:
        done = subprocess.run(
            [*COMMAND, json.dumps(order)], stdin=subprocess.DEVNULL, capture_output=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"a measurement ends within {patience:g} s; {what} gave no answer and was stopped; raise --patience, or leave "
            "these compute units out"
        ) from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no word of why"]
        raise UserError(f"a measurement ends with a record; {what} ended with code {done.returncode}: {last[0]}")


def _read(answer: Path, what: str) -> Record:
    try:
        found = json.loads(answer.read_text(encoding="utf-8"))
        if "refused" not in found:
            return Record.model_validate(found)
    except (OSError, ValueError) as error:  # what pydantic refuses is a ValueError
        told = " ".join(str(error).split())
        raise UserError(f"a measurement ends with a record; {what} left none that can be read ({told})") from error
    raise UserError(found["refused"])


def main(arguments: Sequence[str]) -> None:
    """What the process does: one order as JSON in, one record or refusal in the file that the order names."""
    from coreml_pareto.objectives.measuring.local import measure

    order = json.loads(arguments[0])
    protocol = Protocol(**order["protocol"])
    try:
        found = measure(Path(order["package"]), order["compute_units"], protocol, with_energy=order["with_energy"])
        text = found.model_dump_json()
    except UserError as error:
        text = json.dumps({"refused": str(error)})
    Path(order["answer"]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
