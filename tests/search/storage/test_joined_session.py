"""A search beside another machine, in one process: what that one does at a given moment, the test does."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from peers_double import SCORE, Clock, Machine, join, silence, waited_for
from rich.console import Console

from coreml_pareto.objectives.reading import exact
from coreml_pareto.search import session
from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.events import read_events
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.proposals import Proposals
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.storage import agreement
from coreml_pareto.search.storage.peers import Peers
from coreml_pareto.search.study import Asked, Study
from coreml_pareto.search.told import LOST
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.space import choose_from

STUDY: dict[str, Any] = {
    "name": "common",
    "data": "digits",
    "splits": {"limit": 100},
    "networks": {"backbones": ["squeezenet1_1"], "width": [0.25, 0.5], "resolution": [32], "pretrained": False},
    "compression": ["fp16", "int8/channel"],
    "training": {"epochs": [1], "device": "cpu"},
    "search": {"sampler": "random", "packages_per_training": 1},
}


class Laboratory:
    """Scores every candidate at once; `meanwhile` is what others do in that time."""

    evidence = None
    evaluated: list[tuple[Candidate, str | None]]
    meanwhile: Callable[[], None]

    def __init__(self, *_: object) -> None:
        pass

    def evaluate(self, candidate: Candidate, witness: object, parent: str | None) -> Scored:
        Laboratory.evaluated.append((candidate, parent))
        Laboratory.meanwhile()
        return Scored(SCORE, Path("m.mlpackage"), {TRAINING: candidate.digest, "curve": "0.5"})

    def probe(self, candidate: Candidate) -> dict[str, Any]:
        return {}

    def over(self, score: object) -> tuple[str, ...]:
        return ()

    def test_top1(self, *_: object) -> Any:
        return exact(0.5, "share")


class Others:
    """The other machines of the study; `prepare` is told them when they are there, before the search is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.storage = folder, waited_for(InMemoryStorage())
        self.prepare: Callable[[], None] = lambda: None

    def begin(self, plan: Plan, folder: Path, _: object) -> tuple[Plan, Any]:
        self.a, self.b = (join(self.folder / name, self.storage, plan) for name in "ab")
        agreement.holder(folder)
        self.prepare()
        return plan, self.storage

    def candidate(self, width: float, compression: str) -> Candidate:
        space = self.a.study.space
        encoded = space.encode(space.decode(lambda knob: knob.choices[0]))
        return space.decode(choose_from({**encoded, "width": width, "compression": compression}))

    def ask(self, machine: Machine, candidate: Candidate) -> Asked:
        machine.study.enqueue(candidate)
        asked, _ = machine.ask()
        assert asked.candidate == candidate
        return asked


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    others = Others(tmp_path)
    Laboratory.evaluated, Laboratory.meanwhile = [], lambda: None
    monkeypatch.setattr(session, "open_laboratory", Laboratory)
    monkeypatch.setattr(session.Mender, "package", lambda *_: None)
    monkeypatch.setattr(session, "begin", others.begin)
    monkeypatch.setattr(session, "closing_storage", nullcontext)
    yield others
    for machine in (others.a, others.b):
        machine.die()


def _search(folder: Path, trials: int) -> str:
    console = Console(file=io.StringIO(), width=200)
    plan = load_plan(None, STUDY | {"search": STUDY["search"] | {"trials": trials}})
    with Screen(console) as screen:
        session.search(plan, folder, screen)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[..., None]) -> None:
    """Let something happen before the first call of a method."""
    method, left = getattr(owner, name), [act]

    def first(self: Any, *arguments: Any) -> Any:
        if left:
            left.pop()(*arguments)
        return method(self, *arguments)

    monkeypatch.setattr(owner, name, first)


def _told(folder: Path) -> dict[int, str]:
    return {event["trial"]: event["outcome"] for event in read_events(folder) if event["event"] == "told"}


def test_a_package_of_a_training_that_ended_while_it_was_chosen_is_of_that_training(
    tmp_path: Path, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began when nothing was trained, so it inherits nothing; from a wider one, it would be another training."""
    begun: list[Asked] = []

    def prepare() -> None:
        begun.append(others.ask(others.a, others.candidate(0.25, "fp16")))
        others.b.tell(others.ask(others.b, others.candidate(0.5, "fp16")))

    def meanwhile() -> None:
        others.a.tell(begun[0])
        others.a.study.enqueue(others.candidate(0.25, "int8/channel"))

    others.prepare = prepare
    _once(monkeypatch, Proposals, "next", meanwhile)
    _search(tmp_path / "run", 3)
    assert Laboratory.evaluated == [(others.candidate(0.25, "int8/channel"), None)]


def test_what_was_put_aside_and_lost_is_dropped_and_asked_again(tmp_path: Path, others: Others, clock: Clock) -> None:
    """The other machine died, and this one was suspended while it had another candidate at work."""
    first: list[Candidate] = []

    def prepare() -> None:
        first.append(others.candidate(0.25, "fp16"))
        others.ask(others.a, first[0])
        others.b.study.enqueue(first[0])

    def suspended() -> None:
        Laboratory.meanwhile = lambda: None
        held = [trial for trial in others.b.study._running() if trial.number == 1]
        assert [trial.system_attrs.get("coreml_pareto:aside") for trial in held] == [True]
        silence(clock, others.b)
        others.b.hear()

    others.prepare, Laboratory.meanwhile = prepare, suspended
    text = _search(tmp_path / "run", 4)
    assert "Trial 0 was lost and is asked again" in text
    assert [candidate for candidate, _ in Laboratory.evaluated].count(first[0]) == 1
    assert _told(tmp_path / "run")[1] == "failed"
    assert all(trial.state.is_finished() for trial in others.b.trials)


@pytest.mark.parametrize(("owner", "write"), [(Peers, "heritage"), (Study, "inherits")])
def test_a_trial_that_is_lost_before_its_work_begins_is_dropped_and_asked_again(
    tmp_path: Path, others: Others, clock: Clock, monkeypatch: pytest.MonkeyPatch, owner: Any, write: str
) -> None:
    lost: list[Asked] = []

    def suspended(asked: Asked, parent: str | None) -> None:
        lost.append(asked)
        silence(clock, others.b)
        others.b.hear()

    others.prepare = lambda: others.b.tell(others.ask(others.b, others.candidate(0.5, "fp16"))) and None
    _once(monkeypatch, owner, write, suspended)
    text = _search(tmp_path / "run", 4)
    number = lost[0].number
    assert f"Trial {number} was lost and is asked again" in text and _told(tmp_path / "run")[number] == "failed"
    assert [candidate for candidate, _ in Laboratory.evaluated].count(lost[0].candidate) == 1
    trial = others.b.trials[number]
    assert trial.state == TrialState.FAIL and LOST in trial.user_attrs
    assert len(others.b.study.results()) == 5
