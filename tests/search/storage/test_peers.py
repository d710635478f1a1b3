"""Two machines of one study in one process: what they know of each other, and what becomes of the work of a dead one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from peers_double import SCORE, SECTIONS, Clock, Machine, silence

from coreml_pareto.objectives.reading import exact
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.outcome import Failed, Infeasible, Scored
from coreml_pareto.search.run import Result
from coreml_pareto.search.storage.lease import LEASE
from coreml_pareto.search.storage.peers import ASIDE, RETRIES, Peers
from coreml_pareto.search.study import INTERRUPTED, Study
from coreml_pareto.search.told import AGAIN, LOST, MACHINE_STAGE
from coreml_pareto.spaces.candidate import Candidate


def _numbers(results: list[Result]) -> list[int]:
    return [result.trial for result in results]


def test_what_one_tells_the_other_hears_once(machines: Callable[[str], Machine]) -> None:
    a, b = machines("a"), machines("b")
    asked, taken = a.ask()
    assert not taken
    b.hear()
    assert {n: o.candidate for n, o in b.peers.elsewhere.items()} == {asked.number: asked.candidate}
    told = a.tell(asked)
    (heard,) = b.hear()
    assert (heard.trial, heard.candidate, heard.score.keys()) == (told.trial, asked.candidate, SCORE.keys())
    assert isinstance(heard.outcome, Scored)
    assert heard.outcome.package == b.folder / "store/package/01/m.mlpackage"  # in its own folder, where it is fetched
    assert not b.hear() and not a.hear() and not b.peers.elsewhere and not a.peers.elsewhere
    assert set(machines("c").seen) == {asked.candidate.digest}


def _asked_alone(folder: Path, trials: int) -> list[Candidate]:
    """What a search with a storage of its own asks."""
    plan, found = load_plan(None, SECTIONS), []
    study = Study(folder, plan, plan.space(10))
    for _ in range(trials):
        asked = study.ask()
        study.tell(asked, Scored(SCORE, folder / "m.mlpackage", {}), 1.0)
        found.append(asked.candidate)
    return found


def test_two_draw_differently_from_the_same_study(machines: Callable[[str], Machine], tmp_path: Path) -> None:
    a, b = machines("a"), machines("b")
    assert a.study.machine != b.study.machine and a.study.machine
    b.study.machine = "b"  # a name drawn at random might ask the same by chance
    assert [b.tell(b.ask()[0]).candidate for _ in range(6)] != _asked_alone(tmp_path / "alone", 6)


def test_who_began_a_study_asks_what_a_search_alone_would_whatever_is_lost_on_the_way(
    machines: Callable[[str], Machine], tmp_path: Path
) -> None:
    one = machines("a")
    found = [one.tell(one.ask()[0]).candidate for _ in range(3)]
    one.ask()
    one.die()
    again = machines("a")
    assert again.peers.recover() == 1 and len(again.hear()) == 1
    found += [again.tell(again.ask()[0]).candidate for _ in range(5)]
    assert found == _asked_alone(tmp_path / "alone", 8)
    assert [trial.state for trial in again.trials].count(TrialState.FAIL) == 1


def test_who_finds_its_candidate_at_work_steps_aside_and_is_told_as_its_repetition(
    machines: Callable[[str], Machine],
) -> None:
    a, b = machines("a"), machines("b")
    candidate = a.study.space.decode(lambda knob: knob.choices[0])
    a.study.enqueue(candidate)
    b.study.enqueue(candidate)
    (first, taken), (second, aside) = a.ask(), b.ask()
    assert (first.candidate, second.candidate, taken, aside) == (candidate, candidate, False, True)
    assert b.peers.left_alone([second], [], b.seen) is None
    result = a.tell(first)
    assert _numbers(b.hear()) == [first.number]
    assert b.peers.left_alone([second], [], b.seen) is None
    b.study.repeat(second, result)
    assert [trial.state for trial in a.trials] == [TrialState.COMPLETE] * 2 and not a.hear()
    assert a.trials[1].user_attrs["repeats"] == first.number and len(a.study.results()) == 1


def test_a_lost_trial_stays_as_failed_and_its_candidate_is_asked_again(
    machines: Callable[[str], Machine], clock: Clock
) -> None:
    a, b = machines("a"), machines("b")
    asked, _ = a.ask()
    a.study.inherits(asked, "0123456789abcdef")
    a.die()
    silence(clock, b)
    (lost,) = b.hear()
    assert isinstance(lost.outcome, Failed) and lost.outcome.stage == MACHINE_STAGE
    assert "gave no sign of life for 60 s" in lost.outcome.cause and b.peers.again(lost)
    again, taken = b.ask()
    assert (again.candidate, again.number, taken) == (asked.candidate, 1, False)
    assert b.peers.heritage(again, None) == "0123456789abcdef"  # else it would be another training
    b.tell(again)
    assert not b.hear() and [r.trial for r in b.study.results()] == [0, 1]
    assert [trial.state for trial in b.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert b.trials[1].user_attrs[AGAIN] == 0


def test_nobody_is_lost_who_renews_or_while_the_storage_is_away(
    machines: Callable[[str], Machine], clock: Clock
) -> None:
    a, b = machines("a"), machines("b")
    a.ask()
    silence(clock, a, b)
    assert not b.hear() and len(b.peers.elsewhere) == 1
    clock.now += 3600  # nobody renews, nobody looks
    b.peers._keeper.beat()
    assert not b.hear() and len(b.peers.elsewhere) == 1


def test_a_candidate_that_every_machine_dies_of_is_given_up(machines: Callable[[str], Machine], clock: Clock) -> None:
    watcher, candidates = machines("watcher"), set[str]()
    for attempt in range(1 + RETRIES):
        victim = machines(f"victim-{attempt}")
        asked, taken = victim.ask()
        assert not taken
        candidates.add(asked.candidate.digest)
        victim.die()
        silence(clock, watcher)
        (lost,) = watcher.hear()
        assert watcher.peers.again(lost) == (attempt < RETRIES)
    assert len(candidates) == 1 and candidates == set(watcher.seen)
    assert not watcher.study.waiting() and set(machines("late").seen) == candidates


def test_two_that_clear_up_after_a_third_ask_its_candidate_once(
    machines: Callable[[str], Machine], clock: Clock
) -> None:
    a, b, c = machines("a"), machines("b"), machines("c")
    asked, _ = a.ask()
    a.die()
    silence(clock, b, c)
    assert _numbers(b.hear()) == _numbers(c.hear()) == [asked.number]
    assert b.study.waiting() == (asked.candidate,)


def test_what_is_lost_while_a_machine_hears_is_at_work_or_lost_for_it(
    machines: Callable[[str], Machine], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In neither, the budget would have room for another candidate, and the lost one would not be asked again."""
    a, b, c = machines("a"), machines("b"), machines("c")
    asked, _ = a.ask()
    a.die()
    told = b.study._told

    def and_then_it_is_lost() -> list[Any]:
        ended = told()
        monkeypatch.setattr(b.study, "_told", told)
        silence(clock, c)
        c.hear()
        return ended

    monkeypatch.setattr(b.study, "_told", and_then_it_is_lost)
    assert not b.hear() and asked.number in b.peers.elsewhere
    assert _numbers(b.hear()) == [asked.number] and not b.peers.elsewhere


