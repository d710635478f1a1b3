"""What does a new run take over from another one?  Its trained networks, as far as they lie in the new space.

The other run's store is read and never written. What lies in the new space comes into the run's own store at once (linked,
where the disk is the same), and its packages are asked for first: they cost no training. The other trainings are known by
their networks and accuracies: a network may inherit from them while the other run is there. RUN/origin.json keeps all that,
so that the other run may be deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.config import AUTO, Plan
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.data.folder import few
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.record import PLAN, STORE, no_run, stored_plan
from coreml_pareto.search.run import Result
from coreml_pareto.search.store import Folder, Store, write_atomically
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.space import Space

FILE: Final = "origin.json"
ENVIRONMENT: Final = "environment.json"


@final
@dataclass(frozen=True)
class Lesson:
    """A training of the other run: its key, what was trained how, its top-1 at a glance, the training it began with."""

    key: str
    network: Network
    recipe: Recipe
    top1: float
    parent: str | None

    @property
    def candidate(self) -> Candidate:
        """Uncompressed."""
        return Candidate(network=self.network, recipe=self.recipe, compression=Compression())

    @classmethod
    def parse(cls, key: str, plain: dict[str, Any]) -> Lesson:
        """Read what a training's record, or `plain`, says."""
        network, recipe = Network.model_validate(plain["network"]), Recipe.model_validate(plain["recipe"])
        return cls(key, network, recipe, float(plain["glance_top1"]), plain.get("parent"))

    @property
    def plain(self) -> dict[str, Any]:
        """For JSON."""
        of = {"network": self.network.model_dump(mode="json"), "recipe": self.recipe.model_dump(mode="json")}
        return {"key": self.key, **of, "glance_top1": self.top1, "parent": self.parent}


@final
@dataclass(frozen=True)
class Origin:
    """Another run's folder and its trainings, the most accurate first; both empty where a run begins with nothing."""

    folder: Path | None = None
    lessons: tuple[Lesson, ...] = ()

    @classmethod
    def of(cls, run: Path) -> Origin:
        """Return what a run has taken over."""
        if not (run / FILE).is_file():
            return cls()
        plain = json.loads((run / FILE).read_text("utf-8"))
        return cls(Path(plain["run"]), tuple(Lesson.parse(row["key"], row) for row in plain["trainings"]))

    def keep(self, run: Path) -> None:
        """Write it down for the run."""
        plain = {"run": str(self.folder), "trainings": [lesson.plain for lesson in self.lessons]}
        write_atomically(run / FILE, json.dumps(plain, indent=1))

    @property
    def shelf(self) -> Folder | None:
        """The other run's results; nothing is found there once it is deleted."""
        return None if self.folder is None else Folder(self.folder / STORE)

    def within(self, space: Space) -> tuple[Lesson, ...]:
        """Return the trainings that a candidate of the space may be made from."""
        return tuple(lesson for lesson in self.lessons if space.holds(lesson.network, lesson.recipe))

    def keys(self, space: Space) -> dict[tuple[Network, Recipe], str]:
        """Return the keys of these trainings; of two of one network and recipe the more accurate one's."""
        return {(lesson.network, lesson.recipe): lesson.key for lesson in reversed(self.within(space))}

    @cached_property
    def results(self) -> tuple[Result, ...]:
        """The trainings as results that networks inherit from; they have no packages."""
        return tuple(map(_as_result, self.lessons))


def _as_result(lesson: Lesson) -> Result:
    top1 = Reading(lesson.top1, "share", 0.0, 1.0, "measured")
    return Result(-1, lesson.candidate, Scored({"top1": top1}, Path(), {TRAINING: lesson.key}), parent=lesson.parent)


def origin_plan(text: str, run: Path) -> tuple[Path, Plan]:
    """Return another run's folder and plan.

    Raises:
        UserError: it is no run, or the very one that is to begin with it.
    """
    folder = Path(text).expanduser().resolve()
    if folder == run.resolve():
        raise UserError(
            f"--from takes another run than the one in {run}: choose another --run folder, or --resume {run}."
        )
    if not (folder / PLAN).is_file():
        raise no_run(folder)
    return folder, stored_plan(folder / PLAN)


def open_origin(folder: Path, plan: Plan, data: DataSet) -> Origin:
    """Return the trainings of a run, for one on these pictures.

    Args:
        folder: of that run.
        plan: of that run.
        data: the training images of the new run, as many as it uses.

    Raises:
        UserError: none of its networks is trained, or it was made on other pictures, classes or splits.
    """
    records = list(_records(folder))
    if not records:
        raise UserError(f"--from takes a run with trained networks; {folder} has none: search there first.")
    classes = tuple(map(str, records[0][1]["classes"]))
    if classes != data.classes:
        lacking, strange = (sorted(set(a) - set(b)) for a, b in ((data.classes, classes), (classes, data.classes)))
        sides = ((f"in {data.name}", lacking), (f"in {folder}", strange))
        told = "; ".join(f"only {side}: {few(names)}" for side, names in sides if names) or "in another order"
        raise UserError(f"--from takes a run with the classes of the data, in the same order; they differ ({told}).")
    lessons = [Lesson.parse(key, record) for key, record in records if record["data"] == data.digest]
    if not lessons:
        raise UserError(
            f"--from takes a run on the same pictures in the same splits; {folder} read others: {_other(folder, plan, data)}."
        )
    return Origin(folder, tuple(sorted(lessons, key=lambda lesson: (-lesson.top1, lesson.key))))


def _records(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every finished training of a run with its record; damaged ones are left out."""
    shelf = Folder(folder / STORE)
    for artifact in shelf.artifacts():
        if artifact.stage == "train" and shelf.damage(artifact) is None:
            path = shelf.root / artifact.stage / artifact.key / "record.json"
            yield artifact.key, json.loads(path.read_text("utf-8"))


def _other(folder: Path, plan: Plan, data: DataSet) -> str:
    """In what the pictures of a run differ from the data."""
    try:
        digest = json.loads((folder / ENVIRONMENT).read_text("utf-8"))["data"]["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        digest = None
    if digest == data.digest.partition("-")[0]:
        return f"training.images {plan.training.images or 'all'}"
    return f"data {plan.data}, splits {plan.splits.model_dump()}"


def planned_as(plan: Plan, origin: Plan) -> Plan:
    """Return a plan whose open questions are answered as in the other run: else its trainings would lie outside.

    Epochs stay open where the other run did not train every backbone.
    """
    content = plan.model_dump(mode="json")
    networks, training = content["networks"], content["training"]
    if networks["resolution"] == AUTO:
        networks["resolution"] = origin.networks.resolution
    if training["batch_size"] == AUTO:
        training["batch_size"] = origin.training.batch_size
    if training["images"] is None:
        training["images"] = origin.training.images
    epochs, backbones = origin.training.epochs, plan.networks.backbones
    if training["epochs"] == AUTO and isinstance(epochs, tuple):
        training["epochs"] = epochs
    elif training["epochs"] == AUTO and isinstance(epochs, Mapping) and set(backbones) <= set(epochs):
        training["epochs"] = {name: epochs[name] for name in backbones}
    return Plan.model_validate(content)


def take_over(origin: Origin, space: Space, run: Path) -> int:
    """Bring the trainings that lie in the space into the run's own store; return how many there are."""
    store = Store(run / STORE, origin=origin.shelf)
    return sum(store.find("train", lesson.key) is not None for lesson in origin.within(space))
