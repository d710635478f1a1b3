"""Effort: what adds up, and what the table of trainings says about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coreml_pareto.search.effort import EXPONENT, PACKAGING, effort

TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "trainings_table.json"


def test_effort_adds_up() -> None:
    assert effort(0, 1e6) == PACKAGING
    assert effort(1000, 1e6) - PACKAGING == pytest.approx(1000 * 1e6**EXPONENT)
    taught = effort(1000, 1e6, 2e7)
    assert taught > effort(1000, 1e6)
    assert effort(1000, 1e6, 2e7, 5000) > taught


def test_on_the_table_of_trainings_effort_follows_the_seconds() -> None:
    """Of 80 real trainings the logs of effort and of seconds correlate by 0.89 (backbones differ by a factor)."""
    content = json.loads(TABLE.read_text())
    teacher = content["conditions"]["teacher_macs"]
    efforts, seconds = [], []
    for row in content["rows"]:
        macs = row["packages"]["fp16"]["macs"]
        efforts.append(effort(1257 * row["epochs"], macs, teacher if row["teacher"] else 0.0))
        seconds.append(sum(row["seconds"].values()))
    assert np.corrcoef(np.log(efforts), np.log(seconds))[0, 1] > 0.85
