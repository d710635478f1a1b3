"""`coreml-pareto estimate`, on programs that the executor refuses: what it says, on the screen and to machines."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb

from coreml_pareto.objectives.program.quiet import quiet

ONES = np.ones((64, 64), np.float32)


def plain(x: Any, y: Any) -> Any:
    return mb.add(x=mb.linear(x=mb.relu(x=mb.linear(x=x, weight=ONES)), weight=ONES), y=y)


def loop(x: Any, y: Any) -> Any:
    step = lambda a, b: (mb.linear(x=a, weight=ONES), mb.add(x=b, y=1))  # noqa: E731
    return mb.while_loop(_cond=lambda a, b: mb.less(x=b, y=3), _body=step, loop_vars=(mb.add(x=x, y=y), np.int32(0)))[0]


def gathering(x: Any, y: Any) -> Any:
    return mb.gather(x=mb.linear(x=mb.add(x=x, y=y), weight=ONES), indices=np.int32([3, 1]), axis=1)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Function of two MIL variables [1, 64] -> fp16 package."""
    folder = tmp_path_factory.mktemp("estimate")

    def run(body: Callable[..., Any]) -> str:
        path = Path(folder) / f"{body.__name__}.mlpackage"
        if not path.exists():
            with quiet():
                specs = [mb.TensorSpec(shape=(1, 64)) for _ in range(2)]
                traced = mb.program(input_specs=specs, opset_version=ct.target.iOS18)(body)
                model = ct.convert(
                    traced,
                    convert_to="mlprogram",
                    minimum_deployment_target=ct.target.iOS18,
                    skip_model_load=True,
                )
                model.save(str(path))
                del model
                gc.collect()
        return str(path)

    return run


def test_several_inputs_are_estimated_and_inspected_but_not_evaluated(command: Any, package: Any) -> None:
    told = json.loads(command("estimate", package(plain), "--json").out)
    assert told["macs"] == 2 * 64 * 64 and "macs_how" not in told
    seen = json.loads(command("inspect", package(plain), "--json").out)
    assert seen["totals"]["layers"] == 1  # one weight, read twice
    answer = command("evaluate", package(plain), "--data", "digits")
    assert answer.code == 2 and "only programs with one input can be read" in answer.err


def test_json_says_what_each_reading_rests_on(command: Any, package: Any) -> None:
    told = json.loads(command("estimate", package(plain), "--json").out)
    assert set(told["conditions"]) == {name for name in told if f"{name}_how" in told} | {
        "macs", "size_bytes", "bits_per_weight",
    }  # fmt: skip
    latency = told["conditions"]["latency_ms"]
    assert latency["unit"] == "Neural Engine" and latency["stopwatch"] and "published latencies" in latency["method"]
    screen = " ".join(command("estimate", package(plain)).out.split())
    assert told["notes"] and all(note in screen for note in told["notes"])


def test_json_says_what_was_not_counted(command: Any, package: Any) -> None:
    told = json.loads(command("estimate", package(loop), "--json").out)
    assert (told["macs"], told["macs_low"], told["macs_high"], told["macs_how"]) == (0, 0, None, "at least")
    assert told["conditions"]["macs"]["not_counted"] == "1 × while_loop"
    assert "1 × while_loop" in told["conditions"]["latency_ms"]["unknown"]
    screen = " ".join(command("estimate", package(loop)).out.split())
    said = "multiply-accumulates, latency and energy leave out what is computed in 1 × while_loop"
    assert said in told["notes"] and said in screen and "≥ 0 at least" in screen


def test_json_says_what_the_neural_engine_does_not_run(command: Any, package: Any) -> None:
    told = json.loads(command("estimate", package(gathering), "--json").out)
    assert "gathering" in told["conditions"]["latency_ms"]["assumes"]
    assert any("gathering" in note for note in told["notes"])


def test_the_layers_of_a_small_network_do_not_take_nothing(command: Any, package: Any) -> None:
    found = json.loads(command("estimate", package(plain), "--explain", "--json").out)["explanation"]
    screen = command("estimate", package(plain), "--explain").out
    layers = screen[screen.index("The most expensive layers") :].splitlines()
    for layer in found["layers"]:
        line = next(line for line in layers if line.split()[:1] == [layer["name"]])
        said = float(line.split()[-3])
        assert math.isclose(said, 1000 * layer["ms"], rel_tol=5e-3) and said
    assert "µs" in screen and "0.0 %" not in "".join(layers)
