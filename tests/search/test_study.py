"""The study as a record and as a memory: what is told is read back, and a stopped search asks what it would have asked."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from coreml_pareto.objectives.reading import exact, score_to_dict
from coreml_pareto.search.config import Plan, dump_plan, load_plan
from coreml_pareto.search.outcome import Failed, Infeasible, Outcome, Pruned, Scored
from coreml_pareto.search.record import check_record
from coreml_pareto.search.run import Result
from coreml_pareto.search.samplers import SAMPLERS
from coreml_pareto.search.study import Asked, Study, load_run
from coreml_pareto.search.told import once
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.errors import UserError

ResultAt = Callable[..., Result]
PLAN: dict[str, Any] = {
    "name": "made-up",
    "networks": {
        "backbones": ["mobilenetv3_small", "squeezenet1_1"],
        "width": [0.35, 0.5, 1.0],
        "resolution": [32, 48],
    },
    "distillation": {"teachers": ["none", "resnet18"]},
    "limits": {"accuracy": 0.9, "size": "1MB"},
    "training": {"epochs": [4, 8]},
    "search": {"trials": 15, "seed": 5},
}


def _plan(**sections: Any) -> Plan:
    return load_plan(None, PLAN | sections)


def _open(folder: Path, plan: Plan | None = None) -> Study:
    plan = plan or _plan()
    return Study(folder, plan, plan.space(10))


def _trials(folder: Path) -> list[FrozenTrial]:
    """The trials as any Optuna tool reads them."""
    return optuna.load_study(study_name="made-up", storage=f"sqlite:///{folder / 'study.db'}").trials


@pytest.fixture
def scored(result_at: ResultAt) -> Callable[..., Scored]:
    """scored(folder, top1=0.95, size=5e5): a package in that run folder."""

    def make(folder: Path, top1: float = 0.95, size: float = 5e5) -> Scored:
        score = result_at(0, (top1, 0.5, size, 2e6, 0.1)).score
        return Scored(score, folder / "store" / "package" / "0123" / "model.mlpackage", {"training": "4567"})

    return make


@pytest.fixture
def outcome_of(scored: Callable[..., Scored]) -> Callable[[Path, Asked, int], Outcome]:
    """What becomes of the n-th candidate: of every five, one fails, one is over the limit of size, three are scored."""

    def make(folder: Path, asked: Asked, number: int) -> Outcome:
        chance = int(asked.candidate.digest[:4], 16)
        size = 3e5 * asked.candidate.network.width * asked.candidate.network.resolution / 16
        if number % 5 == 3:
            return Failed("training", "loss is nan")
        if number % 5 == 1:
            return Infeasible(("size",), {"size_bytes": exact(size + 1e6, "B")})
        return scored(folder, top1=0.8 + chance % 20 / 100, size=size)

    return make


# --- the record -------------------------------------------------------------------------------------------------------


def test_a_scored_trial_is_complete_with_its_readings(tmp_path: Path, scored: Callable[..., Scored]) -> None:
    study = _open(tmp_path)
    asked = study.ask()
    outcome = scored(tmp_path, top1=0.8, size=4e5)
    study.tell(asked, outcome, 12.5)
    (trial,) = _trials(tmp_path)
    assert trial.state == TrialState.COMPLETE
    assert trial.values == [0.8, 0.5, 4e5, 2e6, 0.1]
    assert trial.constraints == {"accuracy": pytest.approx(0.1 / 0.9), "size": -0.6}
    assert trial.user_attrs == {
        "candidate": asked.candidate.model_dump(mode="json"),
        "outcome": "scored",
        "score": score_to_dict(outcome.score),
        "package": "store/package/0123/model.mlpackage",
        "provenance": {"training": "4567"},
        "seconds": 12.5,
    }
    assert study.results() == (Result(0, asked.candidate, outcome, seconds=12.5),)


def test_an_infeasible_trial_is_complete_with_the_worst_infinities(tmp_path: Path) -> None:
    study = _open(tmp_path)
    asked = study.ask()
    outcome = Infeasible(("size",), {"size_bytes": exact(3e6, "B")})
    study.tell(asked, outcome, 0.5)
    (trial,) = _trials(tmp_path)
    assert trial.state == TrialState.COMPLETE
    assert trial.values == [-math.inf, math.inf, 3e6, math.inf, math.inf]
    assert trial.constraints == {"accuracy": 0, "size": 2.0}
    attributes = {name: value for name, value in trial.user_attrs.items() if name != "candidate"}
    known = {"outcome": "infeasible", "limits": ["size"], "seconds": 0.5, "score": score_to_dict(outcome.score)}
    assert attributes == known
    assert study.results() == (Result(0, asked.candidate, outcome, seconds=0.5),)


def test_a_pruned_trial_is_complete_with_what_was_known(tmp_path: Path) -> None:
    study = _open(tmp_path)
    asked = study.ask()
    outcome = Pruned("top-1 below the median", {"top1": exact(0.3, "share")})
    study.tell(asked, outcome, 3.0)
    (trial,) = _trials(tmp_path)
    assert trial.state == TrialState.COMPLETE
    assert trial.values == [0.3, math.inf, math.inf, math.inf, math.inf]
    assert trial.constraints == {"accuracy": pytest.approx(0.6 / 0.9), "size": 0}
    assert trial.user_attrs["outcome"] == "pruned" and trial.user_attrs["reason"] == "top-1 below the median"
    assert study.results() == (Result(0, asked.candidate, outcome, seconds=3.0),)


def test_a_failed_trial_has_no_values_but_its_cause(tmp_path: Path) -> None:
    study = _open(tmp_path)
    asked = study.ask()
    outcome = Failed("training", "loss is nan")
    study.tell(asked, outcome, 1.0)
    (trial,) = _trials(tmp_path)
    assert trial.state == TrialState.FAIL and trial.values is None and trial.constraints == {}
    attributes = {name: value for name, value in trial.user_attrs.items() if name != "candidate"}
    assert attributes == {"outcome": "failed", "stage": "training", "cause": "loss is nan", "seconds": 1.0}
    assert study.results() == (Result(0, asked.candidate, outcome, seconds=1.0),)


def test_strict_limits_are_told_by_the_worse_end(tmp_path: Path, scored: Callable[..., Scored]) -> None:
    study = _open(tmp_path, _plan(strict=True))
    outcome = scored(tmp_path, top1=0.92)
    study.tell(study.ask(), outcome, 1.0)
    assert _trials(tmp_path)[0].constraints["accuracy"] == pytest.approx(1 - outcome.score["top1"].low / 0.9)
    assert outcome.score["top1"].low < 0.9


def test_objectives_of_the_study_have_directions_and_names(tmp_path: Path) -> None:
    _open(tmp_path, _plan(objectives=["size", "accuracy"], limits={}))
    study = optuna.load_study(study_name="made-up", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert study._storage.get_study_system_attrs(study._study_id)["study:metric_names"] == ["size_bytes", "top1"]


def test_a_repetition_counts_once(tmp_path: Path, scored: Callable[..., Scored]) -> None:
    study = _open(tmp_path)
    first = study.ask()
    study.tell(first, scored(tmp_path), 7.0)
    (result,) = study.results()
    study.enqueue(first.candidate)
    again = study.ask()
    assert again.candidate == first.candidate
    study.repeat(again, result)
    assert study.results() == (result,)
    told = _trials(tmp_path)[1]
    assert told.values == _trials(tmp_path)[0].values
    assert told.user_attrs["repeats"] == 0 and told.user_attrs["seconds"] == 0


def test_facts_and_test_readings_stay_with_the_study(tmp_path: Path, scored: Callable[..., Scored]) -> None:
    study = _open(tmp_path)
    study.tell(study.ask(), scored(tmp_path), 1.0)
    reading = exact(0.93, "share", split="test")
    study.note("test_top1", {"0": reading.to_dict()})
    study.note("classes", ["cat", "dog"])
    run = _open(tmp_path).run()
    assert run.classes == ("cat", "dog") and run.results[0].test_top1 == reading
    assert run.limits == {"accuracy": 0.9, "size": 1e6} and run.study == "made-up"


def test_a_run_folder_that_was_moved_still_finds_its_packages(tmp_path: Path, scored: Callable[..., Scored]) -> None:
    old, new = tmp_path / "old", tmp_path / "elsewhere" / "new"
    study = _open(old)
    outcome = scored(old)
    outcome.package.mkdir(parents=True)
    study.tell(study.ask(), outcome, 1.0)
    (old / "study.yaml").write_text(dump_plan(_plan()))
    new.parent.mkdir()
    shutil.move(old, new)
    (found,) = load_run(new).scored()
    assert isinstance(found.outcome, Scored)
    assert found.outcome.package == new / "store" / "package" / "0123" / "model.mlpackage"
    assert found.outcome.package.is_dir()


# --- the memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_stopped_after_every_trial_asks_what_one_that_lives_through_asks(
    tmp_path: Path, sampler: str, outcome_of: Callable[[Path, Asked, int], Outcome]
) -> None:
    """Every trial of `b` is asked by another process; every second of these is killed in the trial after it."""
    plan = _plan(search=PLAN["search"] | {"sampler": sampler})
    through = _open(tmp_path / "a", plan)
    for number in range(30 if sampler.startswith("nsga") else 15):  # a generation of theirs has 20
        asked = through.ask()
        resumed = _open(tmp_path / "b", plan)
        assert resumed.recover() == (number > 0 and number % 2 == 0)
        again = resumed.ask()
        assert again.candidate == asked.candidate
        through.tell(asked, outcome_of(tmp_path / "a", asked, number), 1.0)
        resumed.tell(again, outcome_of(tmp_path / "b", again, number), 1.0)
        if number % 2 == 1:
            resumed.ask()
    results = _open(tmp_path / "a", plan).results()
    assert {type(result.outcome) for result in results} == {Scored, Infeasible, Failed}
    told = [(r.candidate, type(r.outcome)) for r in _open(tmp_path / "b", plan).results()]
    assert told == [(r.candidate, type(r.outcome)) for r in results]
    assert len({candidate for candidate, _ in told}) > 5


def test_another_seed_asks_otherwise(tmp_path: Path) -> None:
    def first(folder: Path, seed: int) -> list[Candidate]:
        study = _open(folder, _plan(search={"trials": 5, "seed": seed}))
        return [_tell_failed(study) for _ in range(5)]

    assert first(tmp_path / "a", 1) == first(tmp_path / "b", 1) != first(tmp_path / "c", 2)


def _tell_failed(study: Study) -> Candidate:
    asked = study.ask()
    study.tell(asked, Failed("training", "made up"), 0.0)
    return asked.candidate


def _some(count: int) -> list[Candidate]:
    """Different candidates of the space."""
    space = _plan().space(10)
    first = space.decode(lambda knob: knob.choices[0])
    return list(itertools.islice((first, *space.neighbours(first)), count))


def test_candidates_wait_and_are_asked_in_their_order(tmp_path: Path) -> None:
    study = _open(tmp_path)
    line = _some(4)
    for candidate in line:
        study.enqueue(candidate)
    assert study.waiting() == tuple(line)
    assert [_tell_failed(study), _tell_failed(study)] == line[:2]
    assert _open(tmp_path).waiting() == tuple(line[2:])


def test_recovery_puts_those_that_stood_in_line_back_in_their_order(tmp_path: Path) -> None:
    study = _open(tmp_path)
    line = _some(4)
    for candidate in line:
        study.enqueue(candidate)
    _tell_failed(study)
    assert study.ask().candidate == line[1]  # and killed
    resumed = _open(tmp_path)
    assert resumed.recover() == 1
    assert resumed.waiting() == tuple(line[1:])
    assert [_tell_failed(resumed) for _ in range(3)] == line[1:]
    assert [result.candidate for result in resumed.results()] == line
    assert resumed.recover() == 0


def test_recovery_forgets_what_the_sampler_drew_and_keeps_the_line(tmp_path: Path) -> None:
    study = _open(tmp_path)
    _tell_failed(study)
    drawn = study.ask().candidate
    line = _some(3)
    for candidate in line:
        study.enqueue(candidate)
    resumed = _open(tmp_path)
    assert resumed.recover() == 1
    assert resumed.waiting() == tuple(line)
    assert len(resumed.results()) == 1 and drawn not in resumed.waiting()
    states = [trial.state for trial in _trials(tmp_path)]
    assert states.count(TrialState.RUNNING) == 0 and states.count(TrialState.WAITING) == 3


@pytest.mark.parametrize("workers", [None, 3])
def test_recovery_of_several_at_work_keeps_their_order_whether_drawn_or_put_in_line(
    tmp_path: Path, workers: int | None
) -> None:
    """What was drawn stands where it was asked: what was trained of it is not lost. The same if killed in recovery."""
    study = _open(tmp_path)
    line = _some(2)
    for candidate in line:
        study.enqueue(candidate)
    asked = [study.ask().candidate for _ in range(4)]
    assert asked[:2] == line
    resumed = _open(tmp_path, _plan(search=PLAN["search"] | {"workers": workers}))
    assert resumed.recover() == 4 and resumed.waiting() == tuple(asked)
    assert [resumed.ask().candidate for _ in range(4)] == asked
    assert _open(tmp_path).recover() == 4
    assert [trial.number for trial in _trials(tmp_path)] == [0, 1, 2, 3]
    assert [_tell_failed(resumed) for _ in range(4)] == asked and resumed.told() == 4


def test_of_several_workers_a_single_one_left_is_put_in_line(tmp_path: Path) -> None:
    """It was drawn beside others that have ended since: the sampler would draw another."""
    study = _open(tmp_path, plan := _plan(search=PLAN["search"] | {"workers": 2}))
    first, second = study.ask(), study.ask()
    study.tell(first, Failed("training", "made up"), 0.0)
    resumed = _open(tmp_path, plan)
    assert resumed.recover() == 1 and resumed.waiting() == (second.candidate,)


def test_one_that_was_killed_while_it_was_asked_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all of its choices are known."""
    study = _open(tmp_path, plan := _plan(search=PLAN["search"] | {"workers": 2}))
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "set_user_attr", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            study.ask()
    resumed = _open(tmp_path, plan)
    assert resumed.recover() == 1 and resumed.waiting() == () and resumed.told() == 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_those_at_work_count_for_the_next_draw(tmp_path: Path, sampler: str) -> None:
    """Ten asked at once are not one candidate ten times over, and the same in every search of this seed."""
    plan = _plan(search=PLAN["search"] | {"sampler": sampler})
    first, second = (_open(tmp_path / name, plan) for name in "ab")
    asked = [first.ask().candidate for _ in range(10)]
    assert asked == [second.ask().candidate for _ in range(10)]
    assert len(set(asked)) > 5


