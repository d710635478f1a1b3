"""A machine that was suspended finds its trials taken for dead, wherever it was: it goes on, and nothing finished is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from peers_double import Clock, Machine, silence

from coreml_pareto.search import study as studies
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.study import INTERRUPTED
from coreml_pareto.search.told import LOST


def test_before_it_has_taken_what_it_asked(machines: Callable[[str], Machine], clock: Clock) -> None:
    a, b = machines("a"), machines("b")
    asked = a.study.ask()
    silence(clock, b)
    assert [result.trial for result in b.hear()] == [asked.number]
    assert a.peers.taken(asked, []) and a.peers.gone([asked]) == [asked]
    assert asked.trial._trial_id not in a.peers._keeper.held and a.hear()
    again, taken = a.ask()
    assert (again.candidate, taken) == (asked.candidate, False)


def test_while_it_draws(machines: Callable[[str], Machine], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = machines("a"), machines("b")
    suggest, drawn = studies._suggest, list[int]()

    def suspended(trial: Any, knob: Any) -> Any:
        drawn.append(trial.number)
        if len(drawn) == 2:
            silence(clock, b)
            b.hear()
        return suggest(trial, knob)

    monkeypatch.setattr(studies, "_suggest", suspended)
    asked, taken = a.ask()
    assert (drawn[1], asked.number, taken) == (0, 1, False)
    assert INTERRUPTED in a.trials[0].user_attrs and not b.hear()


@pytest.mark.parametrize("write", ["heritage", "inherits"])
def test_before_its_work_began(machines: Callable[[str], Machine], clock: Clock, write: str) -> None:
    a, b = machines("a"), machines("b")
    asked, _ = a.ask()
    silence(clock, b)
    b.hear()
    with pytest.raises(UpdateFinishedTrialError):
        a.peers.heritage(asked, None) if write == "heritage" else a.study.inherits(asked, "0123456789abcdef")
    assert [a.peers.again(result) for result in a.hear()] == [True]
    assert a.study.waiting() == (asked.candidate,)


def test_when_it_tells_what_it_took_up_while_others_believed_it_aside(machines: Callable[[str], Machine]) -> None:
    """They looked before it was taken up, and ended it as one that had waited."""
    a, b = machines("a"), machines("b")
    asked, _ = a.ask()
    (trial,) = a.study._running()
    trial.system_attrs["coreml_pareto:aside"] = True
    b.peers._lose(trial, "silent")
    told = a.tell(asked)
    assert told.trial != asked.number and LOST not in a.trials[asked.number].user_attrs
    (heard,) = b.hear()
    assert heard.trial == told.trial and isinstance(heard.outcome, Scored)


def test_what_it_tells_at_the_same_moment_counts(machines: Callable[[str], Machine]) -> None:
    a, b = machines("a"), machines("b")
    asked, _ = a.ask()
    b.study._study._storage.set_trial_user_attr(asked.trial._trial_id, INTERRUPTED, True)
    a.tell(asked)
    assert a.trials[asked.number].state == TrialState.COMPLETE
    assert [result.trial for result in b.hear()] == [asked.number]
