"""A small search that really trained and packaged, whose names hold everything that breaks papers and Swift; handed over once."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tree_sitter_swift
from PIL import Image
from tree_sitter import Language, Node, Parser

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.search.config import Plan, dump_plan, load_plan
from coreml_pareto.search.data import load_data
from coreml_pareto.search.delivery.handover import Written, hand_over
from coreml_pareto.search.delivery.subject import Choice, Subject, choose, open_subject
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.store import Store
from coreml_pareto.search.trial import open_laboratory
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe
from coreml_pareto.spaces.compression import parse

LABELS = (
    'quote " and \\(exit(1)) \\u{0}',
    "</script><script>alert('x')</script>",
    "#let a = 1; *b* _c_ `d` $e$ |f| [g](h) ~~i~~ \n j",
    "שלום \u202e abc \U0001f426",
    "1. a label\twith a tab",
)
CLIENT = 'Bäcker & Söhne "GmbH" <img src=x onerror=alert(1)> #panic() \\(fatalError()) שלום 🐦\n# no heading'
SIDE = 32


def pictures(folder: Path) -> Path:
    """A table of 40 small pictures for each label, each label with a colour of its own."""
    random = np.random.default_rng(0)
    rows = []
    for number, label in enumerate(LABELS):
        for count in range(40):
            tint = np.array([40 * number, 200 - 40 * number, 20 + 30 * number]) + random.integers(0, 45, 3)
            pixels = np.clip(tint + random.normal(0, 15, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            name = f"{number}-{count}.png"
            Image.fromarray(pixels).save(folder / name)
            rows.append((name, label))
    table = folder / "pictures.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return table


class Unseen:
    """A witness that only looks on."""

    def note(self, doing: str) -> None: ...
    def stage(self, name: str, seconds: float | None) -> None: ...
    def step(self, step: object) -> None: ...
    def packaged(self, known: object) -> None: ...


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two packages of one training, fp16 and 4-bit tables."""
    folder = tmp_path_factory.mktemp("run")
    plan = load_plan(None, {"name": "hostile", "data": str(pictures(folder)), "networks": {"pretrained": "false"}})
    (folder / "study.yaml").write_text(dump_plan(plan), "utf-8")
    data = load_data(str(plan.data))
    laboratory = open_laboratory(plan, data, Store(folder / "store"), lambda teacher: None)
    network = Network(
        family="squeezenet", backbone="squeezenet1_1", width=0.35, resolution=SIDE, stem_stride=1, classes=len(LABELS)
    )
    recipe = Recipe(epochs=14, learning_rate=3e-3, weight_decay=0.0, batch_size=16)
    results = []
    for number, scheme in enumerate(("fp16", "palette-4/tensor")):
        candidate = Candidate(network=network, recipe=recipe, compression=parse(scheme))
        results.append(Result(number, candidate, laboratory.evaluate(candidate, Unseen())))
    return Run(
        folder=folder, study='hostile "study" <b>', objectives=tuple(OBJECTIVES.values()), limits={},
        target=Target(find_device("iPhone 15 Pro"), 17), classes=data.classes, results=tuple(results),
    )  # fmt: skip


@pytest.fixture(scope="session")
def subject(searched: Run) -> Subject:
    """The recommended package of that run."""
    choice = choose(searched, None)
    assert isinstance(choice, Choice)
    return open_subject(searched, choice, client=CLIENT)


@pytest.fixture(scope="session")
def written(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """It was handed over."""
    return hand_over(subject, tmp_path_factory.mktemp("out") / "handover")


@dataclass(frozen=True)
class Grammar:
    """Swift as a real grammar reads it."""

    parser: Parser

    def nodes(self, source: bytes) -> list[Node]:
        return list(self.below(self.parser.parse(source).root_node))

    def below(self, node: Node) -> Iterator[Node]:
        yield node
        for child in node.children:
            yield from self.below(child)

    def wrong(self, source: bytes) -> list[str]:
        """What the grammar could not read."""
        return [
            f"line {n.start_point.row + 1}: {n.text!r}" for n in self.nodes(source) if n.type == "ERROR" or n.is_missing
        ]

    def types(self, source: bytes) -> dict[str, Node]:
        """The classes, structures, actors, enumerations and extensions of a file by name."""
        found = [n for n in self.nodes(source) if n.type == "class_declaration"]
        named = ((n, n.child_by_field_name("name")) for n in found)
        return {name.text.decode(): n for n, name in named if name is not None and name.text}

    def functions(self, node: Node) -> set[str]:
        """The functions below a node with the labels of their parameters, as Swift writes them: `predict(image:)`."""
        found = set()
        for function in (n for n in self.below(node) if n.type == "function_declaration"):
            name = function.child_by_field_name("name")
            assert name is not None and name.text
            labels = []
            for parameter in (n for n in function.children if n.type == "parameter"):
                names = [c.text.decode() for c in parameter.children if c.type == "simple_identifier" and c.text]
                labels.append(names[0])
            found.add(f"{name.text.decode()}({''.join(f'{label}:' for label in labels)})")
        return found


@pytest.fixture(scope="session")
def swift() -> Grammar:
    return Grammar(Parser(Language(tree_sitter_swift.language())))


@pytest.fixture(scope="session")
def hostile() -> SimpleNamespace:
    """The names that hold everything."""
    return SimpleNamespace(labels=LABELS, client=CLIENT)


@pytest.fixture(scope="session")
def plan_without_pictures() -> Callable[[], Plan]:
    return lambda: load_plan(None, {"name": "nothing"})
