"""What do the other machines of a study do, and what becomes of the work of those that died?

Everything is read from the storage: a trial at work that is not ours is somebody else's; one whose lease is no longer
renewed (`lease.py`) was lost. It stays in the study as failed, with the cause, and its candidate is put in line again,
to go on from the checkpoint that the shared store has of it. Whoever sees first that a lost candidate is neither in line
nor at work nor told does so: a machine that dies while it clears up after another one loses nothing either.

Two machines may be asked for the same candidate. Who sees that another one is at it steps aside and waits for its
result; where all have stepped aside, the lowest trial takes it up.

Whoever was suspended finds trials of its own taken for dead, at any of its writes: one that stepped aside, or whose work
has not begun, is dropped, for the others see to its candidate; what is finished is told anew (`Study.tell`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from coreml_pareto.search.outcome import Failed
from coreml_pareto.search.run import Result
from coreml_pareto.search.storage import lease
from coreml_pareto.search.storage.lease import LEASE, Keeper
from coreml_pareto.search.storage.machine import holder as holder_of
from coreml_pareto.search.storage.patience import impatient
from coreml_pareto.search.study import FIXED, INTERRUPTED, Asked, Study
from coreml_pareto.search.told import AGAIN, LOST, MACHINE_STAGE, is_lost
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.space import choose_from

log = logging.getLogger(__name__)

RETRIES = 3
"""Times that a lost candidate is put in line again; one that kills every machine must end."""
ASIDE = "coreml_pareto:aside"
"""A trial's attribute: its candidate is at work as another trial."""
TICK = 2.0
"""Seconds between two looks of a machine that waits for others."""

Seen = Mapping[str, Result]


@final
@dataclass(frozen=True)
class Elsewhere:
    """A trial that another process has at work."""

    number: int
    candidate: Candidate


class Others(Protocol):
    """What a search knows of others that work on its study."""

    elsewhere: dict[int, Elsewhere]
    """What is at work there, by the trial's number."""

    def known(self) -> dict[str, Result]:
        """Return the results so far by candidate, those left out that are to be tried again."""

    def recover(self) -> int:
        """Begin: put what an earlier session of this run left unfinished in line again; return how many."""

    def hear(self, seen: Seen) -> Sequence[Result]:
        """Return what ended elsewhere since it was last asked, and see to what was lost there."""

    def again(self, result: Result) -> bool:
        """Whether a result is a lost attempt that is tried again."""

    def taken(self, asked: Asked, mine: Collection[Candidate]) -> bool:
        """Take a trial that was asked; tell whether it steps aside: its candidate is at work, here or elsewhere.

        One that was taken for dead meanwhile steps aside too, and is `gone`.
        """

    def left_alone(self, aside: Collection[Asked], mine: Collection[Candidate], seen: Seen) -> Asked | None:
        """Return a trial that stepped aside for one that was lost, to be taken up now."""

    def gone(self, aside: Collection[Asked]) -> Sequence[Asked]:
        """Return those that stepped aside and were taken for dead meanwhile; the others see to their candidates."""

    def heritage(self, asked: Asked, parent: str | None) -> str | None:
        """Return what a trial's training inherits from: what an attempt before it did.

        Raises:
            UpdateFinishedTrialError: the trial was taken for dead meanwhile.
        """

    def told(self, asked: Asked, number: int) -> None:
        """A trial of this process was told under this number."""

    def wait(self) -> None:
        """Let the others work for a moment."""

    def close(self, unfinished: Iterable[Asked]) -> None:
        """Leave the study; what is not finished is put in line for others."""


