"""A storage that is away is waited for, in one line, and given up in another; nothing is told twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import psycopg
import pytest
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from coreml_pareto.search.storage import patience
from coreml_pareto.search.storage.address import parse
from coreml_pareto.search.storage.opening import open_storage
from coreml_pareto.search.storage.patience import impatient, outage, patient
from coreml_pareto.spaces.errors import UserError

ADDRESS = parse("postgresql://me:secret-word@db/birds")
AWAY = sqlalchemy.exc.OperationalError("SELECT", {}, Exception("server closed; secret-word"))


class Hand:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hand]:
    hand = Hand()
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: hand.now, sleep=hand.sleep))
    return hand


class Failing(InMemoryStorage):
    """Is away for the next calls: before what was asked is done, or after it, when only the answer is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.before = self.after = 0

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._call()
        super().set_trial_user_attr(trial_id, key, value)
        self._answer()

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        self._call()
        done = super().set_trial_state_values(trial_id, state, values)
        self._answer()
        return done

    def _call(self) -> None:
        if self.before:
            self.before -= 1
            raise AWAY

    def _answer(self) -> None:
        if self.after:
            self.after -= 1
            raise AWAY


def _study(seconds: float = 600.0) -> tuple[Failing, optuna.Study, list[str]]:
    inner, told = Failing(), list[str]()
    return inner, optuna.create_study(storage=patient(inner, ADDRESS, seconds, told.append), study_name="s"), told


def test_an_outage_is_one_line_and_its_end_another(clock: Hand) -> None:
    inner, study, told = _study()
    trial = study.ask()
    inner.before = 9
    trial.set_user_attr("a", 1)
    assert study.trials[0].user_attrs == {"a": 1}
    assert told == [
        "postgresql://me@db/birds does not answer (server closed; ***); waiting for it, 10 min 00 s at most; nothing "
        "finished is lost.",
        f"postgresql://me@db/birds answers again after 1 min {sum(clock.slept) - 60:02.0f} s.",
    ]
    assert clock.slept == sorted(clock.slept) and max(clock.slept) == patience.LONGEST


def test_a_tell_whose_answer_was_lost_is_told_once(clock: Hand) -> None:
    inner, study, _ = _study()
    trial = study.ask()
    inner.after = 1
    study.tell(trial, 0.5)
    assert [(t.state, t.value) for t in study.trials] == [(TrialState.COMPLETE, 0.5)]


def test_a_tell_that_another_one_came_before_is_refused(clock: Hand) -> None:
    """The answer is lost, and meanwhile somebody else has told the trial otherwise."""
    inner, study, _ = _study()
    trial = study.ask()
    inner.before = 1
    told = InMemoryStorage.set_trial_state_values

    def meanwhile(seconds: float) -> None:
        told(inner, trial._trial_id, TrialState.FAIL, None)

    patience.time.sleep = meanwhile  # type: ignore[assignment]
    with pytest.raises(UpdateFinishedTrialError):
        study.tell(trial, 0.5)
    assert study.trials[0].state == TrialState.FAIL


def test_patience_ends_in_a_sentence_and_no_later_call_waits(clock: Hand) -> None:
    inner, study, told = _study(60.0)
    trial = study.ask()
    inner.before = 10**6
    with pytest.raises(
        UserError, match=r"postgresql://me@db/birds has not answered for 1 min 00 s \(server closed; \*\*\*\)"
    ):
        trial.set_user_attr("a", 1)
    assert len(told) == 1 and 60 <= sum(clock.slept) < 60 + patience.LONGEST
    slept = len(clock.slept)
    with pytest.raises(UserError, match="has not answered"):
        trial.set_user_attr("a", 1)
    assert len(clock.slept) == slept


def test_a_reader_does_not_wait(clock: Hand) -> None:
    inner, study, told = _study(0.0)
    trial = study.ask()
    inner.before = 1
    with pytest.raises(UserError, match="has not answered"):
        trial.set_user_attr("a", 1)
    assert not told and not clock.slept


def test_other_errors_pass_through(clock: Hand) -> None:
    _, study, _ = _study()
    with pytest.raises(KeyError):
        optuna.load_study(study_name="another", storage=study._storage)
    assert not clock.slept


