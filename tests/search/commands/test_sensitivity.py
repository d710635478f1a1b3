"""`coreml-pareto sensitivity`, on a package of the digits' ten classes, and on packages and words that it refuses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.program import load
from coreml_pareto.search.data import load_data
from coreml_pareto.search.stages.compress import compress, heavy_weights
from coreml_pareto.search.stages.convert import convert, save
from coreml_pareto.search.stages.package import Packager, randomised
from coreml_pareto.search.stages.sensitivity import sensitivity
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.compression import parse

NETWORK = Network(
    family="mobilenet", backbone="mobilenetv3_small", width=0.35, resolution=32, stem_stride=1, classes=10
)  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the store of a run, where a search would have put it."""
    root = tmp_path_factory.mktemp("run") / "store"
    wrapping = Packager(Store(root), load_data("digits"), {"seed": 0})._wrapping(NETWORK, None)
    folder = root / "package" / "0123" / "model.mlpackage"
    folder.parent.mkdir(parents=True)
    save(convert(randomised(NETWORK), wrapping, minimum_os=16, precision="fp16"), folder)
    return folder


def test_a_table_of_layers_and_schemes(command: Callable[..., Any], package: Path, tmp_path: Path) -> None:
    schemes = "int8/channel,palette-2/tensor"
    arguments = ("sensitivity", str(package), "--data", "digits", "--images", "8", "--schemes", schemes)
    answer = command(*arguments, "--plot", str(tmp_path / "map.html"))
    assert answer.code == 0
    assert "8 training images" in answer.out
    rows = [line for line in answer.out.splitlines() if line.startswith(("conv", "linear"))]
    assert len(rows) == 54
    assert "Wrote" in answer.err
    assert "Which layers can bear which schemes" in (tmp_path / "map.html").read_text()
    described = json.loads(command(*arguments, "--json").out)
    assert {effect["compression"] for effect in described["effects"]} == set(schemes.split(","))
    assert described["images"] == 8
    assert len(list((package.parents[2] / "sensitivity").iterdir())) == 2  # kept with the run, once for each scheme
    shown = [effect for effect in described["effects"] if effect["layer"] == "linear_1_weight"]
    last = rows[-1].split()
    assert [round(effect["logits_db"]) for effect in shown] == [int(text.rstrip("!")) for text in last[-2:]]


def test_a_map_has_a_cell_for_every_effect(command: Callable[..., Any], package: Path) -> None:
    from coreml_pareto.search.report.heatmap import sensitivity_figure
    from coreml_pareto.search.stages.sensitivity import Effect, Sensitivity

    arguments = ("--data", "digits", "--images", "8", "--schemes", "int8/channel,palette-2/tensor", "--json")
    described = json.loads(command("sensitivity", str(package), *arguments).out)
    found = Sensitivity(tuple(Effect(**row) for row in described["effects"]), described["top1"], described["images"])
    layers = list(heavy_weights(load(package)))
    figure = sensitivity_figure(found, layers, "model")
    (trace,) = figure.data
    assert list(trace.y) == layers and len(trace.z) == len(layers) == 54
    cells = list(itertools.product(layers, trace.x))
    smaller = {(effect.layer, effect.compression) for effect in found.effects}
    assert 0 < len(smaller) < len(cells)
    texts = [text for row in trace.text for text in row]
    values = [value for row in trace.z for value in row]
    for cell, text, value in zip(cells, texts, values, strict=True):
        assert (cell not in smaller) == (value is None) == text.endswith("would not get smaller")
    never = len(set(layers) - {layer for layer, _ in smaller})
    assert never and f"{never} of 54 layers under none of these schemes" in figure.layout.title.text
    assert list(trace.x) == ["int8/channel", "palette-2/tensor"]  # from many bits to few
    drawn = [value for row in trace.z for value in row if value is not None]
    assert sorted(drawn) == sorted(effect.logits_db for effect in found.effects)


