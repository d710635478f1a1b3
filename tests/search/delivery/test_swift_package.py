"""The Swift that is handed over: that it is Swift, what it promises, and that nothing of a run gets into it.

It was never built or run here: no Mac. A grammar reads every file; promises that the language gives (one load, no force,
nothing unchecked) are looked for in its tree; and the names that cross the border to Python are compared.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, get_args

import pytest

from coreml_pareto.objectives.devices.catalogue import ComputeUnits
from coreml_pareto.objectives.measuring.protocol import Protocol
from coreml_pareto.objectives.program import content_digest, load
from coreml_pareto.search.delivery import kit
from coreml_pareto.search.delivery import swift as writing
from coreml_pareto.search.delivery.handover import Written
from coreml_pareto.search.delivery.subject import Subject
from coreml_pareto.search.delivery.swift import KIT, manifest_for, systems

if TYPE_CHECKING:
    from conftest import Grammar

HOME = Path(str(files("coreml_pareto.search.delivery")))
TEMPLATE = HOME / "swift_package"
LIBRARY = TEMPLATE / "Sources" / "OptimizedModel"
SWIFT = sorted(TEMPLATE.rglob("*.swift"))
BY_FILE = pytest.mark.parametrize("path", SWIFT, ids=lambda path: path.name)
ABORTS = {"fatalError", "preconditionFailure", "precondition", "assertionFailure", "assert", "exit", "abort"}


def text_of(name: str) -> str:
    return (LIBRARY / f"{name}.swift").read_text("utf-8")


def calls(swift: Grammar, source: bytes) -> list[str]:
    """What is called by its bare name: functions, and types that are made."""
    found = (n.children[0] for n in swift.nodes(source) if n.type == "call_expression")
    return [name.text.decode() for name in found if name.type == "simple_identifier" and name.text]


@BY_FILE
def test_a_grammar_reads_every_file(path: Path, swift: Grammar) -> None:
    assert not swift.wrong(path.read_bytes())


@BY_FILE
def test_nothing_is_forced_aborted_or_unchecked(path: Path, swift: Grammar) -> None:
    source = path.read_bytes()
    marks = [n for n in swift.nodes(source) if n.type in ("bang", "try_operator", "as_operator")]
    forced = [n for n in marks if (n.text or b"").endswith(b"!") and n.parent and n.parent.type != "prefix_expression"]
    assert not [f"line {n.start_point.row + 1}" for n in forced]
    allowed = {"exit"} if path.name == "BenchmarkTool.swift" else set()  # a tool ends with a code
    assert not (set(calls(swift, source)) & ABORTS) - allowed
    code = re.sub(r"//.*", "", path.read_text("utf-8"))
    assert not re.findall(r"@unchecked|nonisolated\(unsafe\)|@preconcurrency|unsafeBitCast|\bas!|\btry!", code)


def test_the_search_for_aborts_finds_them(swift: Grammar) -> None:
    assert calls(swift, b'func f() { fatalError("x"); g(1); Foo(a: 2) }') == ["fatalError", "g", "Foo"]


def test_one_actor_owns_the_model_and_loads_it_once(swift: Grammar) -> None:
    runner = swift.types((LIBRARY / "ModelRunner.swift").read_bytes())["ModelRunner"]
    assert runner.children[0].type == "actor" or b"actor" in {child.text for child in runner.children}
    assert {"ready()", "open()", "load()"} <= swift.functions(runner)
    made = {path.name: calls(swift, path.read_bytes()) for path in LIBRARY.glob("*.swift")}
    assert [name for name, found in made.items() if "MLModel" in found] == ["LoadedModel.swift"]
    assert sorted(name for name, found in made.items() if "LoadedModel" in found) == [
        "ModelRunner.swift", "VisionClassifier.swift",
    ]  # fmt: skip
    ready = next(
        n for n in swift.below(runner)
        if n.type == "function_declaration" and (n.text or b"").startswith(b"private func ready")
    )  # fmt: skip
    body = (ready.text or b"").decode()
    assert (
        body.index("if let loaded { return loaded }") < body.index("loading ?? Task") < body.index("await task.value")
    )


def test_the_playbooks_call_and_all_others_are_there(swift: Grammar) -> None:
    source = (LIBRARY / "OptimizedModelManager.swift").read_bytes()
    manager = swift.types(source)["OptimizedModelManager"]
    assert {
        "load()", "labels()", "predict(image:orientation:isolation:)", "predict(pixelBuffer:orientation:isolation:)",
        "predict(contentsOf:)", "predict(images:isolation:)", "predict(batch:)", "prepare(_:orientation:)",
    } <= swift.functions(manager)  # fmt: skip
    text = source.decode()
    assert "public final class OptimizedModelManager: Sendable" in text
    assert re.search(r"public init\(computeUnits: ComputeUnits\? = nil\) \{", text), "OptimizedModelManager() is enough"
    assert (
        "orientation: CGImagePropertyOrientation = .up" in text
        and "isolation: isolated (any Actor)? = #isolation" in text
    )
    extension = swift.types((LIBRARY / "SwiftUIImages.swift").read_bytes())["OptimizedModelManager"]
    assert swift.functions(extension) == {"predict(image:)"}


@pytest.mark.parametrize("path", [*LIBRARY.glob("*.swift")], ids=lambda path: path.name)
def test_whatever_is_thrown_is_typed(path: Path) -> None:
    code = re.sub(r"//.*", "", path.read_text("utf-8"))
    untyped = re.findall(r"\bthrows\b(?!\()", code)
    assert len(untyped) == (2 if path.name == "ClassifierView.swift" else 0)  # inside the sample: PhotosUI is untyped


def test_pixels_are_opaque_and_read_while_their_canvas_lives() -> None:
    """Core Graphics owns the memory, and leaves the fourth byte undefined: a frame of these pixels must not fade."""
    code = text_of("PreparedImage")
    assert re.search(r"withExtendedLifetime\(context\) \{.*\n\s+Array\(UnsafeRawBufferPointer\(start: drawn", code)
    assert "stride(from: 3, to: pixels.count, by: 4)" in code and "] = 255" in code


def test_labels_come_from_the_facts_and_each_answer_is_held_against_them() -> None:
    """Not from `classLabels`, of which nothing says that every system fills it for ML programs."""
    code = text_of("LoadedModel")
    assert not re.search(r"\.classLabels", code) and "found.count == labels.count" in code
    assert "labels: facts.labels" in text_of("ModelRunner") and "labels: facts.labels" in text_of("VisionClassifier")


def test_a_model_that_another_one_has_put_there_is_taken() -> None:
    code = text_of("ModelFiles")
    assert "moveItem(at: temporary, to: place)\n            } catch _ where exists(place) {" in code


def test_the_tests_run_inside_an_app_too() -> None:
    """Xcode refuses a package's own tests on a phone, so their files must find the samples without `Bundle.module`."""
    golden = (TEMPLATE / "Tests/OptimizedModelTests/Golden.swift").read_text("utf-8")
    assert re.search(
        r"#if SWIFT_PACKAGE\n.*Bundle\.module\n.*#else\n.*Bundle\(for: GoldenTests\.self\)\n.*#endif", golden
    )
    assert golden.count("Bundle.module") == 1
    assert "unit test\ntarget (its host application is the app" in (TEMPLATE / "README.md").read_text("utf-8")


