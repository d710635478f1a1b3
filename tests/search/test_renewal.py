"""A run goes on with other limits or objectives: its trials are told again, what fits now is asked again, kills mix nothing.

On a laboratory without networks: a package weighs as much as its width and bits, and the larger the more accurate.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.search import renewal, session, terms
from coreml_pareto.search.cli import main
from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.events import read_events
from coreml_pareto.search.gate import Gate
from coreml_pareto.search.outcome import Infeasible, Outcome, Pruned, Scored
from coreml_pareto.search.prospects import NothingCanFit
from coreml_pareto.search.record import requested_plan, stored_plan
from coreml_pareto.search.run import Result, Run, broken
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.session import search
from coreml_pareto.search.study import load_run
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.errors import UserError

STUDY: dict[str, Any] = {
    "name": "renewed",
    "data": "digits",
    "splits": {"limit": 100},
    "networks": {"backbones": ["squeezenet1_1"], "width": [0.25, 0.5, 0.75, 1.0], "resolution": [32], "pretrained": False},
    "compression": ["fp16", "int8/channel"],
    "training": {"epochs": [1], "device": "cpu"},
    "limits": {"size": "700B"},
    "search": {"sampler": "tpe", "trials": 8, "gate": False, "packages_per_training": 1},
}  # fmt: skip


def _size(candidate: Candidate) -> float:
    return 1000 * candidate.network.width * candidate.compression.bits / 16


class Laboratory:
    """Stands for the real one."""

    evaluated: list[Candidate]
    score: dict[str, Reading]
    evidence = None

    def __init__(self, plan: Plan, *_: object) -> None:
        self.plan = plan

    def evaluate(self, candidate: Candidate, *_: object) -> Outcome:
        Laboratory.evaluated.append(candidate)
        known = self.probe(candidate)
        if over := self.over(known):
            return Infeasible(over, known)
        top1 = Reading(0.5 + 0.4 * candidate.network.width, "share", 0.0, 1.0, "measured")
        score = Laboratory.score | known | {"top1": top1}
        return Scored(score, Path("model.mlpackage"), {"training": candidate.digest, "curve": "0.9"})

    def probe(self, candidate: Candidate) -> dict[str, Reading]:
        return {"size_bytes": exact(_size(candidate), "B")}

    def over(self, score: dict[str, Reading]) -> tuple[str, ...]:
        return broken(score, self.plan.bounds, strict=self.plan.strict)

    def test_top1(self, *_: object) -> Reading:
        return exact(0.9, "share")


@pytest.fixture(autouse=True)
def _laboratory(monkeypatch: pytest.MonkeyPatch, result_at: Callable[..., Result]) -> Iterator[None]:
    Laboratory.evaluated, Laboratory.score = [], dict(result_at(0, (0.9, 1.0, 1e5, 1e6, 1.0)).score)
    monkeypatch.setattr(session, "open_laboratory", Laboratory)
    monkeypatch.setattr(session.Mender, "package", lambda *_: None)  # no package of this laboratory exists
    monkeypatch.setattr(session, "foresee", lambda *_: None)
    monkeypatch.setattr(renewal, "require_possible", lambda *_: None)
    yield


def _search(folder: Path, **sections: Any) -> tuple[Run, str]:
    console = Console(file=io.StringIO(), width=160)
    with Screen(console) as screen:
        run = search(load_plan(None, STUDY | sections), folder, screen)
    assert isinstance(console.file, io.StringIO)
    return run, console.file.getvalue()


def _now(folder: Path) -> tuple[optuna.Study, list[FrozenTrial]]:
    """The study that counts, as any Optuna tool reads it."""
    storage = f"sqlite:///{folder / 'study.db'}"
    first = optuna.load_study(study_name="renewed", storage=storage)
    named = first.user_attrs.get("now", {"study": "renewed"})["study"]
    study = optuna.load_study(study_name=named, storage=storage)
    return study, study.get_trials()


def _sizes(run: Run) -> dict[int, tuple[str, float]]:
    return {r.trial: (type(r.outcome).__name__, _size(r.candidate)) for r in run.results}


def test_with_a_looser_limit_what_was_refused_is_asked_again_at_its_place(tmp_path: Path) -> None:
    before, _ = _search(tmp_path)
    refused = {r.trial for r in before.results if isinstance(r.outcome, Infeasible)}
    fits_now = {r.trial for r in before.results if 700 < _size(r.candidate) <= 800}
    assert len(before.results) == 8 and fits_now < refused
    Laboratory.evaluated.clear()
    after, text = _search(tmp_path, limits={"size": "800B"})
    assert {_size(candidate) for candidate in Laboratory.evaluated} == {750.0}
    assert "other limits: size ≤ 700B -> size ≤ 800B" in text and "1 in line again." in text
    assert [r.candidate for r in after.results] == [r.candidate for r in before.results]
    assert {t for t, (kind, _) in _sizes(after).items() if kind == "Infeasible"} == refused - fits_now
    assert {r.trial: r.score for r in after.scored() if r.trial not in fits_now} == {
        r.trial: r.score for r in before.scored()
    }
    for trial in _now(tmp_path)[1]:
        size = _size(Candidate.model_validate(trial.user_attrs["candidate"]))
        assert trial.state == TrialState.COMPLETE and trial.constraints == {"size": pytest.approx((size - 800) / 800)}
    assert stored_plan(tmp_path / "study.yaml").limits == {"size": "800B"}
    assert requested_plan(tmp_path, {}).limits == {"size": "800B"}
    (changed,) = [event for event in read_events(tmp_path) if event["event"] == "terms"]
    assert changed["again"] == 1 and changed["told"] == {"infeasible": len(refused) - 1, "scored": 8 - len(refused)}
    Laboratory.evaluated.clear()
    again, text = _search(tmp_path, limits={"size": "800B"})
    assert "goes on with other" not in text and not Laboratory.evaluated and _sizes(again) == _sizes(after)


def test_with_a_tighter_limit_nothing_is_evaluated_again_and_the_front_follows(tmp_path: Path) -> None:
    before, _ = _search(tmp_path)
    Laboratory.evaluated.clear()
    after, _ = _search(tmp_path, limits={"size": "300B"})
    assert not Laboratory.evaluated and [r.outcome for r in after.scored()] == [r.outcome for r in before.scored()]
    fronts = [{int(line.split(",")[0]) for line in (tmp_path / "front.csv").read_text().splitlines()[1:]}]
    sizes = _sizes(after)
    assert fronts[0] and all(sizes[trial][1] <= 300 for trial in fronts[0])
    trials = [trial for trial in _now(tmp_path)[1] if "repeats" not in trial.user_attrs]
    broken_now = {trial.number for trial in trials if trial.constraints["size"] > 0}
    assert broken_now == {trial for trial, (_, size) in sizes.items() if size > 300}
    back, _ = _search(tmp_path)  # to the first limit: as it was
    assert not Laboratory.evaluated and _sizes(back) == _sizes(before)
    assert _now(tmp_path)[0].study_name == "renewed #3"


def test_in_a_space_that_was_asked_to_its_end_what_was_stopped_is_taken_up_where_it_may_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the trainings were stopped; with other limits the gate lets them go on."""
    sections = {"limits": {}, "search": STUDY["search"] | {"sampler": "random", "trials": 50, "gate": True}}
    evaluate, stops = Laboratory.evaluate, [True]

    def stopping(laboratory: Laboratory, candidate: Candidate, *rest: object) -> Outcome:
        outcome = evaluate(laboratory, candidate, *rest)
        return Pruned("cannot win", {}, (0.1, 0.2)) if stops[0] and candidate.network.width >= 0.75 else outcome

    monkeypatch.setattr(Laboratory, "evaluate", stopping)
    monkeypatch.setattr(Gate, "training", lambda *_: Pruned("cannot win", {}, (0.1, 0.2)) if stops[0] else None)
    before, text = _search(tmp_path, **sections)
    assert "Every candidate of the space was evaluated." in text
    assert sorted(type(r.outcome).__name__ for r in before.results) == ["Pruned"] * 4 + ["Scored"] * 4
    stopped = {r.candidate.digest for r in before.results if isinstance(r.outcome, Pruned)}
    Laboratory.evaluated.clear()
    stops[0] = False
    after, text = _search(tmp_path, **sections | {"limits": {"latency": "1s"}})
    assert {candidate.digest for candidate in Laboratory.evaluated} == stopped and len(Laboratory.evaluated) == 4
    assert len(after.scored()) == 8 and "Every candidate of the space was evaluated." in text