def test_a_store_may_be_named(command: Callable[..., Any], package: Path, tmp_path: Path) -> None:
    arguments = ("--data", "digits", "--images", "4", "--schemes", "palette-1/tensor", "--store", str(tmp_path))
    assert command("sensitivity", str(package), *arguments).code == 0
    assert len(list((tmp_path / "sensitivity").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--schemes", "w8a8"), "got w8a8: leave out"),
        (("--ios", "15"), "Compressed weights need iOS 16; got --ios 15"),
        (("--plot", "/nowhere/map.html"), "a plot goes into a folder that exists"),
        (("--store", "/proc/nowhere"), "What is measured is kept in a folder"),
        (("--schemes", ","), "got none"),
        (("--schemes", "palette-9"), "Core ML has no palette with 9 bits"),
        (("--schemes", "int4/channel", "--ios", "16"), "needs iOS 18"),
        (("--data", "/nowhere"), "/nowhere"),
    ],
)
def test_wrong_words_are_refused(
    command: Callable[..., Any], package: Path, arguments: tuple[str, ...], told: str
) -> None:
    given = arguments if "--data" in arguments else (*arguments, "--data", "digits")
    answer = command("sensitivity", str(package), *given)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err and len(answer.err.splitlines()) == 1


def test_a_package_without_fp16_weights_is_refused(command: Callable[..., Any], package: Path, tmp_path: Path) -> None:
    wrapping = Packager(Store(tmp_path), load_data("digits"), {"seed": 0})._wrapping(NETWORK, None)
    whole = tmp_path / "fp32.mlpackage"
    save(convert(randomised(NETWORK), wrapping, minimum_os=16, precision="fp32"), whole)
    answer = command("sensitivity", str(whole), "--data", "digits", "--images", "4")
    assert answer.code == 2
    assert "give the fp16 package of the same network" in answer.err


def test_a_compressed_package_is_refused(command: Callable[..., Any], package: Path, tmp_path: Path) -> None:
    """Also where some small layers stayed in fp16: the others would be left out without a word."""
    compress(package, tmp_path / "small.mlpackage", parse("int8/channel"))
    answer = command("sensitivity", str(tmp_path / "small.mlpackage"), "--data", "digits", "--images", "4")
    assert answer.code == 2
    assert "40 are compressed already: give the fp16 package of the same network" in answer.err


def test_the_record_is_that_of_mixed_precision(command: Callable[..., Any], package: Path, tmp_path: Path) -> None:
    """What a search measured for mixed precision is found by the command."""
    data = load_data("digits")
    packager = Packager(Store(tmp_path), data, {"seed": 0})
    found = sensitivity(Store(tmp_path), package, packager.calibration(NETWORK), (parse("palette-1/tensor"),))
    before = set((tmp_path / "sensitivity").iterdir())
    arguments = ("--data", "digits", "--schemes", "palette-1/tensor", "--store", str(tmp_path), "--json")
    described = json.loads(command("sensitivity", str(package), *arguments).out)
    assert set((tmp_path / "sensitivity").iterdir()) == before
    assert described["top1"] == found.top1


@pytest.mark.parametrize(
    ("named", "told"), [(True, ""), (False, "6 of the 8 schemes that were measured; others: --schemes")]
)
def test_a_table_says_what_it_does_not_show(
    package: Path, named: bool, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from coreml_pareto.search.commands.sensitivity import SHOWN, _show
    from coreml_pareto.search.stages.sensitivity import Effect, Sensitivity

    program = load(package)
    layer = next(iter(heavy_weights(program)))
    effects = [
        Effect(layer, name, name, bits, 20.0, 20.0, 0.1, 0.5)
        for bits, name in enumerate([*SHOWN, "palette-1/tensor", "int8/tensor"])
    ]
    _show(program, Sensitivity(tuple(effects), 0.5, 8), named=named)
    out = " ".join(capsys.readouterr().out.split())
    assert (told in out) and ("that were measured" in out) != named
