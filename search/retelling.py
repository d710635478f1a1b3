"""How is a record told again, on other terms?  Every trial keeps its number; what became of it may be another thing now.

Optuna changes nothing that was told, so the trials are told to a study of their own (`Study.begin_again`). What has no
outcome any more stands in line at its old place; its repetitions are forgotten, as attempts that a kill interrupted are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from coreml_pareto.search.config import Plan
from coreml_pareto.search.outcome import Outcome, kind
from coreml_pareto.search.study import FIXED, INTERRUPTED, REPEATS, Study

AGAIN = "asked again"
_KEPT = ("candidate", "parent", "seconds", REPEATS)
_CONSTRAINT = "constraints:"  # how Optuna's names of constraints begin, among a trial's system attributes

Now = Callable[[Outcome], Outcome | None]
"""Gives what an outcome is on the new terms; None: its candidate is asked again."""


def tell_again(study: Study, plan: Plan, now: Now) -> Counter[str]:
    """Tell every trial of a study on the terms of another plan of the same space; return their number by kind.

    No trial may be at work: see `Study.recover`.
    """
    kinds: Counter[str] = Counter()
    study.begin_again(plan, list(_retold(study, plan, now, kinds)))
    return kinds


def _retold(study: Study, plan: Plan, now: Now, kinds: Counter[str]) -> Iterator[FrozenTrial]:
    outcomes: dict[int, Outcome | None] = {}
    for trial in study.trials():
        if not trial.state.is_finished() or INTERRUPTED in trial.user_attrs:
            yield _copy(trial, trial.state, dict(trial.user_attrs))
            continue
        of = trial.user_attrs.get(REPEATS, trial.number)
        if of == trial.number:
            outcomes[of] = now(study.outcome_of(trial))
        outcome = outcomes[of]
        if outcome is not None:
            told = study.telling(outcome, plan)
            kept = {name: trial.user_attrs[name] for name in _KEPT if name in trial.user_attrs}
            yield _copy(trial, trial.state, kept | told.pop("user_attrs"), **told)
        elif of == trial.number:
            yield create_trial(state=TrialState.WAITING, system_attrs={FIXED: trial.params})
        else:
            yield _copy(trial, TrialState.FAIL, {**trial.user_attrs, INTERRUPTED: True})
        if of == trial.number:
            kinds[AGAIN if outcome is None else kind(outcome)] += 1


def _copy(trial: FrozenTrial, state: TrialState, attributes: dict[str, Any], **told: Any) -> FrozenTrial:
    """Return a trial with the same parameters and samplers' notes."""
    notes = {name: value for name, value in trial.system_attrs.items() if not name.startswith(_CONSTRAINT)}
    return create_trial(
        state=state, params=trial.params, distributions=trial.distributions, user_attrs=attributes, system_attrs=notes, **told
    )  # fmt: skip