def test_every_error_is_thrown_and_told() -> None:
    cases = re.findall(r"^    case (\w+)", text_of("OptimizedModelError").split("extension")[0], re.MULTILINE)
    others = "".join(path.read_text("utf-8") for path in LIBRARY.glob("*.swift") if "Error" not in path.name)
    ours = text_of("OptimizedModelError")
    assert len(cases) == 8
    assert not [case for case in cases if f"OptimizedModelError.{case}" not in others + ours.split("extension")[0]]
    assert set(re.findall(r"case \.(\w+)", ours.split("extension")[1])) == set(cases)


def test_vision_cuts_as_the_rule_says() -> None:
    code = text_of("VisionClassifier")
    assert re.search(r"case \.shortestSide: \.centerCrop\n\s+case \.squash: \.scaleFill", code)
    assert ".imageCropAndScaleOption = rule.visionOption" in code and ".regionOfInterest = region" in code
    assert set(re.findall(r'case \w+ = "(\w+)"', text_of("ModelFacts").split("public enum Resize")[1].split("}")[0])) == {
        "shortest_side", "squash",
    }  # fmt: skip


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package(written: Written) -> Path:
    return written.folder / "OptimizedModel"


def test_the_swift_is_the_template_whatever_the_names_are(
    package: Path, swift: Grammar, hostile: SimpleNamespace
) -> None:
    found = {path.relative_to(package) for path in package.rglob("*.swift")}
    ours = {path.relative_to(TEMPLATE) for path in SWIFT}
    taken = {Path("Sources/OptimizedModelBenchmark") / f"{name}.swift" for name in KIT}
    assert found == ours | taken
    for name in found - {Path("Package.swift")}:
        origin = TEMPLATE / name if name in ours else HOME / "device_kit/Sources" / name.name
        assert (package / name).read_bytes() == origin.read_bytes()
    assert not swift.wrong((package / "Package.swift").read_bytes())
    text = "".join((package / name).read_text("utf-8") for name in found)
    spelled = [form for name in (*hostile.labels, hostile.client) for form in (name, json.dumps(name)[1:-1])]
    assert not [name for name in spelled if name in text]


