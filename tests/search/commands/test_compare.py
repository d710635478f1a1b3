"""`coreml-pareto compare`, on packages of random networks and on trials that name them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.search.config import dump_plan, load_plan
from coreml_pareto.search.data import load_data
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.record import PLAN
from coreml_pareto.search.run import Run
from coreml_pareto.search.stages.convert import convert, save
from coreml_pareto.search.stages.package import Packager, randomised
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network

NETWORK = Network(
    family="squeezenet", backbone="squeezenet1_1", width=0.35, resolution=32, stem_stride=1, classes=10
)  # fmt: skip


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of one network: as it is, and with its labels in the other order, so that they never agree."""
    root = tmp_path_factory.mktemp("packages")
    wrapping = Packager(Store(root), load_data("digits"), {"seed": 0})._wrapping(NETWORK, None)
    found = root / "a [red].mlpackage", root / "b.mlpackage"
    for path, classes in zip(found, (wrapping.classes, wrapping.classes[::-1]), strict=True):
        save(convert(randomised(NETWORK), replace(wrapping, classes=classes), minimum_os=16, precision="fp16"), path)
    return found


def test_two_packages_for_people_and_machines(command: Callable[..., Any], packages: tuple[Path, Path]) -> None:
    names = [str(path) for path in packages]
    answer = command("compare", *names, "--data", "digits", "--images", "3")
    assert answer.code == 0, answer.err
    text = " ".join(answer.out.split())
    for part in ("A ", "a [red].mlpackage", "McNemar", "the same answer to 0 of 269", "3 of 269", "269 test images"):
        assert part in text
    told = json.loads(command("compare", *names, "--data", "digits", "--json").out)
    (pair,) = told["pairs"]
    assert [row["letter"] for row in told["packages"]] == ["A", "B"] and told["device"] == "iPhone 15 Pro"
    assert pair["agreement"]["same"] == 0 and len(pair["disputed"]) == 269
    counts = pair["top1"]
    assert counts["difference" if "difference" in counts else "value"] == pytest.approx(
        (counts["only_second"] - counts["only_first"]) / 269
    )
    assert counts["only_second"] == pair["agreement"]["only_second"]
    assert pair["verdict"] in text and pair["verdict"].count(".") == pair["verdict"].rstrip(".").count(".") + 1
    tops = {row["letter"]: row["top1"] for row in told["packages"]}
    assert counts["value"] == pytest.approx(tops["B"] - tops["A"])


def test_three_packages_are_a_table(command: Callable[..., Any], packages: tuple[Path, Path]) -> None:
    a, b = map(str, packages)
    first = json.loads(command("compare", a, b, a, "--data", "digits", "--json").out)
    assert [(p["first"], p["second"]) for p in first["pairs"]] == [("A", "B"), ("A", "C")]
    assert not first["pairs"][1]["difference_shown"] and "No difference" in first["pairs"][1]["verdict"]
    answer = command("compare", a, b, a, "--data", "digits", "--all-pairs")
    assert answer.code == 0 and "C against B" in answer.out and "Holm" in answer.out


def test_trials_of_a_run_bring_their_pictures_and_target(
    command: Callable[..., Any], packages: tuple[Path, Path], recorded_as: Callable[[Run], Run],
    draw_run: Callable[..., Run], tmp_path: Path,
) -> None:  # fmt: skip
    run = draw_run(2)
    results = tuple(
        replace(r, outcome=replace(r.outcome, package=path)) if isinstance(r.outcome, Scored) else r
        for r, path in zip(run.results, (*packages, None, None), strict=True)
    )
    target = replace(run.target, os=18)
    recorded_as(replace(run, results=results, folder=tmp_path, target=target))
    (tmp_path / PLAN).write_text(dump_plan(load_plan(None, {"name": "x", "data": "digits"})))
    answer = command("compare", f"{tmp_path}:0", f"{tmp_path}:1", "--split", "validation", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["os"] == "iOS 18" and "trial" not in told and told["packages"][1]["name"].startswith(f"{tmp_path}:1, ")
    assert any("269 validation images" in note for note in told["notes"])
    refused = command("compare", f"{tmp_path}:0", f"{tmp_path}:2", "--json")
    assert refused.code == 2 and "RUN:TRIAL" in refused.err and "0, 1" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "2 to 26 packages; got 1"),
        (("{b}",), "needs labelled pictures"),
        (("{b}", "--data", "digits", "--split", "all"), "train, validation or test"),
        (("nothing.mlpackage", "--data", "digits"), "nothing.mlpackage"),
    ],
)
def test_refusals(
    command: Callable[..., Any], packages: tuple[Path, Path], arguments: tuple[str, ...], said: str
) -> None:
    given = [text.format(b=packages[1]) for text in arguments]
    answer = command("compare", str(packages[0]), *given)
    assert answer.code == 2 and said in answer.err and "Traceback" not in answer.err
