"""`coreml-pareto measure` and `coreml-pareto verify`, on a made-up Core ML."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.devices.measurements import Record, read
from coreml_pareto.objectives.measuring import machine, phone, records, worker
from coreml_pareto.objectives.measuring.agreement import Agreement, Expected, compare
from coreml_pareto.objectives.measuring.local import measure
from coreml_pareto.objectives.program import Constant, content_digest, costs, load
from coreml_pareto.search.data import load_data
from coreml_pareto.search.stages.convert import convert, save
from coreml_pareto.search.stages.package import Packager, randomised
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.errors import UserError

NETWORK = Network(family="squeezenet", backbone="squeezenet1_1", width=0.35, resolution=32, stem_stride=1, classes=10)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    wrapping = Packager(Store(root), load_data("digits"), {"seed": 0})._wrapping(NETWORK, None)
    save(convert(randomised(NETWORK), wrapping, minimum_os=16, precision="fp16"), root / "model.mlpackage")
    return root / "model.mlpackage"


@pytest.fixture
def here(core_ml: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Core ML of this process: the made-up one does not reach into others."""

    def apart(package: Path, units: str, protocol: Any, *, with_energy: bool, patience: float) -> Record:
        assert with_energy is False and patience == 9
        return measure(package, units, protocol, with_energy=with_energy)

    def compared(package: Path, reference: Expected, units: str, least_db: float, *, patience: float) -> Agreement:
        assert patience == 600
        return compare(load(package), reference, units, least_db)

    monkeypatch.setattr(worker, "measure_apart", apart)
    monkeypatch.setattr(worker, "compare_apart", compared)
    return core_ml


QUICK = ("--no-energy", "--patience", "9")


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML is there")
@pytest.mark.parametrize(
    ("arguments", "instead"),
    [(("measure", "any.mlpackage"), "estimate"), (("verify", "any.mlpackage", "--data", "digits"), "evaluate")],
)
def test_off_macos_both_name_other_ways(command: Callable[..., Any], arguments: tuple[str, ...], instead: str) -> None:
    answer = command(*arguments)
    assert answer.code == 2 and answer.out == "" and answer.err.count("\n") == 1
    for part in ("only macOS has", f"`coreml-pareto {instead}`", "device-kit", "import-measurements", "phone in hand"):
        assert part in answer.err


def test_measure_prints_a_document_of_records(command: Callable[..., Any], here: Any, package: Path) -> None:
    answer = command("measure", str(package), "--compute-units", "ALL,CPU_ONLY,ALL", *QUICK, "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    found = document["records"]
    assert document["format"] == "coreml-pareto-measurements" and len(document["packages"]) == 1
    assert [one["compute_units"] for one in found] == ["ALL", "CPU_ONLY"]
    assert all(one["median_ms"] == 2.0 for one in found)
    assert "Measuring model.mlpackage on CPU_ONLY" in answer.err


def test_measure_for_people(command: Callable[..., Any], here: Any, package: Path) -> None:
    answer = command("measure", str(package), *QUICK)
    assert answer.code == 0
    for part in ("MacBook Air 13 (M2), macOS 15.1", "2 ms (2–2)", "Neural Engine", "memory is not measured"):
        assert part in answer.out


def test_units_that_fail_do_not_cost_the_others(command: Callable[..., Any], here: Any, package: Path) -> None:
    here.refused_units = {"CPU_AND_NE"}
    answer = command("measure", str(package), "--compute-units", "CPU_AND_NE,CPU_ONLY", *QUICK, "--json")
    assert answer.code == 2
    assert [one["compute_units"] for one in json.loads(answer.out)["records"]] == ["CPU_ONLY"]
    assert "1 of 2 measurements failed" in answer.err and "Failed to build" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--compute-units", "ANE"), "one or more of ALL, CPU_AND_NE, CPU_AND_GPU, CPU_ONLY; got ANE"),
        (("--compute-units", ","), "got none"),
        (("--rounds", "3"), "at least 20 rounds of 50"),
        (("--iphone", "iPhone 15 Pro"), "--iphone and --team go together"),
        (("--iphone", "Nokia", "--team", "T"), "a device is named as in the catalogue"),
    ],
)
def test_refusals(command: Callable[..., Any], here: Any, package: Path, arguments: tuple[str, ...], said: str) -> None:
    answer = command("measure", str(package), *arguments)
    assert answer.code == 2 and said in answer.err and here.loads == []


