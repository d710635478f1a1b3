"""Sentences of the guide that depend on what was found."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from coreml_pareto.search.delivery import guide


@pytest.mark.parametrize(
    ("unit", "handed", "said"),
    [
        ("Neural Engine", (), "No operation of the model is reported"),
        ("Neural Engine", ("g (gather): gathering",), "each hands the work over and back"),
        ("CPU", ("g (gather): gathering",), "the whole model is taken to run on the CPU"),
    ],
)
def test_what_becomes_of_operations_off_the_neural_engine(unit: str, handed: tuple[str, ...], said: str) -> None:
    found: Any = SimpleNamespace(explanation=SimpleNamespace(unit=unit, handed_over=handed))
    told = list(guide._off_the_engine(found))
    assert said in repr(told[0]) and len(told) == 1 + bool(handed)
