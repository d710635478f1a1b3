"""A process for each measurement: what comes back, and what happens to one that hangs, dies or leaves nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_pareto.objectives.devices.measurements import Record
from coreml_pareto.objectives.measuring import worker
from coreml_pareto.objectives.measuring.agreement import compare, expected
from coreml_pareto.objectives.measuring.protocol import Protocol
from coreml_pareto.objectives.program import Constant, load
from coreml_pareto.spaces.errors import UserError


def _measure(package: Path, units: str = "ALL", patience: float = 120) -> Record:
    return worker.measure_apart(package, units, Protocol(), with_energy=False, patience=patience)


def _process(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(worker, "COMMAND", (sys.executable, "-c", script))


def test_a_record_and_a_refusal_come_back(packages: dict[str, Path], core_ml_apart: Callable[..., None]) -> None:
    core_ml_apart(refused_units={"CPU_AND_NE"}, stalled_units={"CPU_AND_GPU"})
    found = _measure(packages["fp16"])
    assert found.rounds * found.predictions_per_round == 1000 and found.target.device.soc == "M2"
    with pytest.raises(UserError, match="Core ML must load a package before it runs"):
        _measure(packages["fp16"], "CPU_AND_NE")
    with pytest.raises(UserError, match=r"within 25 s; fp16\.mlpackage on CPU_AND_GPU gave no answer and was stopped"):
        _measure(packages["fp16"], "CPU_AND_GPU", patience=25)  # a load that stalls


def test_a_comparison_comes_back_as_it_was_made(
    packages: dict[str, Path], images: np.ndarray[Any, Any], core_ml: Any, core_ml_apart: Callable[..., None]
) -> None:
    """The same as without a process, what differs included; a weight is read as twice its value."""
    program = load(packages["fp16"])
    weight = next(one for one in program.operations if one.kind == "conv").one("weight")
    assert isinstance(weight, Constant)
    core_ml.wrong = {"ALL": weight.name}
    core_ml_apart(wrong=core_ml.wrong, refused_units={"CPU_AND_NE"})
    reference = expected(program, images[:4], np.arange(4))
    apart = worker.compare_apart(program.path, reference, "ALL", 30.0, patience=120)
    assert apart == compare(program, reference, "ALL", 30.0) and apart.first is not None
    with pytest.raises(UserError, match="Core ML must load a package before it runs"):
        worker.compare_apart(program.path, reference, "CPU_AND_NE", 30.0, patience=120)


def test_one_that_hangs_is_stopped(packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _process(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(UserError, match=r"within 0\.5 s; fp16\.mlpackage on ALL gave no answer and was stopped"):
        _measure(packages["fp16"], patience=0.5)


def test_one_that_dies(packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _process(monkeypatch, "import sys; print('first\\nlast words', file=sys.stderr); sys.exit(7)")
    with pytest.raises(UserError, match="ended with code 7: last words"):
        _measure(packages["fp16"])


@pytest.mark.parametrize("text", ["", "{", "not JSON", "{}"])
def test_one_that_leaves_nothing_readable(
    packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    write = f"import json, pathlib, sys; pathlib.Path(json.loads(sys.argv[1])['answer']).write_text({text!r})"
    _process(monkeypatch, write)
    with pytest.raises(UserError, match="left none that can be read"):
        _measure(packages["fp16"])
