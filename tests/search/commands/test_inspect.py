"""`coreml-pareto inspect`, on packages of ours and of coremltools' own compression, and on broken ones."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from coremltools.proto import Model_pb2

from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.program.constexpr import decode
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.report.words import otherwise
from coreml_pareto.search.stages.compress import compress
from coreml_pareto.spaces.compression import parse

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
SIDE = 16


class Net(torch.nn.Module):
    """Six layers: a stem of 3 channels, a depthwise one, two that share their scales, one of 48 channels, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 32, 3, 2, 1)
        self.depthwise = torch.nn.Conv2d(32, 32, 3, 1, 1, groups=32)
        self.one, self.two = torch.nn.Conv2d(32, 48, 1), torch.nn.Conv2d(32, 48, 1)
        self.last = torch.nn.Conv2d(48, 64, 1)
        self.head = torch.nn.Linear(64, 10)
        with torch.no_grad():
            self.two.weight.copy_(self.one.weight.flip(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.stem(x))))
        x = torch.relu(self.last(torch.relu(self.one(x)) + torch.sigmoid(self.two(x))))
        return torch.softmax(self.head(x.mean((2, 3))), -1)


SHAPES = {
    "stem": (32, 3, 3, 3), "depthwise": (32, 1, 3, 3), "one": (48, 32, 1, 1), "two": (48, 32, 1, 1),
    "last": (64, 48, 1, 1), "head": (10, 64),
}  # fmt: skip
BIASES = {"stem": 32, "depthwise": 32, "one": 48, "two": 48, "last": 64, "head": 10}
ELEMENTS = {name: math.prod(shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network in fp16, compressed by us and by coremltools."""
    folder = tmp_path_factory.mktemp("packages")
    paths = {name: folder / f"{name}.mlpackage" for name in ("fp16", "int4", "int8", "foreign")}
    torch.manual_seed(0)
    with quiet():
        model = ct.convert(
            torch.export.export(Net().eval(), (torch.rand(1, 3, SIDE, SIDE),)).run_decompositions({}),
            inputs=[ct.ImageType(name="image", shape=(1, 3, SIDE, SIDE), scale=1 / 255)],
            classifier_config=ct.ClassifierConfig([f"class {i}" for i in range(10)]),
            minimum_deployment_target=ct.target.iOS18,
            skip_model_load=True,
        )
        model.save(str(paths["fp16"]))
        config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=1000)
        cto.linear_quantize_weights(model, cto.OptimizationConfig(config)).save(str(paths["foreign"]))
        del model
        gc.collect()  # coremltools' models leave their temporary folders to the collector, which warns
    compress(paths["fp16"], paths["int4"], parse("int4/block-32"))
    compress(paths["fp16"], paths["int8"], parse("int8/tensor"))
    return paths


@pytest.fixture
def inspected(command: Callable[..., Any], packages: dict[str, Path]) -> Callable[[str | Path], dict[str, Any]]:
    """inspected("int4") -> what `--json` prints; `layers`: the weights by layer."""

    def run(which: str | Path) -> dict[str, Any]:
        answer = command("inspect", str(packages[which] if isinstance(which, str) else which), "--json")
        assert answer.code == 0, answer.err
        told: dict[str, Any] = json.loads(answer.out)
        heavy = [weight for weight in told["weights"] if len(weight["shape"]) > 1]
        return told | {"layers": dict(zip(SHAPES, heavy, strict=True))}

    return run


def blob_bytes(path: Path) -> tuple[int, int]:
    """(bytes of all blobs, bytes of the file), walking the file as StorageFormat.hpp describes it."""
    data = path.read_bytes()
    count, offset, found = int.from_bytes(data[:4], "little"), 64, 0
    for _ in range(count):
        size, start = struct.unpack_from("<QQ", data, offset + 8)
        found, offset = found + size, (start + size + 63) // 64 * 64
    return found, len(data)


def test_one_row_for_each_weight(inspected: Any, packages: dict[str, Path]) -> None:
    told = inspected("int4")
    assert told["package"] == str(packages["int4"]) and told["minimum_os"] == "iOS 18"
    assert told["asked"] == "int4/block-32"
    assert {name: tuple(row["shape"]) for name, row in told["layers"].items()} == SHAPES
    assert {name: row["elements"] for name, row in told["layers"].items()} == ELEMENTS
    assert {row["asked"] for row in told["layers"].values()} == {"int4/block-32"}
    biases = [row for row in told["weights"] if len(row["shape"]) == 1]
    assert [row["elements"] for row in biases] == list(BIASES.values())
    for row in biases:
        assert (row["applied"], row["asked"], row["reason"], row["snr_db"]) == ("fp16", None, None, None)
        assert (row["bits_per_weight"], row["bytes"]) == (16, 2 * row["elements"])


def test_what_was_done_and_why_not(inspected: Any) -> None:
    layers = inspected("int4")["layers"]
    assert {name: row["applied"] for name, row in layers.items()} == {
        "stem": "int4/block-3", "depthwise": "fp16", "one": "int4/block-32", "two": "int4/block-32",
        "last": "int4/block-24", "head": "int4/block-32",
    }  # fmt: skip
    reasons = {name: row["reason"] for name, row in layers.items()}
    assert reasons["one"] is reasons["two"] is reasons["head"] is None
    assert "3 channels" in reasons["stem"] and "48 channels" in reasons["last"]
    assert "would not make it smaller" in reasons["depthwise"]


def test_bits_and_bytes_in_closed_form(inspected: Any) -> None:
    """Half a byte for each element, two for each scale: one per output channel and block."""
    layers = inspected("int4")["layers"]
    scales = {"stem": 32, "one": 48, "two": 48, "last": 64 * 2, "head": 10 * 2}
    for name, count in scales.items():
        assert layers[name]["bytes"] == ELEMENTS[name] / 2 + 2 * count
        assert layers[name]["bits_per_weight"] == pytest.approx(8 * layers[name]["bytes"] / ELEMENTS[name])
    assert layers["depthwise"]["bytes"] == 2 * ELEMENTS["depthwise"]


def test_signal_to_noise_is_that_of_the_decoded_weights(inspected: Any, packages: dict[str, Path]) -> None:
    before, after = load(packages["fp16"]), load(packages["int4"])
    for name, row in inspected("int4")["layers"].items():
        if name == "depthwise":
            assert row["snr_db"] is None
            continue
        exact, stored = (
            np.asarray(x, np.float64) for x in (before.constants[row["name"]].value, decode(after, row["name"]))
        )
        expected = 10 * math.log10((exact**2).sum() / ((exact - stored) ** 2).sum())
        assert row["snr_db"] == pytest.approx(expected, abs=0.051) and expected > 10


@pytest.mark.parametrize("which", ["fp16", "int4", "int8", "foreign"])
def test_the_parts_add_up_to_the_bytes_on_disk(which: str, inspected: Any, packages: dict[str, Path]) -> None:
    told = inspected(which)
    totals, path = told["totals"], packages[which]
    walked = sum(os.path.getsize(Path(at, file)) for at, _, files in os.walk(path) for file in files)
    assert totals["size_bytes"] == walked
    keys = ("numbers_bytes", "constants_bytes", "framing_bytes", "program_bytes", "other_bytes")
    assert sum(totals[key] for key in keys) == walked and min(totals[key] for key in keys) >= 0
    blobs, file = blob_bytes(path / WEIGHTS)
    assert totals["numbers_bytes"] + totals["constants_bytes"] == blobs
    assert totals["framing_bytes"] == file - blobs > 0
    assert totals["program_bytes"] == (path / MODEL).stat().st_size
    assert totals["weight_bytes"] == sum(row["bytes"] for row in told["weights"])
    assert totals["weight_bytes"] == (
        totals["numbers_bytes"] + totals["weight_bytes_inline"] + totals["weight_bytes_shared"]
    )
    assert totals["elements"] == sum(ELEMENTS.values()) + sum(BIASES.values())
    assert totals["bits_per_weight"] == pytest.approx(8 * totals["weight_bytes"] / totals["elements"])
    assert (totals["weights"], totals["layers"]) == (12, 6)


def test_what_stands_in_the_text_or_is_stored_once(inspected: Any) -> None:
    """Scales of a tensor stand in the program's text; equal scales of two layers are stored once."""
    int4, int8 = inspected("int4")["totals"], inspected("int8")["totals"]
    assert (int4["weight_bytes_inline"], int4["weight_bytes_shared"]) == (0, 2 * 48)
    compressed = inspected("int8")["totals"]["layers"] - int8["layers_not_compressed"]
    assert (int8["weight_bytes_inline"], int8["weight_bytes_shared"]) == (2 * compressed, 0) and compressed > 2


def test_layers_otherwise_are_a_warning(inspected: Any, command: Callable[..., Any], packages: dict[str, Path]) -> None:
    share = 100 * ELEMENTS["depthwise"] / sum(ELEMENTS.values())
    said = f"Asked int4/block-32: 3 of 6 layers otherwise, 1 of them not compressed ({share:.1f} % of the elements)"
    told = inspected("int4")
    said += ": " + ", ".join(told["layers"][name]["name"] for name in ("stem", "depthwise", "last"))
    assert told["warning"] == said and told["notes"] == []
    assert (told["totals"]["layers_otherwise"], told["totals"]["layers_not_compressed"]) == (3, 1)
    assert said in " ".join(command("inspect", str(packages["int4"])).out.split())


def test_the_warning_of_a_package_is_empty_where_nothing_can_be_read(
    inspected: Any, packages: dict[str, Path], tmp_path: Path
) -> None:
    assert otherwise(packages["int4"]) == inspected("int4")["warning"] and otherwise(packages["fp16"]) == ""
    cut = Path(shutil.copytree(packages["int4"], tmp_path / "cut.mlpackage"))
    (cut / WEIGHTS).write_bytes(b"no weights")
    assert otherwise(cut) == otherwise(tmp_path / "gone.mlpackage") == otherwise(tmp_path) == ""


def test_what_the_forms_do_on_devices(inspected: Any, command: Callable[..., Any], packages: dict[str, Path]) -> None:
    """One row for blocks of 32, 24 and 3; fp16 is told of only where nothing else is; the package's OS decides."""
    assert {which: list(inspected(which)["devices"]) for which in packages} == {
        "fp16": ["fp16"], "int4": ["int4/block"], "int8": ["int8/tensor"], "foreign": ["int8/channel"],
    }  # fmt: skip
    (told,) = inspected("foreign")["devices"].values()
    assert (told["minimum_os"], told["units"]) == (16, ["Neural Engine"])
    assert len(told["figures"]) == 6 and told["open_reports"] == []  # for iOS 18: stored by another operation
    shown = " ".join(command("inspect", str(packages["int4"])).out.split())
    assert "int4/block iOS 18 / macOS 15 GPU nothing published 1" in shown
    (block,) = inspected("int4")["devices"].values()
    assert block["speed"] in shown and "apple/coreai-models#279" in shown and "CT-Q opt-quantization-perf" in shown


def test_the_table_shows_the_same_numbers(
    inspected: Any, command: Callable[..., Any], packages: dict[str, Path]
) -> None:
    told, shown = inspected("int4"), command("inspect", str(packages["int4"])).out
    assert "int4.mlpackage, opens on iOS 18 / macOS 15 and newer" in shown
    one_line = " ".join(shown.split())
    for row in told["weights"]:
        cells = ["×".join(map(str, row["shape"])), f"{row['elements']:,}"]
        cells += [row["asked"]] if row["asked"] else []
        cells += [row["applied"], f"{row['bits_per_weight']:.2f}", f"{row['bytes']:,}"]
        cells += [] if row["snr_db"] is None else [f"{row['snr_db']:.1f}"]
        assert " ".join(cells) in one_line, cells
        assert row["reason"] is None or row["reason"] in one_line
    totals = told["totals"]
    for key in ("numbers_bytes", "framing_bytes", "program_bytes", "other_bytes", "size_bytes"):
        assert f"{totals[key]:,} B" in shown
    assert f"{totals['bits_per_weight']:.3f} bits per weight" in shown
    assert "no record" not in one_line


def test_a_package_of_coremltools_own_compression(
    inspected: Any, command: Callable[..., Any], packages: dict[str, Path]
) -> None:
    """No record: nothing is said of what was asked, of noise and of reasons, and that is said."""
    told = inspected("foreign")
    assert told["asked"] is None
    assert {name: row["applied"] for name, row in told["layers"].items()} == {
        "stem": "fp16", "depthwise": "fp16", "one": "int8/channel", "two": "int8/channel", "last": "int8/channel",
        "head": "fp16",
    }  # fmt: skip
    assert all(row["asked"] is row["snr_db"] is row["reason"] is None for row in told["weights"])
    left = sum(ELEMENTS[name] for name in ("stem", "depthwise", "head"))
    assert (
        told["warning"] == f"3 of 6 layers not compressed ({100 * left / sum(ELEMENTS.values()):.1f} % of the elements)"
    )
    (note,) = told["notes"]
    assert note.startswith("The package has no record of its compression that could be read: the signal-to-noise")
    shown = command("inspect", str(packages["foreign"])).out
    assert " ".join(note.split()) in " ".join(shown.split())
    assert "SNR" not in shown and "asked" not in shown


def test_an_uncompressed_package(inspected: Any) -> None:
    told = inspected("fp16")
    assert told["warning"] is None and told["notes"] == ["No weight is compressed."]
    assert {row["applied"] for row in told["weights"]} == {"fp16"} and told["totals"]["bits_per_weight"] == 16


def changed(package: Path, target: Path, change: Callable[[Any], None]) -> Path:
    copy = Path(shutil.copytree(package, target / "changed.mlpackage"))
    spec = Model_pb2.Model()
    spec.ParseFromString((copy / MODEL).read_bytes())
    change(spec)
    (copy / MODEL).write_bytes(spec.SerializeToString())
    return copy


def test_a_damaged_record_is_left_out_and_said(inspected: Any, packages: dict[str, Path], tmp_path: Path) -> None:
    def damage(spec: Any) -> None:
        spec.description.metadata.userDefined["com.coreml-pareto.layers"] = "{"

    told = inspected(changed(packages["int4"], tmp_path, damage))
    assert told["asked"] is None and "left out: it is damaged" in told["notes"][0] and len(told["notes"]) == 2
    assert told["layers"]["last"]["applied"] == "int4/block-24" and told["layers"]["last"]["snr_db"] is None


def test_what_was_asked_is_known_without_a_record_of_layers(
    inspected: Any, packages: dict[str, Path], tmp_path: Path
) -> None:
    def claim(spec: Any) -> None:
        spec.description.metadata.userDefined["com.coreml-pareto.compression"] = "int8/channel"

    told = inspected(changed(packages["foreign"], tmp_path, claim))
    assert told["warning"].startswith("Asked int8/channel: 3 of 6 layers otherwise, 3 of them not compressed")
    reasons = {name: row["reason"] for name, row in told["layers"].items()}
    assert reasons == {name: "not recorded" if name in ("stem", "depthwise", "head") else None for name in SHAPES}


@pytest.mark.parametrize(
    ("name", "data"), [("inspect", []), ("estimate", []), ("evaluate", ["--data", "digits"])], ids=lambda x: str(x)
)
def test_broken_packages_are_refused_by_name(
    name: str, data: list[str], command: Callable[..., Any], packages: dict[str, Path], tmp_path: Path
) -> None:
    def refuse(path: Path, *said: str) -> None:
        answer = command(name, str(path), *data)
        assert answer.code == 2 and answer.out == "" and answer.err.count("\n") == 1
        assert answer.err.startswith("error: ") and all(words in answer.err for words in said), answer.err

    refuse(packages["fp16"] / MODEL, "not a folder", "name the NAME.mlpackage around it")
    refuse(tmp_path, "has no Manifest.json")
    old = changed(packages["fp16"], tmp_path, lambda spec: spec.neuralNetworkClassifier.SetInParent())
    refuse(old, "changed.mlpackage is a 'neuralNetworkClassifier' model", "convert the original network again")
    (tmp_path / "model.mlmodelc").mkdir()
    refuse(tmp_path / "model.mlmodelc", "is a compiled model", "compiled from")
    cut = Path(shutil.copytree(packages["int4"], tmp_path / "cut.mlpackage"))
    (cut / WEIGHTS).write_bytes((cut / WEIGHTS).read_bytes()[:-2000])
    refuse(cut, "weight.bin is damaged", "copy the whole package again")
    (cut / WEIGHTS).unlink()
    refuse(cut, "weight.bin is missing", "copy the whole folder again")


@pytest.mark.parametrize(("name", "data"), [("inspect", []), ("evaluate", ["--data", "digits"])], ids=lambda x: str(x))
def test_weights_that_are_no_numbers_are_refused(
    name: str, data: list[str], command: Callable[..., Any], packages: dict[str, Path], tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(packages["fp16"], tmp_path / "broken.mlpackage"))
    weight = next(weight for weight in load(broken).weights if weight.shape == SHAPES["last"])
    content = bytearray((broken / WEIGHTS).read_bytes())
    (start,) = struct.unpack_from("<Q", content, weight.constants[0].offset + 16)
    content[start : start + 4] = np.float16([np.nan, np.inf]).tobytes()
    (broken / WEIGHTS).write_bytes(content)
    answer = command(name, str(broken), *data)
    assert answer.code == 2 and "Traceback" not in answer.err
    assert f"{weight.name} of broken.mlpackage ('conv') stores 2 that are NaN or infinite" in answer.err