def test_every_public_method_of_the_interface_is_waited_for() -> None:
    storage = patient(InMemoryStorage(), ADDRESS, 1.0, print)
    assert not getattr(type(storage), "__abstractmethods__", None)
    for name in dir(BaseStorage):
        if not name.startswith("_") and name != "check_trial_is_updatable":
            assert getattr(type(storage), name) is not getattr(BaseStorage, name), name
    assert isinstance(impatient(storage), InMemoryStorage)


def test_what_is_an_outage_and_what_is_not() -> None:
    wrapped = StorageInternalError("commit")
    wrapped.__cause__ = AWAY
    assert outage(wrapped) == "server closed; secret-word"
    assert outage(sqlalchemy.exc.InterfaceError("x", {}, Exception("closed"))) == "closed"
    assert outage(ValueError("no")) is None
    assert outage(sqlalchemy.exc.IntegrityError("x", {}, Exception("twice"))) is None
    assert outage(StorageInternalError("too long")) is None


# --- a real server ----------------------------------------------------------------------------------------------------


def test_postgresql_stopped_and_started_is_waited_for(
    postgres: Any, database: str, open_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every connection of the pool is dead afterwards; reads and writes go on as if nothing had been."""
    told: list[str] = []
    study = optuna.create_study(storage=open_at(database, 300.0, told.append), study_name="s")
    trial = study.ask()
    postgres.stop()
    pauses = iter([None, postgres.start])
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: (next(pauses, None) or (lambda: None))())
    trial.set_user_attr("a", 1)
    study.tell(trial, 0.5)
    assert [(t.state, t.value, t.user_attrs) for t in study.trials] == [(TrialState.COMPLETE, 0.5, {"a": 1})]
    assert len(told) == 2 and "does not answer" in told[0] and "answers again" in told[1]
    assert "not-to-be-seen" not in "".join(told)


def test_postgresql_refusals_are_sentences_without_the_password(postgres: Any, database: str) -> None:
    with pytest.raises(UserError, match=r"cannot be opened \(.*password authentication failed") as refused:
        open_storage(parse(postgres.url("wrong-word")))
    assert "wrong-word" not in str(refused.value)
    with pytest.raises(UserError, match=r'database "nowhere" does not exist'):
        open_storage(parse(postgres.url(database="nowhere")))
    with pytest.raises(UserError, match=r"postgresql://me@127.0.0.1:1/x cannot be opened"):
        open_storage(parse("postgresql://me:secret-word@127.0.0.1:1/x"))


def test_four_machines_make_the_tables_of_an_empty_database_at_once(database: str, open_at: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(open_at, [database] * 4))
    assert all(storage.get_all_studies() == [] for storage in opened)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_the_proxy_before_a_database_that_is_away_is_waited_for(
    postgres: Any, database: str, proxy: Any, open_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy answers, its database does not: that is an outage as well."""
    told: list[str] = []
    address = proxy(database.replace("postgresql://", "postgresql+psycopg://"))
    study = optuna.create_study(storage=open_at(address, 300.0, told.append), study_name="s")
    trial = study.ask()
    postgres.stop()
    pauses = iter([None, postgres.start])
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: (next(pauses, None) or (lambda: None))())
    study.tell(trial, 0.5)
    assert [(t.state, t.value) for t in study.trials] == [(TrialState.COMPLETE, 0.5)]
    assert len(told) == 2


def test_a_proxy_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from coreml_pareto.search.storage import opening

    monkeypatch.setattr(opening, "CONNECT", 1)
    with pytest.raises(UserError, match=r"grpc://127.0.0.1:1 cannot be opened \(no answer within 1 s\)"):
        open_storage(parse("grpc://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("url", "module"),
    [("postgresql://me@db/x", "psycopg"), ("mysql://me@db/x", "pymysql"), ("grpc://db:1", "grpc")],
)
def test_a_driver_that_is_missing_is_named_with_its_extra(
    url: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UserError, match=rf"pip install 'coreml-pareto\[{url.partition(':')[0]}\]'"):
        open_storage(parse(url))


def test_mysql_is_opened_by_its_driver(tmp_path: Path) -> None:
    """As far as it goes without a server: the driver is found, asked, and its refusal told."""
    with pytest.raises(UserError, match=r"mysql://me@127.0.0.1:1/x cannot be opened .*Can't connect to MySQL server"):
        open_storage(parse("mysql://me:secret-word@127.0.0.1:1/x"))
