"""How does an app get the model?  A Swift package around `OptimizedModelManager` and the resource `optimized_model`.

The Swift is in `swift_package/`, as it is: nothing of a run enters it but the oldest systems, two numbers in Package.swift.
Labels, the pre-processing rule and the compute units stand in optimized_model.json, what is expected of the samples in
golden.json; so names may hold anything. The benchmark target is the device kit's own Swift, of which a
copy is put in, and writes the same file.
"""

from __future__ import annotations

import json
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final, get_args

from coreml_pareto.objectives.devices.catalogue import ComputeUnits
from coreml_pareto.search.delivery.golden import Golden, write_golden
from coreml_pareto.search.delivery.kit import described, name_of, write_plan
from coreml_pareto.search.delivery.subject import Subject

RESOURCE: Final = "optimized_model"
PACKAGE: Final = "OptimizedModel"
MODEL: Final = f"{RESOURCE}.mlpackage"
KIT: Final = (
    "Battery", "Benchmark", "DeviceFacts", "Footprint", "Inputs", "Kit", "KitError", "Measurements", "Outputs", "Placement",
    "Predictor", "Statistics",
)  # fmt: skip
"""The device kit's files that measure and know no screen."""
_OLDEST: Final = (16, 13)
"""What the template says: iOS and macOS."""


def systems(oldest: int) -> tuple[int, int]:
    """An iOS release and the macOS of that autumn: 16 and 13, 26 and 26."""
    return oldest, oldest if oldest >= 26 else oldest - 3


def write_swift(subject: Subject, units: ComputeUnits, folder: Path) -> Golden:
    """Write the Swift package into a new folder; returns what its golden tests hold.

    Args:
        units: what its manager takes unless told otherwise.
    """
    with as_file(files("coreml_pareto.search.delivery")) as templates:
        shutil.copytree(templates / "swift_package", folder, ignore=shutil.ignore_patterns(".*"))
        for name in KIT:
            source = templates / "device_kit" / "Sources" / f"{name}.swift"
            shutil.copy(source, folder / "Sources" / "OptimizedModelBenchmark")
    manifest = folder / "Package.swift"
    manifest.write_text(manifest_for(manifest.read_text("utf-8"), subject.oldest), "utf-8")
    _write_model(subject, units, folder / "Sources" / PACKAGE / "Model")
    _write_kit(subject, folder / "Sources" / "OptimizedModelBenchmark" / "Kit")
    golden = folder / "Tests" / "OptimizedModelTests" / "Golden"
    golden.mkdir()
    return write_golden(subject.program, subject.data.validation, subject.rule, subject.answers, golden)


def manifest_for(text: str, oldest: int) -> str:
    """Package.swift for an oldest iOS and the macOS of that autumn: the one place where a generated word enters Swift."""
    for word, stated, wanted in zip(("iOS", "macOS"), _OLDEST, systems(oldest), strict=True):
        said = f'.{word}("{stated}.0")'
        if text.count(said) != 1:
            raise RuntimeError(f"the template of Package.swift does not say {said} once")
        text = text.replace(said, f'.{word}("{wanted}.0")')
    return text


def _write_model(subject: Subject, units: ComputeUnits, folder: Path) -> None:
    shutil.copytree(subject.choice.package, folder / MODEL)
    facts = {
        "digest": subject.digest,
        "compute_units": units,
        "labels": subject.labels,
        "preprocessing": subject.rule.model_dump(),
    }
    (folder / f"{RESOURCE}.json").write_text(json.dumps(facts, indent=1), "utf-8")


def _write_kit(subject: Subject, folder: Path) -> None:
    folder.mkdir()
    row = described(subject.program, MODEL, name_of(subject.result), "front")
    write_plan(folder, subject.run.study, get_args(ComputeUnits), [row])