def test_who_dies_while_clearing_up_loses_nothing(
    machines: Callable[[str], Machine], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It told the trial as lost, and died before it put the candidate in line."""
    a, b = machines("a"), machines("b")
    asked, _ = a.ask()
    a.die()
    silence(clock, b)
    with monkeypatch.context() as dying:
        dying.setattr(Peers, "_line_up", lambda *_: None)
        assert len(b.hear()) == 1
    b.die()
    assert not b.study.waiting()
    c = machines("c")
    c.hear()
    assert c.study.waiting() == (asked.candidate,)


def test_one_that_stepped_aside_takes_up_what_was_lost(machines: Callable[[str], Machine], clock: Clock) -> None:
    """Of two that stepped aside the lower one; the candidate is not put in line beside."""
    a, b, c = machines("a"), machines("b"), machines("c")
    candidate = a.study.space.decode(lambda knob: knob.choices[0])
    for machine in (a, b, c):
        machine.study.enqueue(candidate)
    (first, taken), (second, aside), (third, too) = a.ask(), b.ask(), c.ask()
    assert (taken, aside, too) == (False, True, True)
    a.study.inherits(first, "0123456789abcdef")
    a.die()
    silence(clock, b, c)
    b.hear()
    c.hear()
    assert not b.study.waiting()
    assert c.peers.left_alone([third], [], c.seen) is None
    assert b.peers.left_alone([second], [candidate], b.seen) is None  # b has another trial of it at work itself
    assert b.peers.left_alone([second], [], b.seen) is second
    assert b.peers.heritage(second, None) == "0123456789abcdef"
    assert b.trials[second.number].user_attrs[AGAIN] == first.number
    c.hear()
    assert c.peers.left_alone([third], [], c.seen) is None  # b is at work on it now


def test_what_ended_since_a_machine_last_heard_is_not_evaluated_again(machines: Callable[[str], Machine]) -> None:
    a, b = machines("a"), machines("b")
    candidate = a.study.space.decode(lambda knob: knob.choices[0])
    a.study.enqueue(candidate)
    b.study.enqueue(candidate)
    first, _ = a.ask()
    a.tell(first)
    second, aside = b.ask()
    assert second.candidate == candidate and candidate.digest not in b.seen
    assert aside and b.peers.left_alone([second], [], b.seen) is None
    assert _numbers(b.hear()) == [first.number]


def test_of_two_that_stepped_aside_for_each_other_one_takes_it_up(machines: Callable[[str], Machine]) -> None:
    """The higher one has not looked since the lower one took it up, nor since it was told."""
    a, b = machines("a"), machines("b")
    candidate = a.study.space.decode(lambda knob: knob.choices[0])
    a.study.enqueue(candidate)
    b.study.enqueue(candidate)
    first, second = a.study.ask(), b.study.ask()
    assert a.peers.taken(first, []) and a.peers.left_alone([first], [], a.seen) is None  # b is at it, for all it knows
    second.trial.storage.set_trial_system_attr(second.trial._trial_id, ASIDE, True)
    b.peers._keeper.hold(second.trial._trial_id)
    b.hear()
    assert a.peers.left_alone([first], [], a.seen) is first
    assert b.peers.left_alone([second], [], b.seen) is None
    a.tell(first)
    assert b.peers.left_alone([second], [], b.seen) is None


def test_one_that_stepped_aside_and_died_was_no_attempt(machines: Callable[[str], Machine], clock: Clock) -> None:
    a, b = machines("a"), machines("b")
    candidate = a.study.space.decode(lambda knob: knob.choices[0])
    a.study.enqueue(candidate)
    b.study.enqueue(candidate)
    a.ask()
    second, _ = b.ask()
    b.die()
    silence(clock, a)
    assert not a.hear() and not a.study.waiting()
    assert a.trials[second.number].state == TrialState.FAIL and INTERRUPTED in a.trials[second.number].user_attrs


def test_who_was_taken_for_dead_and_tells_after_all_loses_nothing(
    machines: Callable[[str], Machine], clock: Clock
) -> None:
    a, b = machines("a"), machines("b")
    asked, _ = a.ask()
    silence(clock, b)  # a is suspended
    b.hear()
    told = a.tell(asked)
    assert told.trial != asked.number
    (heard,) = b.hear()
    assert (heard.trial, heard.candidate) == (told.trial, asked.candidate) and isinstance(heard.outcome, Scored)
    last = b.trials[told.trial]
    assert last.state == TrialState.COMPLETE and last.params == b.trials[asked.number].params
    assert last.constraints == {} and LOST not in last.user_attrs
    repetition, _ = b.ask()  # the one that was put in line meanwhile
    assert repetition.candidate == asked.candidate and repetition.candidate.digest in b.seen


def test_a_trial_half_told_by_one_that_died_counts_as_lost(machines: Callable[[str], Machine], clock: Clock) -> None:
    a, b = machines("a"), machines("b")
    asked, _ = a.ask()
    asked.trial.set_user_attr("outcome", "scored")  # and no score
    a.die()
    silence(clock, b)
    (lost,) = b.hear()
    assert isinstance(lost.outcome, Failed) and b.study.waiting() == (asked.candidate,)


def test_a_trial_nobody_took_is_forgotten(machines: Callable[[str], Machine], clock: Clock) -> None:
    """Its machine died between making it and knowing what it is."""
    a, b = machines("a"), machines("b")
    a.study._study.ask()
    silence(clock, b)
    assert not b.hear() and not b.study.waiting() and not b.study.results()
    assert INTERRUPTED in b.trials[0].user_attrs and b.trials[0].state == TrialState.FAIL


def test_the_same_folder_knows_its_own_dead_at_once(machines: Callable[[str], Machine]) -> None:
    a = machines("a")
    asked, _ = a.ask()
    a.die()
    again = machines("a")
    assert again.peers.recover() == 1
    (lost,) = again.hear()
    assert lost.trial == asked.number and again.study.waiting() == (asked.candidate,)
    b = machines("b")
    b.ask()
    assert machines("a").peers.recover() == 0


def test_who_leaves_hands_its_work_over(machines: Callable[[str], Machine]) -> None:
    a, b = machines("a"), machines("b")
    asked, _ = a.ask()
    a.study.inherits(asked, "0123456789abcdef")
    a.peers.close([asked])
    assert not b.hear() and b.study.waiting() == (asked.candidate,)
    again, taken = b.ask()
    assert (again.number, again.candidate, taken) == (asked.number, asked.candidate, False)
    assert b.peers.heritage(again, None) == "0123456789abcdef"
    stored = b.trials[again.number].system_attrs
    assert stored[LEASE]["machine"] == b.study.machine and not stored.get(ASIDE)
    b.tell(again)
    assert len(b.study.results()) == 1


def test_facts_are_common_and_seconds_are_not(machines: Callable[[str], Machine]) -> None:
    a, b = machines("a"), machines("b")
    a.study.note("seconds", 5.0)
    assert (a.study.facts().get("seconds"), b.study.facts().get("seconds")) == (5.0, None)
    a.study.note("test_top1", {"1": "a"})
    b.study.note("test_top1", {"2": "b", "1": "other"})
    assert a.study.facts()["test_top1"] == {"1": "a", "2": "b"}


def test_infeasible_and_failed_are_heard_too(machines: Callable[[str], Machine]) -> None:
    a, b = machines("a"), machines("b")
    (asked, _), (other, _) = a.ask(), a.ask()
    outcome = Infeasible(("size",), {"size_bytes": exact(9.0, "B")})
    a.peers.told(asked, a.study.tell(asked, outcome, 0.0))
    a.tell(other, failed=True)
    assert [type(result.outcome) for result in b.hear()] == [Infeasible, Failed]
    assert all(isinstance(result.candidate, Candidate) for result in b.seen.values()) and len(b.seen) >= 1


def test_a_lease_renewed_since_its_watcher_looked_is_not_lost(machines: Callable[[str], Machine], clock: Clock) -> None:
    a, b = machines("a"), machines("b")
    asked, _ = a.ask()
    silence(clock, b)  # a was suspended
    a.peers._keeper.beat()
    assert not b.hear() and asked.number in b.peers.elsewhere
    assert a.tell(asked).trial == asked.number


def test_a_suspended_machine_drops_what_it_had_put_aside(machines: Callable[[str], Machine], clock: Clock) -> None:
    a, b, c = machines("a"), machines("b"), machines("c")
    candidate = a.study.space.decode(lambda knob: knob.choices[0])
    a.study.enqueue(candidate)
    b.study.enqueue(candidate)
    a.ask()
    second, aside = b.ask()
    assert aside and not b.peers.gone([second])
    a.die()
    silence(clock, c)  # b is suspended, too
    c.hear()
    b.hear()
    assert b.peers.left_alone([second], [], b.seen) is None
    assert b.peers.gone([second]) == [second]
    again, taken = b.ask()  # c has put it in line
    assert (again.candidate, taken) == (candidate, False)


def test_what_stepped_aside_and_is_lost_while_it_is_taken_up_is_left(
    machines: Callable[[str], Machine], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = machines("a"), machines("b"), machines("c")
    candidate = a.study.space.decode(lambda knob: knob.choices[0])
    a.study.enqueue(candidate)
    b.study.enqueue(candidate)
    a.ask()
    second, _ = b.ask()
    a.die()
    silence(clock, c)
    look = b.peers._look

    def and_then_it_is_lost(running: Any) -> None:
        c.hear()
        look(b.study._running())

    b.hear()
    monkeypatch.setattr(b.peers, "_look", and_then_it_is_lost)
    assert b.peers.left_alone([second], [], b.seen) is None and b.peers.gone([second]) == [second]
