"""How does a search get onto the phone in hand?  An app package for Xcode that measures its front.

The Swift is in `device_kit/`, as it is: nothing of a run enters it but the oldest system that opens every package.
What is measured, under which names and by which protocol stands in Sources/Kit/kit.json; packages are files with names
of our own, so that names of runs and classes may hold anything.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final, cast, get_args

import typer

from coreml_pareto.objectives.devices.catalogue import ComputeUnits
from coreml_pareto.objectives.measuring.conditions import COOLING
from coreml_pareto.objectives.measuring.protocol import Protocol
from coreml_pareto.objectives.program import Program, content_digest, costs, load
from coreml_pareto.search.choose import front
from coreml_pareto.search.delivery.publishing import check_new, published
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.storage.packages import at_hand
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.compression import describe
from coreml_pareto.spaces.errors import UserError

HARNESS: Final = "coreml-pareto device-kit 2"
"""The app's stopwatch; 2 gives Core ML buffers for its answers, so its figures are not pooled with those of 1."""
APP: Final = "DeviceKit.swiftpm"
OLDEST: Final = 17
"""The app itself needs iOS 17."""
_RULES: Final = Protocol(cold=20)
PROTOCOL: Final = {
    "rounds": _RULES.rounds,
    "predictions_per_round": _RULES.predictions,
    "least_warm_up": _RULES.least,
    "most_warm_up": _RULES.most,
    "agreeing_calls": _RULES.agreeing,
    "agreement": _RULES.agreement,
    "forgiven_failures": _RULES.forgiven,
    "cold_calls": _RULES.cold,
    "cold_pause_seconds": _RULES.pause,
    "cooling_seconds": COOLING,
}
"""The protocol of `measure`: warm up until three calls agree within 5 %, or note that they never do, then rounds back to
back; cold: one call every two seconds."""


@dataclass(frozen=True)
class WrittenKit:
    """What was written: the app, how many packages of each role, and the oldest system that runs it."""

    app: Path
    front: int
    calibration: int
    system: str


@dataclass(frozen=True)
class _Item:
    """A package on its way into the kit."""

    source: Path
    file: str
    name: str
    role: str


def parse_units(text: str) -> tuple[ComputeUnits, ...]:
    """`ALL,CPU_ONLY` as compute units, each once."""
    known = get_args(ComputeUnits)
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names or not set(names) <= set(known):
        raise UserError(f"--compute-units names one or more of {', '.join(known)}; got {text!r}")
    return tuple(cast("ComputeUnits", name) for name in names)


def check(run: Run, out: Path) -> None:
    """Refuse, before anything is made, a search without packages and a folder that holds something."""
    if not front(run):
        raise UserError(
            f"a device kit measures the packages of a front; {run.folder} has none within its limits; search on"
        )
    check_new(out)


def write_kit(run: Run, out: Path, units: Sequence[ComputeUnits]) -> WrittenKit:
    """Write the app and how to use it into a folder, whole or not at all."""
    items = [*_front(run), *_calibration(run)]
    with published(out) as draft:
        oldest = _write(draft, run, items, units)
    count = [item.role for item in items].count("front")
    return WrittenKit(out / APP, count, len(items) - count, f"iOS {oldest}")


def _write(draft: Path, run: Run, items: Sequence[_Item], units: Sequence[ComputeUnits]) -> int:
    """Fill the folder; returns the oldest iOS that opens every package."""
    app = draft / APP
    with as_file(files("coreml_pareto.search.delivery") / "device_kit") as template:
        shutil.copytree(template / "Sources", app / "Sources")
        shutil.copy(template / "README.md", draft)
        manifest = (template / "Package.swift").read_text("utf-8")
    kit = app / "Sources" / "Kit"
    rows, systems = [], [OLDEST]
    for item in items:
        shutil.copytree(item.source, kit / item.file)
        program = load(item.source)
        systems.append(int(program.minimum_os.removeprefix("iOS")))
        rows.append(described(program, item.file, item.name, item.role))
    oldest = max(systems)
    (app / "Package.swift").write_text(_for_system(manifest, oldest), "utf-8")
    write_plan(kit, run.study, units, rows)
    return oldest


def write_plan(folder: Path, study: str, units: Sequence[ComputeUnits], packages: Sequence[Mapping[str, Any]]) -> None:
    """Write what is measured, and by which rules, as kit.json: the Swift in `device_kit/` reads it."""
    plain = {
        "run": study, "harness": HARNESS, "protocol": PROTOCOL, "compute_units": list(units), "packages": list(packages),
    }  # fmt: skip
    (folder / "kit.json").write_text(json.dumps(plain, indent=1, ensure_ascii=False), "utf-8")


def _for_system(manifest: str, oldest: int) -> str:
    """The app's manifest with its oldest system, the one place where a generated word enters Swift."""
    stated = f'.iOS("{OLDEST}.0")'
    if manifest.count(stated) != 1:
        raise RuntimeError(f"the template of Package.swift does not say {stated} once")
    return manifest.replace(stated, f'.iOS("{oldest}.0")')


def described(program: Program, file: str, name: str, role: str) -> dict[str, Any]:
    """One package in kit.json: where it lies, how it is called, and its operations, which the app passes on."""
    rows = [asdict(cost) for cost in costs(program)]
    return {"file": file, "digest": content_digest(program), "name": name, "role": role, "costs": rows}


def _front(run: Run) -> Iterator[_Item]:
    for result in front(run):
        if isinstance(result.outcome, Scored):
            yield _Item(
                existing(result.outcome.package), f"front-{result.trial:04}.mlpackage", name_of(result), "front"
            )


def existing(package: Path) -> Path:
    """The folder of a saved package, fetched if it must be; UserError where it is gone."""
    if not at_hand(package):
        raise UserError(f"what is handed over are the saved packages; {package} is gone; restore it, or search again")
    return package


def name_of(result: Result) -> str:
    """What a package is called on a screen."""
    return f"trial {result.trial}: {result.candidate.network.label} · {describe(result.candidate.compression)}"[:500]


def _calibration(run: Run) -> Iterator[_Item]:
    from coreml_pareto.search.delivery.calibration import SET, calibration_package

    own = run.folder / "store"
    store = Store(own if os.access(own, os.W_OK) else Path(typer.get_app_dir("coreml-pareto")) / "store")
    for name in SET:
        source = calibration_package(name, store)
        yield _Item(source, f"calibration-{name}.mlpackage", f"calibration: {name}", "calibration")