class Interrupted:
    """Lets a trial write so many attributes; the next is written, too, and then somebody presses Ctrl-C."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
        self.left = writes
        for name in ("set_user_attr", "set_constraint"):
            monkeypatch.setattr(optuna.Trial, name, self._counted(getattr(optuna.Trial, name)))

    def _counted(self, write: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            write(*arguments)
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

        return counted


@pytest.mark.parametrize(
    ("kind", "in_line", "commits"),
    [
        ("scored", False, 7),
        ("scored", True, 7),
        ("infeasible", False, 6),
        ("failed", False, 4),
        ("repeated", True, 8),
    ],
)
def test_a_trial_interrupted_while_it_is_told_is_asked_again_and_counts_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scored: Callable[..., Scored],
    kind: str,
    in_line: bool,
    commits: int,
) -> None:
    """After each of its commits in turn, until one attempt is not interrupted."""
    outcomes = {
        "infeasible": Infeasible(("size",), {"size_bytes": exact(3e6, "B")}),
        "failed": Failed("training", "nan"),
    }
    outcome: Outcome = outcomes.get(kind, scored(tmp_path))
    study, line = _open(tmp_path), _some(20)
    (tmp_path / "study.yaml").write_text(dump_plan(_plan()))
    first = study.ask()
    study.tell(first, scored(tmp_path), 1.0)

    def tell(asked: Asked) -> None:
        study.repeat(asked, before[0]) if kind == "repeated" else study.tell(asked, outcome, 2.0)

    for writes in itertools.count():
        before, told = study.results(), study.told()
        if in_line:
            study.enqueue(first.candidate if kind == "repeated" else line[writes])
        asked = study.ask()
        with monkeypatch.context() as patch:
            Interrupted(patch, writes)
            try:
                tell(asked)
            except KeyboardInterrupt:
                pass
            else:
                break
        assert load_run(tmp_path).results == before
        study = _open(tmp_path)
        assert (study.recover(), study.told()) == (1, told)
        again = study.ask()
        assert again.candidate == asked.candidate
        tell(again)
        assert (study.recover(), study.told(), len(study.waiting())) == (0, told + 1, 0)
        new = () if kind == "repeated" else (Result(again.number, again.candidate, outcome, seconds=2.0),)
        assert load_run(tmp_path).results == before + new
    assert writes == commits


def test_a_recovery_that_is_killed_loses_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = _some(3)
    study = _open(tmp_path)
    for candidate in line:
        study.enqueue(candidate)
    study.ask()
    drawn = _open(tmp_path / "b")
    candidate = drawn.ask().candidate
    for resumed, folder in ((_open(tmp_path), tmp_path), (_open(tmp_path / "b"), tmp_path / "b")):
        storage = resumed._study._storage
        with monkeypatch.context() as patch:
            patch.setattr(storage, "set_trial_state_values", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                resumed.recover()
        assert _open(folder).recover() == 1
    assert _open(tmp_path).waiting() == tuple(line)
    assert _open(tmp_path / "b").ask().candidate == candidate


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path: Path, scored: Callable[..., Scored]) -> Path:
    """A run folder with three trials."""
    folder = tmp_path / "run"
    study = _open(folder)
    for _ in range(3):
        study.tell(study.ask(), scored(folder), 1.0)
    (folder / "store").mkdir()
    (folder / "study.yaml").write_text(dump_plan(_plan()))
    (folder / "request.json").write_text(json.dumps(_plan().model_dump(mode="json")))
    check_record(folder)
    assert len(load_run(folder).results) == 3
    return folder


def _refused(folder: Path, name: str, why: str) -> None:
    """`front` and `best` (load_run) and `search` (check_record) say the same in one line."""
    for reader in (load_run, check_record):
        with pytest.raises(UserError) as caught:
            reader(folder)
        text = str(caught.value)
        assert text.startswith(f"{folder / name} is damaged (") and why in text and "\n" not in text
        assert text.endswith(
            f"restore it, or search in another --run folder; the packages are still in {folder / 'store'}."
        )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_database_that_ends_early_is_told(finished: Path, share: float) -> None:
    database = finished / "study.db"
    content = database.read_bytes()
    database.write_bytes(content[: int(len(content) * share)])
    _refused(finished, "study.db", "")


def test_a_database_whose_last_page_lacks_a_byte_is_told(finished: Path) -> None:
    database = finished / "study.db"
    database.write_bytes(database.read_bytes()[:-1])
    _refused(finished, "study.db", "it ends early")


def test_a_write_that_was_killed_is_rolled_back_before_the_end_is_looked_at(finished: Path) -> None:
    """A journal lies beside a file that says it has more pages than it has."""
    database, known = finished / "study.db", len(load_run(finished).results)
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA cache_size=1'); "
        "c.execute('CREATE TABLE t (x)'); c.executemany('INSERT INTO t VALUES (?)', [('x' * 9000,)] * 50); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(database)], check=False)
    assert (finished / "study.db-journal").is_file()
    content = bytearray(database.read_bytes())
    content[28:32] = (10**6).to_bytes(4, "big")  # as a commit that was killed between its pages leaves it
    database.write_bytes(content)
    assert len(load_run(finished).results) == known


def test_a_database_that_is_a_text_file_is_told(finished: Path) -> None:
    (finished / "study.db").write_text("no database at all\n" * 1000)
    _refused(finished, "study.db", "file is not a database")


def test_a_database_with_a_page_of_zeros_is_told(finished: Path) -> None:
    content = bytearray((finished / "study.db").read_bytes())
    content[8192:12288] = bytes(4096)
    (finished / "study.db").write_bytes(content)
    _refused(finished, "study.db", "")


def test_a_database_without_the_study_is_told(finished: Path) -> None:
    (finished / "study.db").write_bytes(b"")
    _refused(finished, "study.db", "it holds no study 'made-up'")
    optuna.create_study(study_name="another", storage=f"sqlite:///{finished / 'study.db'}")
    _refused(finished, "study.db", "it holds no study 'made-up'")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff\xfe\x00", "UTF-8"),
        (b"name: [", "is not YAML"),
        (b"", "it ends early"),
        (b"name: made-up\nlimits: {}\n", "it ends early"),
        (b"name: made-up\nnonsense: 1\nsearch: {}\n", "unknown key 'nonsense'"),
    ],
)
def test_a_damaged_study_file_is_told(finished: Path, content: bytes, why: str) -> None:
    (finished / "study.yaml").write_bytes(content)
    _refused(finished, "study.yaml", why)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_request_is_told_before_a_search(finished: Path, content: bytes) -> None:
    (finished / "request.json").write_bytes(content)
    with pytest.raises(UserError, match=r"request\.json is damaged \(it is no JSON object\)"):
        check_record(finished)


def test_a_search_that_was_killed_early_is_not_damaged(tmp_path: Path) -> None:
    check_record(tmp_path)
    (tmp_path / "study.yaml").write_text(dump_plan(_plan()))
    check_record(tmp_path)
    (tmp_path / "study.db").touch()  # killed before its study was entered
    check_record(tmp_path)
    assert _open(tmp_path).results() == ()


@pytest.mark.parametrize("name", ["create_study", "load_study"])
def test_a_search_ended_while_its_study_was_made_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Probes for the limits lie in the store by then; the disk is full, or a kill comes, before or after the study is in."""
    (tmp_path / "store").mkdir()
    (tmp_path / "study.yaml").write_text(dump_plan(_plan()))
    call, tries = getattr(optuna, name), list[object]()

    def interrupted(*arguments: Any, **options: Any) -> Any:
        tries.append(arguments)
        if len(tries) < 3:
            raise KeyboardInterrupt
        return call(*arguments, **options)

    monkeypatch.setattr(optuna, name, interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            _open(tmp_path)
        check_record(tmp_path)
    assert _open(tmp_path).results() == ()
    assert {path.name for path in tmp_path.iterdir()} == {"store", "study.yaml", "study.db"}


def test_what_a_killed_process_was_writing_is_rolled_back(finished: Path) -> None:
    """A copy of database and journal in the middle of a transaction is what a power failure leaves."""
    copy = finished.parent / "copy"
    with closing(sqlite3.connect(finished / "study.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")  # pages are spilled into the file before the end of the transaction
        writer.execute("BEGIN")
        writer.execute("DELETE FROM trial_user_attributes")
        for number in range(2000):
            writer.execute("INSERT INTO study_user_attributes VALUES (?, 1, ?, '1')", (number + 100, f"fact {number}"))
        shutil.copytree(finished, copy)
        writer.execute("ROLLBACK")
    assert (copy / "study.db-journal").stat().st_size > 0
    assert (copy / "study.db").read_bytes() != (finished / "study.db").read_bytes()
    check_record(copy)
    assert [r.trial for r in load_run(copy).results] == [0, 1, 2]


def test_reading_a_run_writes_nothing(finished: Path) -> None:
    before = (finished / "study.db").read_bytes()
    load_run(finished)
    assert (finished / "study.db").read_bytes() == before


def test_what_two_machines_made_of_one_candidate_counts_once(tmp_path: Path, scored: Callable[..., Scored]) -> None:
    study = _open(tmp_path)
    study.tell(study.ask(), scored(tmp_path), 1.0)
    first = study.results()[0]
    twin, failed = replace(first, trial=7), replace(first, trial=8, outcome=Failed("machine", "gone"))
    assert list(once([first, failed, twin])) == [first, failed]
