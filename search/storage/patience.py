"""What happens while a storage is away?  Every call to it is made again until it answers, for so long and no longer.

A call may have been carried out although its answer was lost. Attributes are then written once more, the same. Of a
trial that was told it is looked up whether it holds what was told. A trial that was made twice is in line, or at work
for nobody, and is found as such (`peers`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import sqlalchemy.exc
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.storage.address import Address
from coreml_pareto.spaces.errors import UserError

FIRST, LONGEST = 0.5, 15.0
"""Seconds between two calls: doubled each time, up to so many."""
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
_BEHIND = ("OperationalError", "InterfaceError", "raised during the commit")
"""What the gRPC proxy says where the database behind it is away; the last are Optuna's words for any error of a database."""


def outage(error: BaseException) -> str | None:
    """Return what a storage that is away says of itself; None where an error means anything else."""
    for link in _chain(error):
        away = isinstance(
            link, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError | sqlalchemy.exc.TimeoutError
        )
        if away or (isinstance(link, sqlalchemy.exc.DBAPIError) and link.connection_invalidated):
            return str(getattr(link, "orig", None) or link)
        if isinstance(link, ConnectionError):
            return str(link)
        grpc = sys.modules.get("grpc")  # imported by whoever opened such a storage
        if grpc is not None and isinstance(link, grpc.RpcError):
            code, details = link.code().name, str(link.details())
            return details if code in _PASSING or any(name in details for name in _BEHIND) else None
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@final
class _Calls:
    """Makes calls to a storage, again and again while it is away.

    Args:
        patience: seconds without an answer after which it is given up; 0 gives up at once.
        tell: told in a line that the storage is away, and that it is back.
    """

    def __init__(self, inner: BaseStorage, address: Address, patience: float, tell: Callable[[str], None]) -> None:
        self.inner, self.address, self.patience, self.tell = inner, address, patience, tell

    def make(self, call: Callable[[bool], Any]) -> Any:
        """Return what a call returns; it is told whether it was made before without an answer.

        Raises:
            UserError: the storage was away for longer than the patience.
        """
        began, pause = 0.0, FIRST
        while True:
            try:
                answer = call(bool(began))
            except Exception as error:
                reason = outage(error)
                if reason is None:
                    raise
                began = self._away(began, reason)
                self._sleep(pause)
                pause = min(LONGEST, 2 * pause)
            else:
                if began:
                    self.tell(f"{self.address} answers again after {spell_duration(time.monotonic() - began)}.")
                return answer

    def _sleep(self, pause: float) -> None:
        try:
            time.sleep(pause)
        except KeyboardInterrupt:
            self.patience = 0.0  # whoever cleans up after it does not wait either
            raise

    def _away(self, began: float, reason: str) -> float:
        """Say once that it is away, and return since when."""
        said = self.address.without_password(reason)
        if not began and self.patience:
            self.tell(
                f"{self.address} does not answer ({said}); waiting for it, {spell_duration(self.patience)} at most; "
                "nothing finished is lost."
            )
        began = began or time.monotonic()
        if time.monotonic() - began >= self.patience:
            waited = f" for {spell_duration(self.patience)}" if self.patience else ""
            self.patience = 0.0
            raise UserError(
                f"The storage {self.address} has not answered{waited} ({said}): see to the server and the password; "
                "the same command then goes on, and everything finished is kept."
            ) from None
        return began

    def finish(self, trial: int, state: TrialState, values: Sequence[float] | None) -> bool:
        """Set a trial's state; one that has just this state and values since the answer was lost is set."""

        def call(again: bool) -> bool:
            try:
                return self.inner.set_trial_state_values(trial, state, values)
            except UpdateFinishedTrialError:
                stored = self.inner.get_trial(trial)
                if again and stored.state == state and (values is None or stored.values == list(values)):
                    return True
                raise

        return bool(self.make(call))


def patient(inner: BaseStorage, address: Address, patience: float, tell: Callable[[str], None]) -> BaseStorage:
    """Return a storage that is waited for (see `_Calls`): every public method of Optuna's interface in the same way."""
    calls = _Calls(inner, address, patience, tell)
    names = [name for name in dir(BaseStorage) if not name.startswith("_") and name != "check_trial_is_updatable"]
    methods: dict[str, Any] = {name: _patiently(calls, name) for name in names}
    methods["inner"] = inner
    methods["set_trial_state_values"] = lambda _, trial_id, state, values=None: calls.finish(trial_id, state, values)
    storage: BaseStorage = type("PatientStorage", (BaseStorage,), methods)()
    return storage


def impatient(storage: BaseStorage) -> BaseStorage:
    """Return what stands behind a storage that is waited for; its errors are the driver's."""
    inner: BaseStorage = getattr(storage, "inner", storage)
    return inner


def _patiently(calls: _Calls, name: str) -> Callable[..., Any]:
    method = getattr(calls.inner, name)
    return lambda _, *arguments, **named: calls.make(lambda again: method(*arguments, **named))
