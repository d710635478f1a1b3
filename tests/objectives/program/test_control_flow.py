"""Programs that nobody here can run, priced all the same: several inputs, branches, loops, recurrent layers, functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.proto import Model_pb2

from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.memory import input_output_bytes
from coreml_pareto.objectives.program import (
    Executor,
    Program,
    bits_per_weight,
    content_digest,
    costs,
    liveness,
    load,
)
from coreml_pareto.objectives.program.costs import uncounted
from coreml_pareto.objectives.score import counted_macs, static_score
from coreml_pareto.search.inspection import inspect
from coreml_pareto.spaces.errors import UserError

Save = Callable[..., Path]
TARGET = Target(find_device("iPhone 15 Pro"), 18)


def draw(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory, quiet: Any) -> Save:
    """Name, function of MIL variables, shapes of its inputs -> package, operations untouched."""
    folder = tmp_path_factory.mktemp("flow")

    def run(name: str, body: Callable[..., Any], *shapes: tuple[int, ...]) -> Path:
        path = folder / f"{name}.mlpackage"
        if not path.exists():
            with quiet():
                specs = [mb.TensorSpec(shape=shape) for shape in shapes]
                model = ct.convert(
                    mb.program(input_specs=specs, opset_version=ct.target.iOS18)(body),
                    convert_to="mlprogram",
                    compute_precision=ct.precision.FLOAT32,
                    minimum_deployment_target=ct.target.iOS18,
                    pass_pipeline=ct.PassPipeline.EMPTY,
                    skip_model_load=True,
                )
                model.save(str(path))
                del model
        return path

    return run


def priced(path: Path) -> Program:
    return load(path, any_inputs=True, default_function=True)


def summed(x: Any, y: Any) -> Any:
    return mb.add(x=mb.linear(x=x, weight=draw(32, 64)), y=y)


def branches(x: Any, p: Any) -> Any:
    """64 -> 128 -> 32 in one branch, 64 -> 32 in the other."""

    def deep() -> Any:
        return mb.linear(x=mb.relu(x=mb.linear(x=x, weight=draw(128, 64))), weight=draw(32, 128))

    yes = mb.greater(x=mb.squeeze(x=p), y=0.0)
    return mb.cond(pred=yes, _true_fn=deep, _false_fn=lambda: mb.linear(x=x, weight=draw(32, 64)))


def swapped(x: Any, p: Any) -> Any:
    """The same branches, the cheaper one first."""

    def deep() -> Any:
        return mb.linear(x=mb.relu(x=mb.linear(x=x, weight=draw(128, 64))), weight=draw(32, 128))

    yes = mb.greater(x=mb.squeeze(x=p), y=0.0)
    return mb.cond(pred=yes, _true_fn=lambda: mb.linear(x=x, weight=draw(32, 64)), _false_fn=deep)


def loop(x: Any) -> Any:
    def body(a: Any, b: Any) -> Any:
        return mb.add(x=mb.linear(x=a, weight=draw(64, 64)), y=x), mb.add(x=b, y=1)

    return mb.while_loop(_cond=lambda a, b: mb.less(x=b, y=3), _body=body, loop_vars=(x, np.int32(0)))[0]


def recurrent(x: Any) -> Any:
    state = mb.fill(shape=[1, 8], value=0.0)
    return mb.lstm(x=x, initial_h=state, initial_c=state, weight_ih=draw(32, 16), weight_hh=draw(32, 8))[0]


def test_several_inputs_are_priced_and_not_run(save: Save) -> None:
    path = save("two", summed, (1, 64), (1, 32))
    program = priced(path)
    assert [feature.name for feature in program.inputs] == ["x", "y"]
    assert counted_macs(costs(program)).value == 32 * 64
    assert input_output_bytes(program) == 4 * (64 + 32 + 32)
    assert liveness(program).peak_bytes == 4 * (64 + 32 + 32)  # both come first, and y is read last
    assert static_score(program, TARGET)["macs"].how == "exact"
    with pytest.raises(UserError, match=r"only programs with one input can be read; two.mlpackage has x, y"):
        load(path)
    with pytest.raises(UserError, match="only programs with one input"):
        Executor(program)


def test_every_input_belongs_to_what_a_package_computes(save: Save) -> None:
    two, other = (save(name, summed, (1, 64), shape) for name, shape in (("two", (1, 32)), ("broad", (1, 1))))
    assert content_digest(priced(two)) == content_digest(priced(two)) != content_digest(priced(other))


@pytest.mark.parametrize("body", [branches, swapped])
def test_the_dearer_branch_counts(save: Save, body: Callable[..., Any]) -> None:
    program = priced(save(body.__name__, body, (1, 64), (1,)))
    rows = costs(program)
    assert [row.kind for row in rows if row.macs] == ["linear", "linear"]
    reading = counted_macs(rows)
    assert (reading.value, reading.how) == (128 * 64 + 32 * 128, "exact")
    assert "dearer branch" in reading.conditions["counted"]
    assert rows[-1].kind == "cond" and rows[-1].read_bytes == rows[-1].written_bytes == 0
    assert sum(row.weight_elements for row in rows) == 128 * 64 + 128 + 32 * 128 + 32


def test_the_weights_of_both_branches_are_stored(save: Save) -> None:
    program = priced(save("branches", branches, (1, 64), (1,)))
    assert sum(weight.elements for weight in program.weights) == 128 * 64 + 128 + 32 * 128 + 32 + 32 * 64 + 32
    score = static_score(program, TARGET)
    assert score["bits_per_weight"].value == bits_per_weight(program) == 32
    assert score["memory_bytes"].value > sum(weight.stored_bytes for weight in program.weights)
    found = inspect(program)
    assert sum(row.layer for row in found.rows) == 3 and found.sizes.framing < 2000


def test_which_branch_is_which_changes_what_a_package_computes(save: Save) -> None:
    one, other = (priced(save(body.__name__, body, (1, 64), (1,))) for body in (branches, swapped))
    assert content_digest(one) != content_digest(other)


def test_what_a_loop_computes_is_not_said_to_be_exact(save: Save) -> None:
    program = priced(save("loop", loop, (1, 64)))
    rows = costs(program)
    held = next(row for row in rows if row.kind == "while_loop")
    assert held.weight_elements == 64 * 64 + 64 and held.read_bytes >= 4 * 64
    reading = counted_macs(rows)
    assert (reading.value, reading.how, reading.conditions["not_counted"]) == (0, "at least", "1 × while_loop")
    assert static_score(program, TARGET)["bits_per_weight"].value == 32


def test_what_a_recurrent_layer_computes_is_not_said_to_be_exact(save: Save) -> None:
    program = priced(save("recurrent", recurrent, (5, 1, 16)))
    score = static_score(program, TARGET)
    assert (score["macs"].value, score["macs"].how) == (0, "at least")
    assert score["macs"].conditions["not_counted"] == "1 × lstm"
    assert score["bits_per_weight"].value == 32


def test_unknown_operations_that_multiply_nothing_leave_the_count_exact(build: Any) -> None:
    rows = costs(build(lambda x: mb.band_part(x=x, lower=0, upper=0), (1, 3, 3)))
    assert not uncounted(rows) and counted_macs(rows).how == "exact"


@pytest.fixture
def several(save: Save, tmp_path: Path, quiet: Any) -> Path:
    """A package with the functions `small`, its default, and `large`, as coremltools writes it."""
    small = save("linear", lambda x: mb.linear(x=x, weight=draw(8, 64)), (1, 64))
    large = save("wide", lambda x: mb.linear(x=x, weight=draw(96, 64)), (1, 64))
    described = ct.utils.MultiFunctionDescriptor()
    described.add_function(str(large), src_function_name="main", target_function_name="large")
    described.add_function(str(small), src_function_name="main", target_function_name="small")
    described.default_function_name = "small"
    with quiet():
        ct.utils.save_multifunction(described, str(tmp_path / "several.mlpackage"))
    return tmp_path / "several.mlpackage"


def test_of_several_functions_the_default_is_priced(several: Path) -> None:
    program = priced(several)
    assert counted_macs(costs(program)).value == 8 * 64
    assert program.remarks == (
        "of the package's functions 'small', its default, is read; the size is also that of large",
    )
    with pytest.raises(UserError, match=r"only programs with one function can be read; several.mlpackage has large"):
        load(several)


def test_functions_without_a_default_are_refused(several: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(several, tmp_path / "copy.mlpackage"))
    file = next(copy.rglob("*.mlmodel"))
    spec = Model_pb2.Model.FromString(file.read_bytes())
    spec.description.defaultFunctionName = ""
    file.write_bytes(spec.SerializeToString())
    with pytest.raises(UserError, match=r"copy.mlpackage has large, small and names none of them"):
        priced(copy)
