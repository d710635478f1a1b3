"""The app that measures on a phone: what is written, and that its Swift is Swift.

The app was never built or run here: no Mac. A grammar reads every file, and the names that cross the border between
Swift and Python are compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_swift
from tree_sitter import Language, Node, Parser

from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Target, find_device
from coreml_pareto.objectives.devices.measurements import Details, MeasuredPackage, Measurements, Placement, Record
from coreml_pareto.objectives.latency import latency
from coreml_pareto.objectives.measuring import local
from coreml_pareto.objectives.measuring.protocol import Protocol, Series
from coreml_pareto.objectives.program import Cost, content_digest, costs, load
from coreml_pareto.objectives.workload import eta, total
from coreml_pareto.search.cli import main
from coreml_pareto.search.delivery import calibration, kit
from coreml_pareto.search.delivery.calibration import SET, calibration_package
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.errors import UserError

TEMPLATE = Path(str(files("coreml_pareto.search.delivery"))) / "device_kit"
SWIFT = sorted(TEMPLATE.rglob("*.swift"))
PARSER = Parser(Language(tree_sitter_swift.language()))
NASTY = 'my "run" \\(exit()) \\u{0} 🐦 שלום \u202e"""'
UNITS: tuple[ComputeUnits, ...] = ("ALL", "CPU_ONLY")


def nodes(root: Node) -> Iterator[Node]:
    yield root
    for child in root.children:
        yield from nodes(child)


def parsed(path: Path) -> list[Node]:
    return list(nodes(PARSER.parse(path.read_bytes()).root_node))


def wrong(found: list[Node]) -> list[str]:
    return [f"line {n.start_point.row + 1}: {n.text!r}" for n in found if n.type == "ERROR" or n.is_missing]


def declared(path: Path) -> dict[str, set[str]]:
    """Names of the types and functions that a file declares, by what they are."""
    kinds = {"class_declaration": "type", "protocol_declaration": "type", "function_declaration": "function"}
    found: dict[str, set[str]] = {"type": set(), "function": set()}
    for node in parsed(path):
        if node.type in kinds and (name := node.child_by_field_name("name")) is not None and name.text:
            found[kinds[node.type]].add(name.text.decode())
    return found


def coding_keys(path: Path) -> dict[str, set[str]]:
    """The names in JSON of each Codable type of a file."""
    text = path.read_text("utf-8")
    found = {}
    for match in re.finditer(r"struct (\w+): Codable.*?enum CodingKeys: String, CodingKey \{(.*?)\}", text, re.DOTALL):
        found[match[1]] = set(re.findall(r'case \w+ = "(\w+)"', match[2]))
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that stands for all others where only files matter."""
    return calibration_package("tiny", Store(tmp_path_factory.mktemp("store")))


@pytest.fixture
def run(small: Path, draw_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A run with a hostile name whose packages, and those of the calibration set, are all the same small one."""
    monkeypatch.setattr(calibration, "calibration_package", lambda name, store: small)
    drawn = draw_run(6)

    def real(result: Result) -> Result:
        scored = result.outcome
        return replace(result, outcome=replace(scored, package=small)) if isinstance(scored, Scored) else result

    return replace(
        drawn, study=NASTY, folder=tmp_path / NASTY.replace("/", ""), results=tuple(map(real, drawn.results))
    )


# --- the Swift --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SWIFT, ids=lambda path: path.name)
def test_a_grammar_reads_every_file(path: Path) -> None:
    assert not wrong(parsed(path))


def test_the_grammar_sees_what_is_no_swift() -> None:
    assert wrong(list(nodes(PARSER.parse(b"struct A { func f( { }").root_node)))


def forced(found: list[Node]) -> list[str]:
    """Unwrapping by `!`, `try!` and `as!`; a `!` in front is a negation."""
    marks = [n for n in found if n.type in ("bang", "try_operator", "as_operator") and (n.text or b"").endswith(b"!")]
    return [
        f"line {n.start_point.row + 1}: {n.text!r}" for n in marks if n.parent and n.parent.type != "prefix_expression"
    ]