def test_the_labels_are_in_the_model_and_nowhere_pasted(package: Path, subject: Subject) -> None:
    model = load(package / "Sources/OptimizedModel/Model/optimized_model.mlpackage")
    golden = json.loads((package / "Tests/OptimizedModelTests/Golden/golden.json").read_text("utf-8"))
    assert model.labels == subject.labels == tuple(golden["labels"])


def test_the_facts_are_those_that_swift_reads(package: Path, subject: Subject) -> None:
    facts = json.loads((package / "Sources/OptimizedModel/Model/optimized_model.json").read_text("utf-8"))
    enums = re.findall(r"enum CodingKeys: String, CodingKey \{(.*?)\}", text_of("ModelFacts"), re.DOTALL)
    keys = [set(re.findall(r'case \w+ = "(\w+)"', part)) for part in enums]
    assert keys[0] == facts.keys() and keys[1] < facts["preprocessing"].keys()
    assert facts["preprocessing"] == subject.rule.model_dump() and tuple(facts["labels"]) == subject.labels
    assert facts["digest"] == content_digest(load(package / "Sources/OptimizedModel/Model/optimized_model.mlpackage"))
    units = re.findall(r'case \w+ = "([A-Z_]+)"', text_of("ComputeUnits"))
    assert set(units) == set(get_args(ComputeUnits)) and facts["compute_units"] in units


def test_the_benchmark_has_every_file_that_its_files_name(swift: Grammar) -> None:
    """Of the device kit: one that is left out, and the tool does not compile."""
    sources = {path.stem: path.read_bytes() for path in (HOME / "device_kit/Sources").glob("*.swift")}
    home = {name: file for file, source in sources.items() for name in swift.types(source)}
    own = [path.read_bytes() for path in (TEMPLATE / "Sources/OptimizedModelBenchmark").glob("*.swift")]
    leaves = (n for source in (*own, *(sources[name] for name in KIT)) for n in swift.nodes(source) if not n.children)
    named = {
        leaf.text.decode() for leaf in leaves if leaf.type in ("simple_identifier", "type_identifier") and leaf.text
    }
    assert {"Benchmark", "FootprintWatch", "Battery"} <= named
    assert {home[name] for name in named & home.keys()} == set(KIT)


def test_the_benchmark_needs_no_screen() -> None:
    for name in KIT:
        text = (HOME / f"device_kit/Sources/{name}.swift").read_text("utf-8")
        elsewhere = re.sub(r"#if canImport\(UIKit\)\n.*?(#else|#endif)", "", text, flags=re.DOTALL)
        assert not re.findall(r"UIKit|SwiftUI|UIDevice|UIApplication", elsewhere), name


def test_the_benchmark_measures_by_the_device_kits_rules(package: Path, subject: Subject) -> None:
    plan = json.loads((package / "Sources/OptimizedModelBenchmark/Kit/kit.json").read_text("utf-8"))
    assert plan["harness"] == kit.HARNESS and plan["protocol"] == kit.PROTOCOL
    assert (plan["protocol"]["rounds"], plan["protocol"]["agreement"]) == (Protocol().rounds, Protocol().agreement)
    assert [(row["file"], row["digest"]) for row in plan["packages"]] == [(writing.MODEL, subject.digest)]
    assert plan["compute_units"] == list(get_args(ComputeUnits))


@pytest.mark.parametrize(("oldest", "ios", "macos"), [(16, 16, 13), (17, 17, 14), (18, 18, 15), (26, 26, 26)])
def test_the_oldest_systems_are_those_of_the_model(oldest: int, ios: int, macos: int, swift: Grammar) -> None:
    text = manifest_for((TEMPLATE / "Package.swift").read_text("utf-8"), oldest)
    assert f'.iOS("{ios}.0")' in text and f'.macOS("{macos}.0")' in text and systems(oldest) == (ios, macos)
    assert text.startswith("// swift-tools-version: 6.0\n") and ".v6" in text
    assert not swift.wrong(text.encode())
    if oldest > 16:
        with pytest.raises(RuntimeError, match=r"Package\.swift"):
            manifest_for(text, 27)


def test_an_old_model_still_needs_ios_16(subject: Subject) -> None:
    """fp16 and tables of iOS 15 and 16: the Swift itself begins with 16."""
    assert subject.oldest == 16


def test_the_licence_is_the_projects(package: Path) -> None:
    assert (package / "LICENSE").read_text("utf-8") == (Path(__file__).parents[3] / "LICENSE").read_text("utf-8")
