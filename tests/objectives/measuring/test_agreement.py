"""Core ML against the executor, where the made-up Core ML is right, wrong in one weight, broken, or refuses twins."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_pareto.objectives.measuring.agreement import Expected, compare, expected, ratio_db
from coreml_pareto.objectives.program import Constant, Executor, Program, load
from coreml_pareto.objectives.program.twin import as_tensors, visible, with_outputs
from coreml_pareto.spaces.errors import UserError


@pytest.fixture
def program(packages: dict[str, Path]) -> Program:
    return load(packages["fp16"])


@pytest.fixture
def reference(program: Program, images: np.ndarray[Any, Any]) -> Expected:
    return expected(program, images[:6], np.zeros(6, np.int64))


def _conv(program: Program, number: int) -> tuple[str, str]:
    """Name of a convolution's weight, and of its value."""
    operation = [one for one in program.operations if one.kind == "conv"][number]
    weight = operation.one("weight")
    assert isinstance(weight, Constant)
    return weight.name, operation.outputs[0][0]


def test_core_ml_that_computes_the_same_agrees(core_ml: Any, program: Program, reference: Expected) -> None:
    found = compare(program, reference, "CPU_ONLY")
    assert found.same_top1 == 1.0 and found.top1 == found.executor_top1
    assert found.scores_off < 1e-5 and found.first is None and found.notes == ()
    assert found.logits_db is not None and found.logits_db > 100
    assert core_ml.loads == [".mlpackage CPU_ONLY"] * 2  # no value is let out for nothing


@pytest.mark.parametrize("number", [0, 2])
def test_the_first_operation_that_differs_is_named(
    core_ml: Any, program: Program, reference: Expected, number: int
) -> None:
    weight, value = _conv(program, number)
    core_ml.wrong = {"CPU_AND_NE": weight}
    found = compare(program, reference, "CPU_AND_NE")
    assert found.logits_db is not None and found.logits_db < 30
    assert found.first is not None and (found.first.kind, found.first.value) == ("conv", value)
    assert found.first.db < 30 and found.first.unseen == 0
    assert compare(program, reference, "CPU_ONLY").first is None


def test_values_that_core_ml_does_not_let_out_are_passed_over(
    core_ml: Any, program: Program, reference: Expected
) -> None:
    weight, value = _conv(program, 0)
    core_ml.wrong, core_ml.refused_outputs = {"ALL": weight}, {value}
    found = compare(program, reference, "ALL").first
    assert found is not None and found.unseen == 1
    names = visible(program)
    assert found.value == names[names.index(value) + 1]


def test_where_the_logits_cannot_be_had_the_scores_are_compared(
    core_ml: Any, program: Program, reference: Expected
) -> None:
    core_ml.refused_outputs = {program.logits}
    found = compare(program, reference, "ALL")
    assert found.same_top1 == 1.0 and found.logits_db is None and found.logits_off is None
    assert len(found.notes) == 1 and "logits could not be read" in found.notes[0]


def test_answers_that_are_no_numbers(core_ml: Any, program: Program, reference: Expected) -> None:
    core_ml.broken = {"CPU_AND_GPU"}
    found = compare(program, reference, "CPU_AND_GPU")
    assert found.logits_db == -999.0 and found.first is not None and found.first.checked == 1
    json.dumps(asdict(found), allow_nan=False)


def test_a_package_that_does_not_load_or_run(core_ml: Any, program: Program, reference: Expected) -> None:
    core_ml.refused_units = {"CPU_AND_NE"}
    with pytest.raises(UserError, match=r"on CPU_AND_NE.*Failed to build"):
        compare(program, reference, "CPU_AND_NE")
    core_ml.failing = iter([True])
    with pytest.raises(UserError, match=r"Core ML must run a package to be compared.*Error computing NN outputs"):
        compare(program, reference, "ALL")


def test_a_twin_computes_what_the_package_does(program: Program, images: np.ndarray[Any, Any], tmp_path: Path) -> None:
    names = visible(program)
    assert program.logits in names and program.scores in names
    twin = load(with_outputs(program, names, tmp_path / "twin.mlpackage"))
    assert set(twin.output) == {*program.output, *names}
    ours, theirs = Executor(program).run(images[:2], fetch=names), Executor(twin).run(images[:2])
    assert all(np.array_equal(ours[name], theirs[name]) for name in names)


def test_a_twin_of_tensors_takes_what_is_behind_the_image(
    program: Program, images: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    import coremltools as ct

    twin = load(as_tensors(program, tmp_path / "twin.mlpackage"))
    assert twin.output == (program.scores,) and twin.classifier is None and twin.labels is None
    tensor = images[:2].transpose(0, 3, 1, 2).astype(np.float32)
    ours = Executor(program).run(images[:2], fetch=[str(program.scores)])[str(program.scores)]
    assert np.array_equal(ours, Executor(twin).run(tensor)[str(program.scores)])
    spec = ct.models.MLModel(str(twin.path), skip_model_load=True).get_spec()
    assert [tuple(one.type.multiArrayType.shape) for one in spec.description.input] == [(1, 3, 16, 16)]
    assert [one.name for one in spec.description.output] == [program.scores]
    assert spec.description.predictedFeatureName == ""


@pytest.mark.parametrize(
    ("signal", "value", "db"),
    [([1, 0], [1, 0], 999), ([0, 0], [0, 1], -999), ([1, 1], [1, np.nan], -999), ([10, 0], [9, 0], 20)],
)
def test_ratios(signal: list[float], value: list[float], db: float) -> None:
    assert ratio_db(np.array(signal, float), np.array(value, float)) == pytest.approx(db)