@pytest.mark.parametrize("path", SWIFT, ids=lambda path: path.name)
def test_nothing_is_unwrapped_by_force(path: Path) -> None:
    assert not forced(parsed(path))


def test_the_search_for_force_finds_it() -> None:
    source = b"let a = b!\nlet c = try! f()\nlet d = e as! F\nlet g = !h\nlet i = try? j()\n"
    assert forced(list(nodes(PARSER.parse(source).root_node))) == ["line 1: b'!'", "line 2: b'try!'", "line 3: b'as!'"]


@pytest.mark.parametrize(
    ("file", "types", "functions"),
    [
        (
            "Benchmark",
            {"Benchmark", "Compiled"},
            {"compile", "measure", "load", "warm", "rounds", "coldSeries", "waitUntilCool", "unusual"},
        ),
        ("Predictor", {"Predictor"}, {"predict", "once"}),
        ("Outputs", {"Outputs"}, {"options", "buffers"}),
        ("Footprint", {"Footprint", "FootprintWatch", "Seen"}, {"read", "look", "seen"}),
        ("Battery", {"Battery"}, {"level"}),
        ("Kit", {"Kit", "Rules", "KitPackage", "Cost", "ComputeUnits", "KitFolder"}, {"find", "kit", "package"}),
        ("Measurements", {"Measurements", "MeasuredPackage", "Record", "Details"}, {"data"}),
        ("DeviceFacts", {"DeviceFacts", "Condition"}, {"read", "now"}),
        ("Statistics", {"Statistics"}, {"quantile", "agree"}),
        ("Inputs", {"Inputs"}, {"make"}),
        ("Placement", {"Placement"}, {"of"}),
        ("KitError", {"KitError"}, set()),
        ("Session", {"Session"}, {"open", "start", "stop", "file"}),
        ("MeasurementsFile", {"MeasurementsFile"}, {"fileWrapper"}),
        ("DeviceKitApp", {"DeviceKitApp", "ContentView"}, set()),
    ],
)
def test_what_matters_is_declared(file: str, types: set[str], functions: set[str]) -> None:
    found = declared(TEMPLATE / "Sources" / f"{file}.swift")
    assert types <= found["type"] and functions <= found["function"]


def test_every_error_of_the_app_is_thrown_somewhere() -> None:
    text = {path.name: path.read_text("utf-8") for path in SWIFT}
    cases = re.findall(r"^    case (\w+)", text["KitError.swift"].split("extension")[0], re.MULTILINE)
    others = "".join(content for name, content in text.items() if name != "KitError.swift")
    assert cases and not [case for case in cases if f"KitError.{case}" not in others]


def test_the_app_writes_the_fields_that_we_read() -> None:
    found = {**coding_keys(TEMPLATE / "Sources/Measurements.swift"), **coding_keys(TEMPLATE / "Sources/Kit.swift")}
    found |= coding_keys(TEMPLATE / "Sources/Placement.swift")
    for model in (Measurements, MeasuredPackage, Placement):
        assert found[model.__name__] == set(model.model_fields), model.__name__
    assert found["Record"] == set(Record.model_fields)
    only_measure = {"python_median_ms", "round_medians_ms", "energy", "plan", "tools"}
    assert found["Details"] == set(Details.model_fields) - only_measure
    assert found["Cost"] == {field.name for field in fields(Cost)}
    assert found["Rules"] == set(kit.PROTOCOL)
    assert found["KitPackage"] == {*MeasuredPackage.model_fields, "file"}


def test_what_is_shared_names_its_type() -> None:
    """Through `.suggestedFileName` Swift need not infer what a closure takes."""
    shared = (TEMPLATE / "Sources/MeasurementsFile.swift").read_text("utf-8")
    assert "{ (file: MeasurementsFile) in" in shared


