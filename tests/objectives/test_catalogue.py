"""The contract of an objective, for every row of the table; a new row is tested without an edit here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective, Subject, select
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.reading import losses, score_from_dict, score_to_dict, violation
from coreml_pareto.spaces.errors import UserError

rows = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=lambda row: row.name)
FLAGS = {
    "accuracy": "min-top1",
    "latency": "max-latency",
    "size": "max-size",
    "memory": "max-memory",
    "energy": "max-energy",
}


@pytest.fixture
def subject(packages: dict[str, Path], images, target) -> Subject:  # type: ignore[no-untyped-def]
    return Subject(load(packages["int8"]), target(), [(images, np.arange(len(images)) % 7)])


@rows
def test_reads_its_primary_reading_in_its_unit(objective: Objective, subject: Subject) -> None:
    score = objective.read(subject)
    assert score[objective.reading].unit == objective.unit
    assert score[objective.reading].value > 0 or objective.needs_data
    assert all(reading.low <= reading.value <= reading.high for reading in score.values())
    assert score_from_dict(score_to_dict(score)) == score


@rows
def test_reads_the_same_twice_and_only_its_own(objective: Objective, subject: Subject) -> None:
    assert objective.read(subject) == objective.read(subject)
    others = {other.reading for other in OBJECTIVES.values()} - {objective.reading}
    assert not others & set(objective.read(subject))


@rows
def test_data_are_needed_exactly_where_the_row_says_so(objective: Objective, subject: Subject) -> None:
    without = Subject(subject.program, subject.target)
    if objective.needs_data:
        with pytest.raises(UserError, match="needs labelled images"):
            objective.read(without)
    else:
        assert objective.read(without) == objective.read(subject)


@rows
def test_limit_and_direction_agree(objective: Objective, subject: Subject) -> None:
    reading = objective.read(subject)[objective.reading]
    assert objective.limit.startswith(f"{objective.bound}-")
    assert (
        losses({objective.reading: reading}, [objective])[0] == (1 if objective.bound == "max" else -1) * reading.value
    )
    loose = reading.value * (2 if objective.bound == "max" else 0.5)
    assert violation(reading, objective, loose) <= 0


def test_the_five_are_there_with_their_flags() -> None:
    assert {name: row.limit for name, row in OBJECTIVES.items()} == FLAGS


def test_selection_keeps_the_order() -> None:
    assert [row.name for row in select(["size", "accuracy"])] == ["size", "accuracy"]


@pytest.mark.parametrize("names", [[], ["speed"], ["size", "size"]])
def test_bad_selections_are_refused_with_the_legal_names(names: list[str]) -> None:
    with pytest.raises(UserError, match="accuracy, latency, size, memory, energy"):
        select(names)
