"""Leases: who is alive is told from changes on one's own clock, and an outage kills nobody."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy.exc
from hypothesis import given
from hypothesis import strategies as st
from optuna import create_study
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from coreml_pareto.search.storage import patience
from coreml_pareto.search.storage.address import parse
from coreml_pareto.search.storage.lease import BEAT, EXPIRES, LEASE, Keeper, Watch


def test_a_lease_that_no_longer_changes_expires_and_one_that_does_never() -> None:
    watch, now = Watch(), 1000.0
    for beat in range(20):
        watch.look({1: {"beat": beat}, 2: {"beat": min(beat, 3)}, 3: None}, now)
        now += BEAT
    assert watch.expired() == {2: {"beat": 3}, 3: None}
    watch.look({1: {"beat": 19}, 2: {"beat": 4}}, now)  # back again, and 3 is told
    assert not watch.expired()


def test_time_without_a_look_does_not_count() -> None:
    """The storage was away for an hour: nobody could renew, and nobody is dead."""
    watch = Watch()
    watch.look({1: {"beat": 1}}, 0.0)
    watch.look({1: {"beat": 1}}, 3600.0)
    assert not watch.expired()
    watch.look({1: {"beat": 2}}, 3605.0)
    assert not watch.expired()


@given(st.lists(st.tuples(st.floats(0, 3 * BEAT), st.booleans()), min_size=1, max_size=60))
def test_silence_is_what_was_seen_of_it(looks: list[tuple[float, bool]]) -> None:
    """Against the sum of all looks since the last change, each counted up to two beats."""
    watch, now, beat, silent = Watch(), 0.0, 0, 0.0
    watch.look({7: {"beat": beat}}, now)
    for passed, renewed in looks:
        now, beat = now + passed, beat + renewed
        silent = 0.0 if renewed else silent + min(passed, 2 * BEAT)
        watch.look({7: {"beat": beat}}, now)
        if abs(silent - EXPIRES) > 1e-6:
            assert (watch.expired().keys() == {7}) == (silent > EXPIRES)


def test_a_keeper_renews_what_it_holds_and_lets_go_of_what_is_told() -> None:
    storage = InMemoryStorage()
    study = create_study(storage=storage)
    keeper = Keeper(storage, study._study_id, {"machine": "a", "host": "b"})
    held, told, other = study.ask(), study.ask(), study.ask()
    keeper.hold(held._trial_id)
    keeper.hold(told._trial_id)
    before = storage.get_trial(held._trial_id).system_attrs[LEASE]
    storage.set_trial_state_values(told._trial_id, TrialState.FAIL)
    keeper.beat()
    after = storage.get_trial(held._trial_id).system_attrs[LEASE]
    assert before["beat"] < after["beat"] and (after["machine"], after["host"]) == ("a", "b")
    assert LEASE not in storage.get_trial(other._trial_id).system_attrs
    assert keeper.held == {held._trial_id}
    keeper.drop(held._trial_id)
    keeper.beat()
    assert storage.get_trial(held._trial_id).system_attrs[LEASE] == after


class Flaky(InMemoryStorage):
    """Goes away for as many calls as `away` says."""

    away = 0

    def set_trial_system_attr(self, *arguments: Any) -> None:
        if self.away:
            self.away -= 1
            raise sqlalchemy.exc.OperationalError("UPDATE", {}, Exception("the connection is closed"))
        super().set_trial_system_attr(*arguments)


def test_who_takes_a_lease_waits_for_a_storage_that_is_away_and_the_keeper_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "FIRST", 0.0)
    flaky, said = Flaky(), list[str]()
    storage = patience.patient(flaky, parse("postgresql://me@db/birds"), 60.0, said.append)
    study = create_study(storage=storage)
    keeper, trial = Keeper(storage, study._study_id, {"machine": "a", "host": "b"}), study.ask()
    flaky.away = 2
    keeper.hold(trial._trial_id)
    assert keeper.held == {trial._trial_id} and ["answers again" in line for line in said] == [False, True]
    flaky.away = 1
    with pytest.raises(sqlalchemy.exc.OperationalError):
        keeper.beat()
    assert len(said) == 2
    keeper.beat()
    assert storage.get_trial(trial._trial_id).system_attrs[LEASE]["beat"] == 2
