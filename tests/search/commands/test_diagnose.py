"""`coreml-pareto diagnose`, on the record of a run, on one of its trials, and on packages without a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.accuracy import RIGHT, spell_right
from coreml_pareto.search.data import load_data
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.stages.compress import compress
from coreml_pareto.search.stages.convert import convert, save
from coreml_pareto.search.stages.package import Packager, randomised
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.compression import parse

NETWORK = Network(
    family="squeezenet", backbone="squeezenet1_1", width=0.35, resolution=32, stem_stride=1, classes=10
)  # fmt: skip


def ruined(run: Run) -> Run:
    """The same two packages as one training, the second as a palette of two bits that has half of the images right."""
    import numpy as np

    def one(result: Result, scheme: str, right: Any) -> Result:
        assert isinstance(result.outcome, Scored)
        told = result.score["top1"].conditions | {RIGHT: spell_right(right), "images": str(len(right))}
        score = {**result.score, "top1": replace(result.score["top1"], conditions=told)}
        candidate = run.results[0].candidate.model_copy(update={"compression": parse(scheme)})
        return replace(result, candidate=candidate, outcome=replace(result.outcome, score=score))

    whole, half = np.arange(400) < 380, np.arange(400) < 200
    first, second = run.results[:2]
    return replace(run, results=(one(first, "fp16", whole), one(second, "palette-2/tensor", half)))


@pytest.fixture
def record(recorded_as: Callable[[Run], Run], draw_run: Callable[..., Run]) -> Run:
    return recorded_as(ruined(draw_run(2)))


def test_a_run_from_its_record(command: Callable[..., Any], record: Run) -> None:
    answer = command("diagnose", "runs/fake", "--quick")
    assert answer.code == 0, answer.err
    text = " ".join(answer.out.split())
    for part in (
        "severe excessive quantization",
        "palette-2/tensor costs 45.0 points",
        "--set",
        "not checked",
        "Checked",
    ):
        assert part in text
    told = json.loads(command("diagnose", "runs/fake", "--quick", "--json").out)
    (finding,) = told["findings"]
    assert finding["trials"] == [1] and finding["command"] in text and told["subject"] == "runs/fake"
    assert {check["state"] for check in told["checks"]} == {"found", "unknown"}


def test_one_trial_of_it(command: Callable[..., Any], record: Run) -> None:
    assert json.loads(command("diagnose", "runs/fake:0", "--quick", "--json").out)["findings"] == []
    assert len(json.loads(command("diagnose", "runs/fake:1", "--quick", "--json").out)["findings"]) == 1
    refused = command("diagnose", "runs/fake:7", "--quick")
    assert refused.code == 2 and "RUN:TRIAL" in refused.err and "0, 1" in refused.err


def test_what_goes_only_with_a_package(command: Callable[..., Any], record: Run) -> None:
    refused = command("diagnose", "runs/fake", "--against", "x.mlpackage")
    assert refused.code == 2 and "--against" in refused.err


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One random network in fp16, and with one bit for each weight."""
    root = tmp_path_factory.mktemp("packages")
    wrapping = Packager(Store(root), load_data("digits"), {"seed": 0})._wrapping(NETWORK, None)
    plain, bit = root / "fp16.mlpackage", root / "bit.mlpackage"
    save(convert(randomised(NETWORK), wrapping, minimum_os=16, precision="fp16"), plain)
    compress(plain, bit, parse("palette-1/tensor"))
    return plain, bit


def test_a_package_without_its_run(command: Callable[..., Any], packages: tuple[Path, Path]) -> None:
    plain, bit = map(str, packages)
    told = json.loads(command("diagnose", plain, "--json").out)
    assert told["findings"] == []
    healthy = {check["cause"] for check in told["checks"] if check["state"] == "healthy"}
    assert healthy == {"resolution of the last stage", "capacity against classes", "off the Neural Engine"}
    answer = command("diagnose", bit, "--against", plain, "--data", "digits", "--json")
    assert answer.code == 0, answer.err
    (check,) = [row for row in json.loads(answer.out)["checks"] if row["failure"] == "excessive quantization"]
    assert check["state"] in ("healthy", "found") and "269 images" in check["told"]
    newer = packages[0].with_name("newer.mlpackage")
    wrapping = Packager(Store(newer.parent), load_data("digits"), {"seed": 0})._wrapping(NETWORK, None)
    save(convert(randomised(NETWORK), wrapping, minimum_os=18, precision="fp16"), newer)
    assert command("diagnose", bit, "--against", str(newer), "--data", "digits", "--json").code == 0  # opens both
    refused = command("diagnose", bit, "--against", plain)
    assert refused.code == 2 and "--data" in refused.err