def test_other_objectives_are_told_in_their_directions(tmp_path: Path) -> None:
    before, _ = _search(tmp_path)
    Laboratory.evaluated.clear()
    after, text = _search(tmp_path, objectives=["size", "accuracy"])
    assert not Laboratory.evaluated and "-> size, accuracy" in text
    study, trials = _now(tmp_path)
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    values = {t.number: t.values for t in trials}
    assert {r.trial: values[r.trial] for r in after.scored()} == {
        r.trial: [r.score["size_bytes"].value, r.score["top1"].value] for r in before.scored()
    }
    assert [axis.name for axis in load_run(tmp_path).objectives] == ["size", "accuracy"]


def test_what_decides_candidates_and_trainings_is_still_refused_by_name(tmp_path: Path) -> None:
    _search(tmp_path)
    for name, value in (
        ("compression", ["fp16"]), ("training", {"epochs": [2], "device": "cpu"}), ("splits", {"limit": 100, "test": 0.2}),
        ("search", STUDY["search"] | {"sampler": "random"}),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"other pictures|differs in {name}; choose another"):
            _search(tmp_path, **{name: value, "limits": {"size": "800B"}})
    assert load_run(tmp_path).limits == {"size": 700.0}


def test_limits_that_nothing_can_keep_leave_the_run_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = _search(tmp_path)

    def nothing(*_: object) -> None:
        raise NothingCanFit("nothing")

    monkeypatch.setattr(renewal, "require_possible", nothing)
    files = {name: (tmp_path / name).read_bytes() for name in ("study.db", "study.yaml", "request.json")}
    with pytest.raises(NothingCanFit):
        _search(tmp_path, limits={"size": "1B"})
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    assert load_run(tmp_path) == before


