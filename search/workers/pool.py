"""A crew of processes: each evaluates one job at a time, and what ends one of them costs its job alone.

A single thread listens to all of them. A worker is started when its seat first has a job, and again after it has ended: by
an exit, a signal, or by us, when it has given no sign of life for longer than the plan's patience. Then the job has failed,
with the cause; unless the worker was not ready yet, which is not the job's fault: it is given to the next. When one
seat's workers cannot even start, time after time, neither can the search go on.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from coreml_pareto.search.crew import Finished, Job, Watcher
from coreml_pareto.search.duration import spell_duration
from coreml_pareto.search.outcome import Failed, Outcome, OutOfTime
from coreml_pareto.search.workers import share
from coreml_pareto.search.workers.messages import (
    Announced,
    Ended,
    Note,
    Opening,
    Packaged,
    Ready,
    Refused,
    Stage,
    Told,
    Waiting,
)
from coreml_pareto.search.workers.process import Process, end
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.search.stages.trained import Trained

STAGE = "worker"
"""Where a job fails whose worker ended."""
STARTS = 3
"""Workers of one seat that may end in a row before they are ready."""
TICK = 1.0
"""Seconds after which a silent crew is looked at; a search that was stopped (Ctrl-Z) has not listened longer than that."""
GRACE = 60.0
"""Seconds that jobs without a training to stop have after the study's time is over."""


@final
@dataclass(frozen=True)
class Terms:
    """What a pool works by.

    Attributes:
        opener: what opens a worker's laboratory, `module:function`; `order` is what it reads (see `messages.Opening`).
        workers: how many.
        patience: seconds without a sign of life after which a worker is ended.
        logs: the folder of what workers print, `worker-N.log`, counted from 1.
        gpus: among which workers are dealt out, by their names for CUDA.
    """

    opener: str
    order: object
    workers: int
    patience: float
    logs: Path
    gpus: Sequence[str] = ()


@final
class _Seat:
    """A worker's place: whoever sits there, and with which job."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Process | None = None
        self.job: Job | None = None
        self.began = 0.0
        self.silent = 0.0
        self.ready = False
        self.failed_starts = 0


@final
class Pool:
    """Processes of their own.

    Args:
        announce: told of each teacher that a candidate learns from.
        late: whether the study's time is over, and something can be shown for it.
        clock: gives the seconds that jobs are timed by.
    """

    def __init__(
        self, terms: Terms, watcher: Watcher, announce: Callable[[Trained], None], late: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.terms, self.watcher, self.announce, self.late, self.clock = terms, watcher, announce, late, clock
        self._opening = Opening(terms.opener, pickle.dumps(terms.order))
        self._seats = [_Seat(number) for number in range(terms.workers)]
        self._ended: deque[Finished] = deque()
        self._overtime = 0.0
        self._lifeline, self._held = os.pipe()

    @property
    def room(self) -> int:
        """How many seats have no job."""
        return sum(seat.job is None for seat in self._seats)

    def assign(self, job: Job) -> None:
        """Give a job to a free seat, rather to one whose worker is there already."""
        free = [seat for seat in self._seats if seat.job is None]
        seat = next((seat for seat in free if seat.process and seat.process.alive), free[0])
        seat.job, seat.began, seat.silent = job, self.clock(), 0.0
        self._begin(seat, job)

    def wait(self) -> Finished:
        """Listen until some job ends, and return it.

        Raises:
            UserError: no worker can open its laboratory, or one seat's cannot start.
        """
        while not self._ended:
            self._listen()
        return self._ended.popleft()

    def close(self) -> None:
        """End all workers; what they trained is kept up to the last whole epoch."""
        os.close(self._held)
        os.close(self._lifeline)
        end([seat.process for seat in self._seats if seat.process])

    def _begin(self, seat: _Seat, job: Job) -> None:
        if seat.process and not seat.process.alive:
            self._dismiss(seat)
        if seat.process is None:
            seat.process = self._start(seat)
        seat.process.begin(job)

    def _start(self, seat: _Seat) -> Process:
        environment = share.environment(seat.number, len(self._seats), self.terms.gpus)
        process = Process(environment, self.terms.logs / f"worker-{seat.number + 1}.log", self._lifeline)
        process.say(self._opening)
        return process

    def _dismiss(self, seat: _Seat) -> None:
        if seat.process:
            end([seat.process])
        seat.process, seat.ready = None, False

    def _listen(self) -> None:
        """Hear whoever has something to say within a tick; then look at the others."""
        busy = {seat.process.connection: seat for seat in self._seats if seat.job and seat.process}
        if not busy:
            raise RuntimeError("nobody is at work")
        started = time.monotonic()
        heard = wait(list(busy), TICK)
        passed = min(TICK, time.monotonic() - started)
        self._overtime = self._overtime + passed if self.late() else 0.0
        for connection, seat in busy.items():
            if seat.process:
                seat.process.bound_log()
            if connection in heard:
                seat.silent = 0.0
                self._hear(seat, connection)
            else:
                seat.silent += passed
                self._look(seat)

    def _hear(self, seat: _Seat, connection: Connection[Any, Any]) -> None:
        process, job = seat.process, seat.job
        assert process and job
        try:
            message = connection.recv()
        except (EOFError, OSError):
            self._lost(seat, process.obituary(), job)
            return
        match message:
            case Ready():
                seat.ready, seat.failed_starts, seat.began = True, 0, self.clock()
            case Refused(why):
                raise UserError(why)
            case Note(doing):
                self.watcher.note(job, doing)
            case Stage(name, seconds):
                self.watcher.stage(job, name, seconds)
            case Told(step):
                process.say(self.watcher.step(job, step))
            case Packaged(known):
                process.say(self.watcher.packaged(job, known))
            case Waiting():
                process.say(OutOfTime() if self.late() else None)
            case Announced(teacher):
                self.announce(teacher)
            case Ended(outcome):
                self._finish(seat, job, outcome)
            case _:
                raise TypeError(f"a worker said {message!r}")

    def _look(self, seat: _Seat) -> None:
        """End a worker that has been silent for too long, or is still at work long after the study's time."""
        process, job = seat.process, seat.job
        assert process and job
        if seat.silent > self.terms.patience:
            self._lost(seat, process.silenced(spell_duration(self.terms.patience)), job)
        elif self._overtime > GRACE:
            self._dismiss(seat)
            self._finish(seat, job, None)

    def _lost(self, seat: _Seat, cause: str, job: Job) -> None:
        """Replace a worker that has ended; its job has failed if the worker had begun it."""
        ready = seat.ready
        self._dismiss(seat)
        if ready:
            self._finish(seat, job, Failed(STAGE, cause))
            return
        seat.failed_starts += 1
        if seat.failed_starts == STARTS:
            raise UserError(
                f"A worker must be able to start; {STARTS} in a row were not, so the search stops ({cause}): "
                f"see {self.terms.logs}, or take fewer workers where memory is short."
            )
        seat.silent = 0.0
        self._begin(seat, job)

    def _finish(self, seat: _Seat, job: Job, outcome: Outcome | None) -> None:
        self._ended.append(Finished(job, outcome, self.clock() - seat.began))
        seat.job = None
