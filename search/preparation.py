"""What must be settled before a search can start: the pictures, refusals, and a plan with nothing left open."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
from pathlib import Path

from coreml_pareto.search import budget
from coreml_pareto.search.config import Plan, dump_plan, load_plan
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.search.data.picture import Progress
from coreml_pareto.search.origin import Origin, open_origin, origin_plan, planned_as, take_over
from coreml_pareto.search.record import PLAN, REQUEST, STORE
from coreml_pareto.search.report.words import many
from coreml_pareto.search.screen import Clock, Screen
from coreml_pareto.search.stages.device import check_device
from coreml_pareto.search.stages.trained import open_checkpoint
from coreml_pareto.search.storage.agreement import meet
from coreml_pareto.search.storage.machine import holder
from coreml_pareto.search.store import (
    Folder,
    Shelf,
    installed_version,
    open_shelf,
    require_usable,
    tool_versions,
    write_atomically,
)
from coreml_pareto.search.teaching import teacher_networks
from coreml_pareto.search.terms import TERMS, terms_of, with_terms
from coreml_pareto.spaces.compression import CALIBRATION_IMAGES
from coreml_pareto.spaces.distillation import is_checkpoint
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.weights import POLICIES, check_policy

BUDGET = ("trials", "timeout", "workers", "patience", "finalists", "seeds")
"""Keys of the section `search` that another session of the same run may change."""


def prepare(
    plan: Plan, folder: Path, screen: Screen, clock: Clock, paces: budget.Paces | None = None
) -> tuple[Plan, DataSet, Shelf | None]:
    """Return the plan with nothing left open, its pictures, and the store that it shares (see `shared`).

    The run folder is made last, when nothing is refused. `paces` takes up what is timed for the plan.

    Raises:
        UserError: bad data, a folder that holds another study, a store that cannot be used, or what no trial could be
            made with.
    """
    check_device(plan.training.device)
    data = _load(plan, screen)
    _check(plan, data.classes)
    _check_calibration(plan, min(len(data.train), plan.training.images or len(data.train)))
    shelf = shared(plan, folder)
    plan = _resolved(plan, folder, data, screen, clock, paces)
    return plan, limited(data, plan), shelf


def shared(plan: Plan, folder: Path) -> Shelf | None:
    """Return the store that a study shares with others; None where that is the run's own folder.

    Raises:
        UserError: it cannot be read and written.
    """
    if plan.store is None:
        return None
    shelf = open_shelf(plan.store)
    require_usable(shelf)
    own = isinstance(shelf, Folder) and shelf.root.resolve() == (folder / STORE).resolve()
    if own and plan.storage is not None:
        raise UserError(
            f"All machines of a study share one store; {plan.store} is this run's own: give another --store."
        )
    return None if own else shelf


def read(plan: Plan, progress: Progress | None = None) -> DataSet:
    """Read the pictures of a plan, as many as they are: see `limited`."""
    splits = plan.splits
    return load_data(
        str(plan.data), seed=splits.seed, validation_share=splits.validation, test_share=splits.test,
        max_broken_share=splits.max_broken, limit=splits.limit, progress=progress,
    )  # fmt: skip


def _load(plan: Plan, screen: Screen) -> DataSet:
    if plan.data is None:
        raise UserError(
            "A search needs pictures: give --data DIR (one folder per class), a .tar, a .csv, hf:NAME, or --data digits."
        )
    screen.note(f"reading {plan.data}")
    data = read(plan)
    screen.say(f"{data.name}: {len(data.classes)} classes")
    for line in data.report.lines():
        screen.say(f"  {line}")
    return data


def _check(plan: Plan, classes: tuple[str, ...]) -> None:
    """Refuse, before the run folder exists, what some trial could not be made with: teachers and initial weights."""
    for teacher in filter(is_checkpoint, plan.distillation.teachers):
        open_checkpoint(Path(teacher), classes)
    teachers = tuple(teacher_networks(plan, len(classes)))
    check_policy(plan.space(len(classes)).networks(), plan.networks.pretrained)
    if plan.networks.pretrained in POLICIES:  # a checkpoint is the students'
        check_policy(teachers, plan.networks.pretrained)


def _resolved(
    plan: Plan, folder: Path, data: DataSet, screen: Screen, clock: Clock, paces: budget.Paces | None
) -> Plan:
    """Return the plan with nothing left open: the stored one when the run goes on, a new one otherwise."""
    request = folder / REQUEST
    asked = plan.model_dump(mode="json")
    common = meet(plan, data.digest)
    if request.is_file() and (folder / PLAN).is_file():
        _check_same(json.loads(request.read_text()), asked, data, folder)
        stored = common or load_plan(str(folder / PLAN))
        stored = stored.model_copy(update={"search": plan.search, "store": plan.store, "storage": plan.storage})
        return with_terms(stored, terms_of(plan)) if common is None else stored
    plan, origin = _begun_with(plan, folder, data)
    resolved = common or budget.resolve(plan, data, screen.say, lambda: clock.seconds, paces)
    folder.mkdir(parents=True, exist_ok=True)
    if origin.folder is not None:
        origin.keep(folder)
        count = many(take_over(origin, resolved.space(len(data.classes)), folder), "trained network")
        screen.say(f"Of {origin.folder}, {count} lie in this space: their packages come first.")
        asked["origin"] = str(origin.folder)
    write_atomically(folder / PLAN, dump_plan(resolved))
    write_atomically(folder / "environment.json", json.dumps(_environment(data), indent=1))
    write_atomically(request, json.dumps({**asked, "data_digest": data.digest}, indent=1))
    if common is not None:
        holder(folder)
    return resolved.model_copy(update={"storage": plan.storage})  # with the password, which is in no file


def _begun_with(plan: Plan, folder: Path, data: DataSet) -> tuple[Plan, Origin]:
    """Return the run that a new one begins with, if any, and the plan with what was open answered as there."""
    if plan.origin is None:
        return plan, Origin()
    place, its_plan = origin_plan(plan.origin, folder)
    plan = planned_as(plan, its_plan)
    return plan, open_origin(place, its_plan, limited(data, plan))


def _check_same(stored: dict[str, object], asked: dict[str, object], data: DataSet, folder: Path) -> None:
    """Refuse to mix two studies in one folder; the budget, the workers and the terms may change."""
    if stored.get("data_digest") != data.digest:
        raise UserError(
            f"{folder} holds a run on other pictures than {data.name} has now; choose another --run folder."
        )
    # One folder of pictures has many names, the digest knows it; where results are shared does not change them.
    compared = [key for key in asked if key not in ("data", "store", "origin", *TERMS)]
    changed = [key for key in compared if _without_budget(stored.get(key)) != _without_budget(asked[key])]
    origin = asked.get("origin")
    if origin is not None and Path(str(origin)).expanduser().resolve() != Origin.of(folder).folder:
        changed.append("origin (--from)")
    if changed:
        raise UserError(
            f"{folder} holds a run that differs in {', '.join(changed)}; choose another --run folder, or ask the same."
        )


def _without_budget(section: object) -> object:
    if not isinstance(section, dict):
        return section
    return {key: value for key, value in section.items() if key not in BUDGET}


def _check_calibration(plan: Plan, images: int) -> None:
    """Refuse a number of calibration images that was asked for and is not there; the usual one takes what there is."""
    most = max(plan.calibration.images)
    if "w8a8" in plan.compression and images < most != CALIBRATION_IMAGES:
        raise UserError(
            f"calibration.images are training images, of which there are {images}; got {most}: write at most {images}."
        )


def limited(data: DataSet, plan: Plan) -> DataSet:
    """Return the data with as many training images as the plan allows, drawn per class."""
    count = plan.training.images
    if count is None or count >= len(data.train):
        return data
    train = data.train.subset(data.train.sample(count, seed=plan.splits.seed))
    return dataclasses.replace(data, train=train, digest=f"{data.digest}-{train.digest[:16]}")


def _environment(data: DataSet) -> dict[str, object]:
    packages = ("optuna", "scikit-learn")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "data": {"name": data.name, "digest": data.digest},
        "packages": tool_versions() | {name: installed_version(name) for name in packages},
    }