def test_a_change_interrupted_before_any_of_its_writes_leaves_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each write of the change in turn; the run is read in between, and the same command ends the change."""
    _search(tmp_path / "through")
    whole, _ = _search(tmp_path / "through", limits={"size": "800B"})
    old, _ = _search(tmp_path / "again")
    writes, left = [0], [0]
    told, at_it = renewal.tell_again, [False]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any, **options: Any) -> Any:
            if at_it[0]:
                writes[0] += 1
                if writes[0] == left[0]:
                    at_it[0] = False
                    raise KeyboardInterrupt
            return call(*arguments, **options)

        return write

    def begun(call: Callable[..., Any]) -> Callable[..., Any]:
        def begin(*arguments: Any) -> Any:
            at_it[0] = True
            return call(*arguments)

        return begin

    for name in ("create_new_study", "_create_new_trial", "set_study_user_attr", "delete_study"):
        monkeypatch.setattr(RDBStorage, name, counted(getattr(RDBStorage, name)))
    monkeypatch.setattr(terms, "write_atomically", counted(terms.write_atomically))
    monkeypatch.setattr(renewal, "tell_again", begun(told))
    monkeypatch.setattr(renewal, "write_terms", begun(renewal.write_terms))

    def renew(*arguments: Any) -> Any:
        try:
            return renewal.renew(*arguments)
        finally:
            at_it[0] = False

    monkeypatch.setattr(session, "renew", renew)
    seen = list[float]()
    for n in range(1, 60):
        writes[0], left[0] = 0, n
        try:
            _search(tmp_path / "again", limits={"size": "800B"})
        except KeyboardInterrupt:
            found = load_run(tmp_path / "again")
            seen.append(found.limits["size"])
            if found.limits["size"] == 700.0:
                assert found == old
            else:
                assert all(size > 800 for kind, size in _sizes(found).values() if kind == "Infeasible")
                assert len(found.results) == len(old.results) - 1  # one stands in line
                left[0] = 0
        else:
            break
    assert set(seen) == {700.0, 800.0} and seen == sorted(seen) and len(seen) > 10
    assert _sizes(load_run(tmp_path / "again")) == _sizes(whole)
    request = json.loads((tmp_path / "again" / "request.json").read_text())
    assert request["limits"] == {"size": "800B"} == stored_plan(tmp_path / "again" / "study.yaml").limits


def test_a_run_is_resumed_by_its_folder_alone(tmp_path: Path) -> None:
    _search(tmp_path)
    plan = requested_plan(tmp_path, {"limits": {"accuracy": 0.1}, "search": {"trials": 9}})
    assert plan.limits == {"size": "700B", "accuracy": 0.1} and plan.search.trials == 9
    assert plan.networks == load_plan(None, STUDY).networks
    with pytest.raises(UserError, match="no run folder"):
        requested_plan(tmp_path / "nothing", {})
    with pytest.raises(UserError, match="a limit on size is a number above 0"):
        requested_plan(tmp_path, {"limits": {"size": "much"}})
    assert main(["search", "quickstart", "--resume", str(tmp_path)]) == 2
    assert main(["search", "--resume", str(tmp_path / "nothing")]) == 2 and not (tmp_path / "nothing").exists()
    assert main(["search", "--resume", str(tmp_path), "--max-size", "800B", "--trials", "8"]) == 0
    assert load_run(tmp_path).limits == {"size": 800.0} and len(load_run(tmp_path).results) == 8
