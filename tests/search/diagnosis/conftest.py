"""Runs to examine: records written by hand, whose truth is known, and real small searches on digits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from coreml_pareto.objectives.accuracy import Correctness, readings
from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.search.config import dump_plan, load_plan
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.record import PLAN, STORE
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.session import search
from coreml_pareto.search.teaching import teacher_network, teacher_recipe
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe
from coreml_pareto.spaces.compression import parse

IMAGES = 2000
TEACHER = "mobilenetv3_large"
STUDY: dict[str, Any] = {
    "name": "birds",
    "data": "digits",
    "networks": {"backbones": ["mobilenetv3_small"], "width": [0.5], "resolution": [32], "pretrained": False},
    "distillation": {"teachers": ["none", TEACHER], "teacher_epochs": 20},
    "training": {"epochs": [10], "device": "cpu"},
    "search": {"trials": 20},
}
NETWORK = Network(
    family="mobilenet", backbone="mobilenetv3_small", width=0.5, resolution=32, stem_stride=1, classes=10
)  # fmt: skip
PLAIN = Recipe(epochs=10, learning_rate=1e-3, weight_decay=0.01)
TAUGHT = PLAIN.model_copy(update={"teacher": TEACHER, "temperature": 4.0, "hard_weight": 0.5, "soft_weight": 1.0})


def right(top1: float, seed: int = 0, images: int = IMAGES) -> NDArray[np.bool_]:
    """Exactly so many images right; of one seed, a lower share's images are among a higher one's."""
    order = np.random.default_rng(seed).permutation(images)
    found = np.zeros(images, bool)
    found[order[: round(top1 * images)]] = True
    return found


def disturbed(whole: NDArray[np.bool_], lost: int, gained: int, seed: int = 1) -> NDArray[np.bool_]:
    """The same images but for so many that are lost and gained."""
    random, found = np.random.default_rng(seed), whole.copy()
    found[random.choice(np.flatnonzero(whole), lost, replace=False)] = False
    found[random.choice(np.flatnonzero(~whole), gained, replace=False)] = True
    return found


class Record:
    """A run folder in the making: trainings in its store, a study, and packages that lie nowhere."""

    images, network, plain, taught = IMAGES, NETWORK, PLAIN, TAUGHT
    right, disturbed = staticmethod(right), staticmethod(disturbed)

    def __init__(self, folder: Path, study: dict[str, Any] = STUDY) -> None:
        self.folder, self.plan, self.results = folder, load_plan(None, study), list[Result]()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PLAN).write_text(dump_plan(self.plan))

    def training(self, key: str, network: Network, recipe: Recipe, curve: Sequence[float]) -> str:
        path = self.folder / STORE / "train" / key / "record.json"
        path.parent.mkdir(parents=True)
        rows = [{"epoch": n + 1, "loss": 1.0, "top1": top1, "seconds": 1.0} for n, top1 in enumerate(curve)]
        plain = {"network": network.model_dump(), "recipe": recipe.model_dump(), "history": rows, "data": "d"}
        path.write_text(json.dumps({**plain, "glance_top1": curve[-1]}))
        return key

    def teacher(self, top1: float) -> str:
        network, recipe = teacher_network(self.plan, TEACHER, 10), teacher_recipe(self.plan, TEACHER, 10)
        return self.training("teacher", network, recipe, [top1])

    def package(
        self, key: str, found: NDArray[np.bool_], scheme: str = "fp16", size: float = 1e6, recipe: Recipe = PLAIN,
        network: Network = NETWORK, path: Path | None = None,
    ) -> int:  # fmt: skip
        number = len(self.results)
        top1 = readings(Correctness(found, np.ones_like(found)), 10, "validation", False)
        score = top1 | {"size_bytes": exact(size, "B"), "latency_ms": Reading(0.3, "ms", 0.2, 0.5, "estimated")}
        outcome = Scored(score, path or self.folder / f"{number}.mlpackage", {TRAINING: key})
        candidate = Candidate(network=network, recipe=recipe, compression=parse(scheme))
        self.results.append(Result(number, candidate, outcome))
        return number

    def run(self, limits: dict[str, float] | None = None) -> Run:
        names = ("accuracy", "latency", "size")
        return Run(
            folder=self.folder, study="birds", objectives=tuple(OBJECTIVES[name] for name in names), limits=limits or {},
            target=Target(find_device("iPhone 15 Pro"), 17), classes=tuple("0123456789"), results=tuple(self.results),
        )  # fmt: skip


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "runs" / "birds")


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], Run]:
    """searched(study): a real search on digits, from its beginning."""

    def run(study: dict[str, Any]) -> Run:
        content = {"name": "digits", "data": "digits", **study}
        with Screen(Console(file=io.StringIO())) as screen:
            return search(load_plan(None, content), tmp_path_factory.mktemp("run") / "digits", screen)

    return run


def networks(backbone: str, width: float = 0.35, resolution: int = 32) -> dict[str, Any]:
    return {"backbones": [backbone], "width": [width], "resolution": [resolution], "pretrained": False}


@pytest.fixture(scope="session")
def sound_and_ruined(searched: Callable[[dict[str, Any]], Run]) -> Run:
    """One training as it should be, in fp16 and int8, and with one bit for each weight."""
    return searched(
        {
            "networks": networks("mobilenetv3_small"),
            "compression": ["fp16", "int8/channel", "palette-1/tensor"],
            "training": {"epochs": [8], "rungs": 1, "device": "cpu"},
            "search": {"trials": 3},
        }
    )


@pytest.fixture(scope="session")
def weakly_taught(searched: Callable[[dict[str, Any]], Run]) -> Run:
    """A student of eight epochs whose teacher, the same network, had one, and whose soft labels are not softened."""
    return searched(
        {
            "networks": networks("squeezenet1_1"),
            "distillation": {
                "teachers": ["squeezenet1_1"], "teacher_width": 0.35, "teacher_epochs": 1, "temperature": [1],
                "hard_weight": [1.0], "soft_weight": [0.2], "feature_weight": [0.0],
            },
            "compression": ["fp16"],
            "training": {"epochs": [8], "rungs": 1, "device": "cpu", "images": 700},
            "search": {"trials": 1},
        }
    )  # fmt: skip


@pytest.fixture(scope="session")
def barely_trained(searched: Callable[[dict[str, Any]], Run]) -> Run:
    """One epoch."""
    return searched(
        {
            "networks": networks("squeezenet1_1"),
            "compression": ["fp16"],
            "training": {"epochs": [1], "rungs": 1, "device": "cpu", "images": 400},
            "search": {"trials": 1},
        }
    )


@pytest.fixture(scope="session")
def learned_by_heart(searched: Callable[[dict[str, Any]], Run]) -> Run:
    """Forty pictures, forty times; few to validate on, so that it takes seconds."""
    return searched(
        {
            "networks": networks("mobilenetv3_small"),
            "compression": ["fp16"],
            "splits": {"validation": 0.06, "test": 0.06},
            "training": {"epochs": [40], "rungs": 1, "device": "cpu", "images": 40, "batch_size": 10},
            "search": {"trials": 1},
        }
    )