def test_the_app_names_what_we_accept() -> None:
    kinds = (TEMPLATE / "Sources/Kit.swift").read_text("utf-8")
    assert set(re.findall(r'case \w+ = "([A-Z_]+)"', kinds)) == {"ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY"}
    facts = (TEMPLATE / "Sources/DeviceFacts.swift").read_text("utf-8")
    assert set(re.findall(r'thermal: "(\w+)", isCool: true', facts)) == {"nominal", "fair"}
    assert '"coreml-pareto-measurements"' in (TEMPLATE / "Sources/Measurements.swift").read_text("utf-8")


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.fixture
def written(run: Run, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A kit, and what its kit.json says."""
    kit.check(run, tmp_path / "kit")
    app = kit.write_kit(run, tmp_path / "kit", UNITS).app
    return app, json.loads((app / "Sources/Kit/kit.json").read_text("utf-8"))


def test_the_kit_holds_the_front_and_the_calibration_set(written: tuple[Path, dict[str, Any]], run: Run) -> None:
    app, plain = written
    shown = [package["file"] for package in plain["packages"]]
    assert shown == [
        *(f"front-{result.trial:04}.mlpackage" for result in kit.front(run)),
        *(f"calibration-{name}.mlpackage" for name in SET),
    ]
    assert plain["run"] == NASTY and plain["compute_units"] == list(UNITS) and plain["protocol"]["rounds"] == 20
    for package in plain["packages"]:
        assert content_digest(load(app / "Sources/Kit" / package["file"])) == package["digest"]
    assert (app.parent / "README.md").is_file()


def test_the_swift_that_is_written_is_the_template_whatever_the_run_is_called(
    written: tuple[Path, dict[str, Any]],
) -> None:
    app, _ = written
    for path in SWIFT:
        copy = app / path.relative_to(TEMPLATE)
        assert copy.read_bytes() == path.read_bytes() and not wrong(parsed(copy))
    others = {path.relative_to(app).parts[:2] for path in app.rglob("*") if path.is_file() and path.suffix != ".swift"}
    assert others == {("Sources", "Kit")}


def test_what_the_app_passes_on_is_accepted(written: tuple[Path, dict[str, Any]]) -> None:
    """The file of an app that measured: the kit's packages without their files, and a record of each."""
    _, plain = written
    packages = {p["digest"]: {k: v for k, v in p.items() if k != "file"} for p in plain["packages"]}
    record = {
        "device": "iPhone17,1", "os": "18.0.0", "os_build": "22A3354", "harness": plain["harness"],
        "compute_units": "ALL", "median_ms": 0.5, "p10_ms": 0.4, "p90_ms": 0.6, "trimmed_mean_ms": 0.5,
        "compile_ms": 80.0, "load1_ms": 90.0, "load2_ms": 9.0, "rounds": 20, "predictions_per_round": 50, "warm_up": 5,
        "thermal": "nominal", "low_power": False, "measured_at": "2026-11-25T10:00:00Z", "back_to_back": True,
        "operations": {"neural_engine": 60, "gpu": 0, "cpu": 2},
        "details": {
            "footprint_bytes": 9_000_000, "footprint_before_bytes": 30_000_000, "footprint_after_bytes": 38_000_000,
            "battery_level": 0.8500000238418579, "warnings": ["the warm-up never settled"],
        },
    }  # fmt: skip
    whole = {"format": "coreml-pareto-measurements", "version": 1, "unit": "ms", "packages": list(packages.values())}
    found = Measurements.model_validate(whole | {"records": [record | {"digest": digest} for digest in packages]})
    assert found.records[0].target.conditions["os"] == "iOS 18"
    details = found.records[0].details
    assert details is not None and (details.battery_level, details.footprint_bytes) == (0.8500000238418579, 9_000_000)


def test_the_app_needs_what_its_packages_need() -> None:
    manifest = (TEMPLATE / "Package.swift").read_text("utf-8")
    newer = kit._for_system(manifest, 18)
    assert '.iOS("18.0")' in newer and not wrong(list(nodes(PARSER.parse(newer.encode()).root_node)))
    with pytest.raises(RuntimeError, match=r"Package\.swift"):
        kit._for_system(newer, 18)


def test_refusals_leave_nothing(run: Run, tmp_path: Path, draw_run: Callable[..., Run]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    for out in (tmp_path / "full", tmp_path / "full/file"):
        with pytest.raises(UserError, match="empty"):
            kit.check(run, out)
    with pytest.raises(UserError, match="has none"):
        kit.check(draw_run(0), tmp_path / "kit")
    with pytest.raises(UserError, match="ANE"):
        kit.parse_units("ALL,ANE")
    with pytest.raises(UserError, match="is gone"):
        kit.write_kit(draw_run(3), tmp_path / "kit", UNITS)
    assert not (tmp_path / "kit").exists() and not list(tmp_path.glob(".*"))


def test_the_command_says_what_it_wrote(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("coreml_pareto.search.study.load_run", lambda folder: run)
    assert main(["device-kit", "RUN", "--out", str(tmp_path / "kit"), "--compute-units", "ALL"]) == 0
    told = capsys.readouterr().out
    assert f"{len(kit.front(run))} packages of the front, 6 to calibrate" in " ".join(told.split())
    assert main(["device-kit", "RUN", "--out", str(tmp_path / "kit")]) == 2


# --- the calibration set ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def terms(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[float, ...]]:
    """Dense GMAC, depthwise GMAC, weight MB as stored, activation MB of the real set."""
    target = Target(find_device("iPhone 15 Pro"), 17)
    found = {}
    for name in SET:
        rows = costs(load(calibration_package(name, Store(tmp_path_factory.mktemp("set")))))
        work = total(rows, eta=eta(target, "Neural Engine"))
        moved = (work.effective_weight_bytes / 1e6, work.activation_bytes / 1e6)
        found[name] = (work.dense_macs / 1e9, work.depthwise_macs / 1e9, *moved)
        found[name] = (*found[name], sum(row.weight_bytes for row in rows) / 1e6)
        found[name] = (*found[name], latency(rows, target)["latency_ms"].value)
    return found


def test_the_calibration_set_tells_the_terms_apart(terms: Mapping[str, tuple[float, ...]]) -> None:
    weight, moved, stored, estimate = 2, 3, 4, 5
    assert min(terms, key=lambda name: terms[name][estimate]) == "tiny"
    assert terms["weights"][weight] > 10 * terms["weights"][moved]
    assert terms["activations"][moved] > 10 * terms["activations"][weight]
    small, large, int8 = (terms[name] for name in ("small-input", "large-input", "w8a8"))
    assert small[weight] == pytest.approx(large[weight], rel=1e-3) and large[moved] > 3.5 * small[moved]
    assert int8[0] == small[0] and int8[stored] < 0.6 * small[stored]


# --- the protocol -----------------------------------------------------------------------------------------------------


def code(name: str) -> str:
    """A file of the app without its comments."""
    return re.sub(r"//.*", "", (TEMPLATE / "Sources" / f"{name}.swift").read_text("utf-8"))


def function(file: str, name: str) -> Node:
    """A function of the app by its name."""
    for node in parsed(TEMPLATE / "Sources" / f"{file}.swift"):
        found = node.child_by_field_name("name") if node.type == "function_declaration" else None
        if found is not None and found.text == name.encode():
            return node
    raise LookupError(f"{file}.swift has no function {name}")


def words(node: Node) -> str:
    return (node.text or b"").decode()


def throws(node: Node) -> list[str]:
    """The errors that a function itself throws; what it lets through is not among them."""
    leaving = (words(n) for n in nodes(node) if n.type == "control_transfer_statement")
    return [text for text in leaving if text.startswith("throw")]


def test_the_app_and_measure_share_one_protocol() -> None:
    ours, app = Protocol(cold=20), kit.PROTOCOL
    names = {
        "rounds": "rounds", "predictions": "predictions_per_round", "agreeing": "agreeing_calls", "agreement": "agreement",
        "least": "least_warm_up", "most": "most_warm_up", "forgiven": "forgiven_failures", "cold": "cold_calls",
        "pause": "cold_pause_seconds",
    }  # fmt: skip
    assert {field.name for field in fields(Protocol)} == set(names), "a rule that the app does not know"
    assert {theirs: getattr(ours, name) for name, theirs in names.items()} == {
        key: value for key, value in app.items() if key != "cooling_seconds"
    }
    assert (ours.rounds, ours.predictions, ours.agreeing, ours.agreement) == (20, 50, 3, 0.05)


def test_every_rule_is_followed_somewhere() -> None:
    text = code("Kit").split("struct Rules")[1].split("enum CodingKeys")[0]
    rules = re.findall(r"let (\w+):", text)
    assert len(rules) == len(kit.PROTOCOL) and not [rule for rule in rules if f"rules.{rule}" not in code("Benchmark")]


def test_a_warm_up_that_never_settles_is_noted_by_both_and_stops_neither() -> None:
    assert throws(function("Benchmark", "checked")), "the search for errors finds some"
    assert not throws(function("Benchmark", "warm")) and not throws(function("Benchmark", "rounds"))
    assert "unsteady" not in code("KitError")
    warm = words(function("Benchmark", "warm"))
    assert warm.rindex("isSteady: false") > warm.rindex("isSteady: true") > warm.index("while ")
    (ours,) = local._unusual(Series(warm_up=500), Protocol())
    said = words(function("Benchmark", "unusual"))
    said = said.replace("\\(rules.agreeingCalls)", "3").replace("\\($0.calls)", "500")
    assert f'"{ours}"' in said and "warnings: unusual(series, predictor)" in code("Benchmark")
    assert "record.details.warnings" in code("Session")


def test_one_prediction_that_fails_is_repeated_and_noted_by_both() -> None:
    repeated = words(function("Predictor", "predict"))
    assert "failures.append(" in repeated and "failures.count <= forgiven" in repeated
    (ours,) = local._unusual(Series(stable=True, failures=["X"]), Protocol())
    assert f'"{ours}"' in words(function("Benchmark", "unusual")).replace("\\($0)", "X")


def test_loads_and_predictions_are_intervals_around_the_clock() -> None:
    for file, name, told in (("Benchmark", "load", "load"), ("Predictor", "once", "prediction")):
        text = words(function(file, name))
        begin, end = f'signposter.beginInterval("{told}")', f'defer {{ signposter.endInterval("{told}", interval) }}'
        assert text.index(begin) < text.index(end) < text.index("let start = clock.now"), name
    assert "import os" in code("Predictor") and "OSSignposter(subsystem:" in code("Benchmark")


def test_every_prediction_has_one_input_and_buffers_for_its_output() -> None:
    sources = [path.stem for path in SWIFT if path.parent.name == "Sources"]
    asked = [line for name in sources for line in re.findall(r"model\.prediction\(.*", code(name))]
    assert asked and all("from: input, options: options)" in line for line in asked)
    options = words(function("Outputs", "options"))
    assert "options.outputBackings = buffers(for: model)" in options
    assert options.index("(try? model.prediction(") < options.index("options.outputBackings = [:]")
    assert "multiArrayConstraint" in words(function("Outputs", "buffers"))


def test_the_footprint_is_the_kernels_and_is_read_before_anything_else_is_loaded() -> None:
    read = words(function("Footprint", "read"))
    for part in (
        "task_info(",
        "TASK_VM_INFO",
        "phys_footprint",
        "ledger_phys_footprint_peak",
        "status == KERN_SUCCESS",
    ):
        assert part in read
    assert "mach_task_self_" not in code("Footprint")  # Swift 6 refuses it with the SDKs before macOS 15.4
    measure = words(function("Benchmark", "measure"))
    order = [
        "waitUntilCool()",
        "FootprintWatch()",
        "load(compiled",
        "rounds(predictor",
        "memory.seen()",
        "Placement.of(",
    ]
    assert sorted(order, key=measure.index) == order


def test_the_battery_is_read_where_there_is_one() -> None:
    """The file is part of a tool for the Mac, too, which has no UIKit."""
    text = code("Battery")
    assert re.match(r"#if canImport\(UIKit\)\s+import UIKit\s+#endif", text)
    level = words(function("Battery", "level"))
    assert "@MainActor" in level and "isBatteryMonitoringEnabled = true" in level
    assert level.index("#if canImport(UIKit)") < level.index("UIDevice.current") < level.index("#else")
    assert "level < 0 ? nil" in level and "await Battery.level()" in code("Benchmark")