@final
class Nobody:
    """A study in its run folder: one process writes."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.elsewhere: dict[int, Elsewhere] = {}

    def known(self) -> dict[str, Result]:
        return {result.candidate.digest: result for result in self.study.results()}

    def recover(self) -> int:
        return self.study.recover()

    def hear(self, seen: Seen) -> Sequence[Result]:
        return ()

    def again(self, result: Result) -> bool:
        return False

    def taken(self, asked: Asked, mine: Collection[Candidate]) -> bool:
        return asked.candidate in mine

    def left_alone(self, aside: Collection[Asked], mine: Collection[Candidate], seen: Seen) -> Asked | None:
        return None

    def gone(self, aside: Collection[Asked]) -> Sequence[Asked]:
        return ()

    def heritage(self, asked: Asked, parent: str | None) -> str | None:
        return parent

    def told(self, asked: Asked, number: int) -> None:
        pass

    def wait(self) -> None:
        pass

    def close(self, unfinished: Iterable[Asked]) -> None:
        pass


@final
class Peers:
    """The other machines of a study in a common storage."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.elsewhere: dict[int, Elsewhere] = {}
        self._study, self._storage = study._study, study._study._storage
        self._me = holder_of(study.folder)
        self._keeper = Keeper(self._storage, self._study._study_id, self._me)
        self._heard: set[int] = set()
        self._lost: dict[str, list[FrozenTrial]] = {}
        self._candidates: dict[int, Candidate] = {}

    def known(self) -> dict[str, Result]:
        found = self._new()
        return {result.candidate.digest: result for result in found if not self.again(result)}

    def recover(self) -> int:
        self._keeper.start()
        mine = [trial for trial in self._running() if self._mine(trial)]
        for trial in mine:
            self._lose(trial, f"its process on {self._me['host']} ended before it was told")
        return len(mine)

    def hear(self, seen: Seen) -> Sequence[Result]:
        for key, silent in self._keeper.expired().items():
            trial = self._storage.get_trial(key)  # now: what the keeper saw is seconds old, its holder may be back
            if trial.state == TrialState.RUNNING and trial.system_attrs.get(LEASE) == silent:
                who = f"its machine {silent['host']}" if silent else "whoever asked for it"
                self._lose(trial, f"{who} gave no sign of life for {lease.EXPIRES:.0f} s")
        self._look(self._running())  # before what ended: what ends in between must not be in neither
        found = self._new()
        self._line_up({**seen, **{r.candidate.digest: r for r in found if not self.again(r)}})
        return found

    def again(self, result: Result) -> bool:
        lost = isinstance(result.outcome, Failed) and result.outcome.stage == MACHINE_STAGE
        return lost and len(self._lost.get(result.candidate.digest, ())) <= RETRIES

    def taken(self, asked: Asked, mine: Collection[Candidate]) -> bool:
        try:
            self._keeper.hold(asked.trial._trial_id)
            self._look(self._running())
            if asked.candidate not in mine and asked.candidate.digest not in self._busy():
                return False
            self._storage.set_trial_system_attr(asked.trial._trial_id, ASIDE, True)
        except UpdateFinishedTrialError:
            log.debug("trial %s was taken for dead before it was taken", asked.number)
        return True

    def left_alone(self, aside: Collection[Asked], mine: Collection[Candidate], seen: Seen) -> Asked | None:
        if not aside:
            return None
        running = self._running()
        self._look(running)
        busy = {*seen, *(candidate.digest for candidate in mine), *self._busy()}
        waiting = [(trial.number, self._candidate(trial)) for trial in running if trial.system_attrs.get(ASIDE)]
        for asked in aside:
            lowest = min((number for number, candidate in waiting if candidate == asked.candidate), default=None)
            if asked.candidate.digest not in busy and lowest == asked.number and self._takes_up(asked):
                return asked
        return None

    def _takes_up(self, asked: Asked) -> bool:
        """Let a trial step aside no longer; False where it was taken for dead meanwhile."""
        try:
            self._storage.set_trial_system_attr(asked.trial._trial_id, ASIDE, None)
        except UpdateFinishedTrialError:
            return False
        return True

    def gone(self, aside: Collection[Asked]) -> Sequence[Asked]:
        running = {trial._trial_id for trial in self._running()} if aside else ()
        return [asked for asked in aside if asked.trial._trial_id not in running]

    def _busy(self) -> set[str]:
        """Return what is at work elsewhere, or ended there and was not heard of, by digest.

        In this order, what is at work is looked at before what ended: else a candidate that ends in between is in neither.
        """
        at_work = {other.candidate.digest for other in self.elsewhere.values()}
        return at_work | {candidate.digest for candidate in map(self._candidate, self._unheard()) if candidate}

    def heritage(self, asked: Asked, parent: str | None) -> str | None:
        """Go on as the lost attempt before it, and say of which one: it may have stepped aside for it, or been drawn."""
        if (lost := self._attempt_before(asked)) is not None:
            asked.trial.set_user_attr(AGAIN, lost.number)
        elif AGAIN not in asked.trial.user_attrs:
            return parent
        found: str | None = (lost or asked.trial).user_attrs.get("parent")
        return found

    def _attempt_before(self, asked: Asked) -> FrozenTrial | None:
        """Return the latest trial of a candidate that was lost, heard of already or not."""
        wanted = asked.trial.user_attrs["candidate"]
        lost = filter(is_lost, reversed(self.study._told()))
        return next((trial for trial in lost if trial.user_attrs["candidate"] == wanted), None)

    def told(self, asked: Asked, number: int) -> None:
        self._keeper.drop(asked.trial._trial_id)
        self._heard |= {asked.number, number}

    def wait(self) -> None:
        time.sleep(TICK)

    def close(self, unfinished: Iterable[Asked]) -> None:
        self._keeper.close()
        for asked in unfinished:
            try:
                self._release(asked)
            except Exception as error:  # then it is lost, and found by the others
                log.debug("trial %s is not put back in line: %s", asked.number, error)

    def _release(self, asked: Asked) -> None:
        """Put a trial in line at its place; another machine goes on with it."""
        storage, trial = impatient(self._storage), asked.trial._trial_id
        stored = storage.get_trial(trial)
        if FIXED not in stored.system_attrs:
            storage.set_trial_system_attr(trial, FIXED, stored.params)
        storage.set_trial_user_attr(trial, AGAIN, True)
        for name in (LEASE, ASIDE):
            storage.set_trial_system_attr(trial, name, None)
        storage.set_trial_state_values(trial, TrialState.WAITING)

    def _new(self) -> list[Result]:
        """Return what ended elsewhere and was not heard of, by number; remember what was lost."""
        found = []
        for trial in self._unheard():
            self._heard.add(trial.number)
            if (result := self.study.result(trial)) is not None:
                if isinstance(result.outcome, Failed) and result.outcome.stage == MACHINE_STAGE:
                    self._lost.setdefault(result.candidate.digest, []).append(trial)
                found.append(result)
        return found

    def _unheard(self) -> list[FrozenTrial]:
        return [trial for trial in self.study._told() if trial.number not in self._heard]

    def _look(self, running: Iterable[FrozenTrial]) -> None:
        """See what is at work elsewhere; the mapping stays the same one."""
        held = self._keeper.held
        self.elsewhere.clear()
        for trial in running:
            candidate = self._candidate(trial)
            if candidate is not None and trial._trial_id not in held and not trial.system_attrs.get(ASIDE):
                self.elsewhere[trial.number] = Elsewhere(trial.number, candidate)

    def _line_up(self, seen: Seen) -> None:
        """Put lost candidates in line that are neither there nor at work nor told."""
        untold = {
            digest: found[-1] for digest, found in self._lost.items() if digest not in seen and len(found) <= RETRIES
        }
        if not untold:
            return
        unfinished = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))
        busy = {candidate.digest for candidate in map(self._candidate, unfinished) if candidate}
        for digest, last in untold.items():
            if digest not in busy:
                kept = {name: last.user_attrs[name] for name in ("parent",) if name in last.user_attrs}
                candidate = Candidate.model_validate(last.user_attrs["candidate"])
                self._study.enqueue_trial(self.study.space.encode(candidate), user_attrs={AGAIN: last.number, **kept})

    def _lose(self, trial: FrozenTrial, why: str) -> None:
        """Tell a trial as lost; nothing happens where it is told meanwhile.

        Its holder may be telling it at this moment: what this writes beside is only read of a trial that failed.
        """
        candidate, key = self._candidate(trial), trial._trial_id
        try:
            if candidate is None or trial.system_attrs.get(
                ASIDE
            ):  # ended while it was drawn, or waited for another one
                self._storage.set_trial_user_attr(key, INTERRUPTED, True)
            else:
                self._storage.set_trial_user_attr(key, LOST, why)
                self._storage.set_trial_user_attr(key, "candidate", candidate.model_dump(mode="json"))
            self._storage.set_trial_state_values(key, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return

    def _mine(self, trial: FrozenTrial) -> bool:
        """Whether an earlier session of this run folder had a trial at work."""
        held_by = trial.system_attrs.get(LEASE) or {}
        own = {name: held_by.get(name) for name in self._me} == self._me
        return own and trial._trial_id not in self._keeper.held

    def _running(self) -> list[FrozenTrial]:
        return self.study._running()

    def _candidate(self, trial: FrozenTrial) -> Candidate | None:
        """Return what a trial evaluates; None while it is drawn."""
        if trial._trial_id not in self._candidates:
            attributes, line = trial.user_attrs, trial.system_attrs.get(FIXED)
            if "candidate" in attributes:
                self._candidates[trial._trial_id] = Candidate.model_validate(attributes["candidate"])
            elif line is not None:
                self._candidates[trial._trial_id] = self.study.space.decode(choose_from(line))
        return self._candidates.get(trial._trial_id)
