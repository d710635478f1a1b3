"""What does a worker do?  It opens a laboratory and evaluates one job after the other, until the search is gone.

A process of its own: `python -m coreml_pareto.search.workers.worker PIPE LIFELINE`, two inherited file descriptors. Over
the pipe it hears and speaks (`messages.py`). Of the lifeline only the search holds the other end, and the kernel closes it
however the search ends: then the worker ends at once, whatever it does.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Protocol, final

from coreml_pareto.search.crew import Job, Verdict
from coreml_pareto.search.outcome import Outcome, OutOfTime
from coreml_pareto.search.workers.messages import (
    Announced,
    Ended,
    FromWorker,
    Note,
    Opening,
    Packaged,
    Ready,
    Refused,
    Stage,
    Told,
    Waiting,
)
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.objectives.reading import Score
    from coreml_pareto.search.stages.train import Step
    from coreml_pareto.search.stages.trained import Trained
    from coreml_pareto.search.trial import Witness

ORPHANED = 1
"""The exit code of a worker whose search is gone; nobody is left to read it."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


@final
class Talk:
    """A worker's end of the conversation; the `Witness` of what it evaluates."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def say(self, message: FromWorker) -> None:
        """Tell the search something."""
        self._connection.send(message)

    def hear(self) -> Any:
        """Wait for what the search says."""
        return self._connection.recv()

    def note(self, doing: str) -> None:
        """Tell what is being done now."""
        self.say(Note(doing))

    def stage(self, name: str, seconds: float | None) -> None:
        """Tell that a stage begins or has ended."""
        self.say(Stage(name, seconds))

    def announce(self, teacher: Trained) -> None:
        """Tell of a teacher."""
        self.say(Announced(teacher))

    def step(self, step: Step) -> None:
        """Tell where a training stands, and raise the verdict if it is to end."""
        self._ask(Told(step))

    def packaged(self, known: Score) -> None:
        """Tell of a package before its accuracy is measured, and raise the verdict if it is not worth that."""
        self._ask(Packaged(known))

    def waiting(self) -> None:
        """Tell that another process makes what is needed, and raise the verdict if that takes too long."""
        self._ask(Waiting())

    def _ask(self, message: FromWorker) -> None:
        self.say(message)
        verdict: Verdict = self.hear()
        if verdict is not None:
            raise verdict


class Evaluates(Protocol):
    """What an opener returns: `trial.Laboratory`, or a test's own."""

    def evaluate(self, candidate: Candidate, witness: Witness, parent: str | None) -> Outcome:
        """Return how a candidate ends."""


def serve(talk: Talk) -> None:
    """Open the laboratory and evaluate; what is raised ends the process, and is the last that its log says."""
    opening: Opening = talk.hear()
    try:
        laboratory: Evaluates = resolve_name(opening.opener)(pickle.loads(opening.order), talk)
    except UserError as refusal:
        talk.say(Refused(str(refusal)))
        return
    talk.say(Ready())
    while True:
        job: Job = talk.hear()
        try:
            talk.say(Ended(_evaluate(laboratory, job, talk)))
        except UserError as refusal:  # the disk's: no other trial would fare better
            talk.say(Refused(str(refusal)))
            return


def _evaluate(laboratory: Evaluates, job: Job, talk: Talk) -> Outcome | None:
    try:
        return laboratory.evaluate(job.candidate, talk, job.parent)
    except OutOfTime:
        return None


def _end_with_the_search(lifeline: int) -> None:
    """End this process when the other end of the lifeline is closed.

    A thread sees it, unless native code holds the interpreter's lock; on Linux the kernel sees to these, too.
    """

    def wait() -> None:
        os.read(lifeline, 1)
        os._exit(ORPHANED)

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=wait, daemon=True).start()


def main(arguments: Sequence[str]) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the search's to handle
    faulthandler.register(signal.SIGUSR1)  # asks where it hangs
    pipe, lifeline = map(int, arguments)
    _end_with_the_search(lifeline)
    with suppress(EOFError, BrokenPipeError):  # the search has no more to say
        serve(Talk(Connection(pipe)))


if __name__ == "__main__":
    main(sys.argv[1:])
