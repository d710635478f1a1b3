"""The short night: `benchmarks/night.py` with six kills, half of them of the process group, on a study of seconds."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STUDY = """
name: night
data: {data}
splits: {{limit: 150}}
networks: {{backbones: [squeezenet1_1], width: [0.25], resolution: [32], pretrained: false}}
compression: [fp16, int8/channel]
training: {{epochs: [4], batch_size: 32, device: cpu}}
search: {{trials: 3, seed: 1, gate: false}}
"""


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    yield importlib.import_module("night")
    for name in ("night", "nursery", "record"):
        sys.modules.pop(name, None)


@pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")
def test_a_search_killed_at_random_instants_ends_as_one_that_nothing_disturbs(night: Any, tmp_path: Path) -> None:
    with night.Nursery() as nursery:
        bench = night.Bench.prepare(tmp_path, nursery, STUDY)
        assert len(bench.reference) == 3 and not bench.faults(tmp_path / "reference", done=True)
        found = night.killed(bench, kills=6, seed=0)
        assert found["faults"] == [] and found["kills"] == 6 and found["kills of a group"] >= 2

        # The judges see what is wrong: a record that is another, and a package of which a byte is gone.
        other = bench.reference.pop()
        assert bench.faults(tmp_path / "reference", done=True) == ["ended with 3 trials, the reference with 2"]
        bench.reference.append((*other[:3], {}))
        (fault,) = bench.faults(tmp_path / "reference", done=True)
        assert fault.startswith("trial 2 of the record is another")
        weights = next((tmp_path / "reference" / "store" / "package").rglob("weight.bin"))
        weights.write_bytes(weights.read_bytes()[:-1])
        assert any("weight.bin has" in fault for fault in night.broken(tmp_path / "reference"))