def test_what_measure_writes_is_read_whole(
    command: Callable[..., Any], here: Any, package: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mac.json"
    answer = command("measure", str(package), "--compute-units", "ALL,CPU_ONLY", *QUICK, "--out", str(out), "--json")
    assert answer.code == 0 and answer.out == out.read_text()
    found = read([out])
    assert [one.compute_units for one in found.records] == ["ALL", "CPU_ONLY"]
    assert found.packages[0].costs == costs(load(package)) and found.packages[0].name == "model.mlpackage"
    details = found.records[0].details
    assert details is not None and len(details.plan) > 10 and details.energy is None


def test_a_mac_that_the_catalogue_lacks_is_measured_and_the_consequence_said(
    command: Callable[..., Any], here: Any, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"machine_name": "MacBook", "machine_model": "Mac99,9", "chip_type": "Apple M9"}
    for module in (machine, records):
        monkeypatch.setattr(module, "hardware", lambda: known)
    answer = command("measure", str(package), *QUICK)
    told = " ".join(answer.out.split())
    assert answer.code == 0 and "Mac99,9, 15.1" in told and "nothing imported: a device is named" in told


@pytest.mark.parametrize("out", ["none/mac.json", "."])
def test_a_file_that_cannot_be_written_is_refused(
    command: Callable[..., Any], here: Any, package: Path, tmp_path: Path, out: str
) -> None:
    answer = command("measure", str(package), *QUICK, "--out", str(tmp_path / out))
    assert answer.code == 2 and "--out names a file" in answer.err


def test_a_missing_package_is_refused_before_the_first_is_measured(
    command: Callable[..., Any], here: Any, package: Path
) -> None:
    answer = command("measure", str(package), str(package.parent / "none.mlpackage"), *QUICK)
    assert answer.code == 2 and "does not exist" in answer.err and here.loads == []


def test_an_iphone_is_measured_through_the_cable(
    command: Callable[..., Any], here: Any, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(package: Path, units: str, device: Any, team: str, *, predictions: int, patience: float) -> Record:
        raise UserError(f"{device.name} {units} {team} {predictions} {patience:g}")

    monkeypatch.setattr(worker, "measure_on_phone", refuse)
    given = ("measure", str(package), "--iphone", "iPhone15Pro", "--team", "ABC")
    assert f"iPhone 15 Pro ALL ABC {phone.PREDICTIONS} 600" in command(*given).err
    obeyed = ("--predictions", "20", "--patience", "9", "--no-energy", "--cold", "0")
    assert "iPhone 15 Pro ALL ABC 20 9" in command(*given, *obeyed).err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rounds", "20"), "got --rounds; leave it out"),
        (("--cold", "20"), "got --cold; leave it out"),
        (("--energy",), "got --energy; leave it out"),
        (("--rounds", "30", "--cold", "20", "--energy"), "got --rounds, --cold, --energy; leave them out"),
        (("--predictions", "19"), "at least 20; got --predictions 19"),
    ],
)
def test_an_iphone_refuses_what_it_cannot_obey(
    command: Callable[..., Any],
    here: Any,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setattr(worker, "measure_on_phone", lambda *_, **__: pytest.fail("measured"))
    answer = command("measure", str(package), "--iphone", "iPhone 15 Pro", "--team", "ABC", *arguments)
    assert answer.code == 2 and said in answer.err and answer.err.count("\n") == 1
    if "--predictions" not in arguments:
        assert "device-kit" in answer.err and "--predictions and --patience are obeyed" in answer.err


def test_a_phone_that_stalls_ends_with_a_sentence(
    command: Callable[..., Any], core_ml: Any, iphone_apart: Callable[..., None], package: Path
) -> None:
    iphone_apart(stalled="list")
    place = ("--iphone", "iPhone 15 Pro", "--team", "TEAM", "--patience", "15")
    answer = command("measure", str(package), *place)
    assert answer.code == 2 and "a measurement on the iPhone ends within 15 s; model.mlpackage on ALL" in answer.err


def test_verify_compares_every_unit(command: Callable[..., Any], here: Any, package: Path) -> None:
    program = load(package)
    weight = next(one for one in program.operations if one.kind == "conv").one("weight")
    assert isinstance(weight, Constant)
    here.wrong = {"CPU_AND_NE": weight.name}
    arguments = ("verify", str(package), "--data", "digits", "--images", "5")
    told = json.loads(command(*arguments, "--json").out)
    units = {one["compute_units"]: one for one in told["units"]}
    assert set(units) == {"ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY"}
    assert all(one["images"] == 5 and one["logits_db"] > 60 for name, one in units.items() if name != "CPU_AND_NE")
    assert units["CPU_AND_NE"]["first"]["kind"] == "conv" and units["ALL"]["first"] is None
    assert told["device"] == "MacBook Air 13 (M2)" and told["digest"] == content_digest(program)
    shown = command(*arguments, "--compute-units", "CPU_AND_NE,CPU_ONLY").out
    assert "first operation that differs: conv -> " in shown and "5 test images of digits" in shown


def test_verify_goes_on_after_a_unit_that_fails(command: Callable[..., Any], here: Any, package: Path) -> None:
    here.refused_units = {"ALL"}
    answer = command(
        "verify", str(package), "--data", "digits", "--images", "2", "--compute-units", "ALL,CPU_ONLY", "--json"
    )
    assert answer.code == 2 and "1 of 2 choices of units failed" in answer.err
    assert [one["compute_units"] for one in json.loads(answer.out)["units"]] == ["CPU_ONLY"]


def test_verify_ends_a_load_that_stalls(
    command: Callable[..., Any], core_ml: Any, core_ml_apart: Callable[..., None], package: Path
) -> None:
    core_ml_apart(stalled_units={"ALL"})
    arguments = ("--images", "2", "--compute-units", "ALL,CPU_ONLY", "--patience", "40", "--json")
    answer = command("verify", str(package), "--data", "digits", *arguments)
    assert answer.code == 2 and "a comparison ends within 40 s; model.mlpackage on ALL gave no answer" in answer.err
    (one,) = json.loads(answer.out)["units"]
    assert one["compute_units"] == "CPU_ONLY" and one["same_top1"] == 1.0 and one["logits_db"] > 60
    assert core_ml.loads == []  # nothing was loaded in this process


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--images", "0"), "--images is at least 1"),
        (("--split", "all"), "a split is train, validation or test"),
        (("--mean", "0.5", "--std", "0.5"), "leave --mean and --std out"),
    ],
)
def test_verify_refuses(
    command: Callable[..., Any], core_ml: Any, package: Path, arguments: tuple[str, ...], said: str
) -> None:
    answer = command("verify", str(package), "--data", "digits", *arguments)
    assert answer.code == 2 and said in answer.err
