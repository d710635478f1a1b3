"""How long does a package take where the target is this very machine?  Core ML's own answer, by the one protocol.

For every other target there is no measurement here, and `latency` estimates. Each package has a process of its own, so
that a load which never returns ends one trial and not the study; a Mac that training has made hot cools down first. The
project's own tests run on Linux: there the decision is tested, and the rest with a made-up Core ML.
"""

from __future__ import annotations

from typing import Final

from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.imported import as_measurement
from coreml_pareto.objectives.latency import Measurement
from coreml_pareto.objectives.measuring import worker
from coreml_pareto.objectives.measuring.machine import is_this_machine
from coreml_pareto.objectives.measuring.protocol import Protocol
from coreml_pareto.objectives.program import Program

PATIENCE: Final = 600.0
"""Seconds for one package: 1020 predictions and two loads of anything that a phone could run."""


def own_measurement(program: Program, target: Target) -> Measurement | None:
    """The stopwatch's answer for a saved package; None where the target is not this machine.

    Raises:
        UserError: Core ML does not load or run it, or the machine stays hot or saves power.
    """
    if not is_this_machine(target):
        return None
    record = worker.measure_apart(program.path, target.compute_units, Protocol(), with_energy=False, patience=PATIENCE)
    return as_measurement(record, target)
