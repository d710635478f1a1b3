"""Workers that are killed, crash, leave, hang or cannot start: each costs its job alone, with the cause; none is left over."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.reading import Score
from coreml_pareto.search.crew import Finished, Job, Verdict
from coreml_pareto.search.outcome import Failed, OutOfTime, Pruned, Scored, Stopped
from coreml_pareto.search.workers import pool as pools
from coreml_pareto.search.workers import process as processes
from coreml_pareto.search.workers.pool import Pool, Terms
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe
from coreml_pareto.spaces.errors import UserError

NETWORK = Network(family="squeezenet", backbone="squeezenet1_1", resolution=32, classes=2)


def job(number: int, epochs: int) -> Job:
    recipe = Recipe(epochs=epochs, learning_rate=1e-3, weight_decay=0.0, seed=number)
    return Job(number, Candidate(network=NETWORK, recipe=recipe, compression=Compression()))


class Watcher:
    """Remembers what it sees; `verdicts` by the job's number."""

    def __init__(self) -> None:
        self.notes: list[tuple[int, str]] = []
        self.steps: list[int] = []
        self.verdicts: dict[int, Verdict] = {}

    def note(self, job: Job, doing: str) -> None:
        self.notes.append((job.number, doing))

    def step(self, job: Job, step: Any) -> Verdict:
        self.steps.append(job.number)
        return self.verdicts.get(job.number)

    def stage(self, job: Job, name: str, seconds: float | None) -> None:
        pass

    def packaged(self, job: Job, known: Score) -> Verdict:
        return self.verdicts.get(job.number)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def pool(
    tmp_path: Path,
    double: Any,
    watcher: Watcher,
    monkeypatch: pytest.MonkeyPatch,
    wait_until_gone: Callable[[set[int]], None],
) -> Iterator[Callable[..., Pool]]:
    """pool(workers=2, patience=60.0, late=...): workers with the double's laboratory; after the test none is there."""
    opened: list[Pool] = []
    monkeypatch.setattr(processes, "GRACE", 1.0)

    def make(
        workers: int = 2, patience: float = 60.0, late: Callable[[], bool] = lambda: False, start: str = ""
    ) -> Pool:
        order = {"folder": tmp_path, "start": start}
        terms = Terms("laboratory_double:open_double", order, workers, patience, tmp_path / "logs")
        opened.append(Pool(terms, watcher, lambda teacher: None, late))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
    wait_until_gone(_pids(tmp_path, double))


def _all(pool: Pool, jobs: list[Job]) -> dict[int, Finished]:
    """Each job's end, by its number."""
    ended, waiting = dict[int, Finished](), list(jobs)
    while len(ended) < len(jobs):
        while pool.room and waiting:
            pool.assign(waiting.pop(0))
        finished = pool.wait()
        assert finished.job.number not in ended
        ended[finished.job.number] = finished
    return ended


def _pid(finished: Finished) -> int:
    assert isinstance(finished.outcome, Scored), finished
    return int(finished.outcome.provenance["pid"])


def _pids(folder: Path, double: Any) -> set[int]:
    return {int(words[0]) for words in double.diary(folder)}


def test_jobs_are_evaluated_side_by_side_in_processes_that_stay(
    tmp_path: Path, double: Any, pool: Callable[..., Pool], watcher: Watcher
) -> None:
    """The first two wait for each other."""
    kinds = [double.MEETS, double.MEETS, *[double.SCORED] * 4]
    ended = _all(pool(2), [job(number, kind) for number, kind in enumerate(kinds)])
    pids = {_pid(finished) for finished in ended.values()}
    assert len(pids) == 2 and os.getpid() not in pids and pids == _pids(tmp_path, double)
    assert sorted(watcher.notes) == [(number, f"at work on {kind}") for number, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("KILLED", r"SIGKILL, (by somebody|probably killed for memory)[^:]*, without a word"),
        ("CRASHED", r'SIGSEGV: File ".*ctypes.*", line \d+ in string_at'),
        ("LEFT", r"exit code 3: loading weights \| no room for them"),
        ("RAISES", r"exit code 1: .*laboratory_double\.UnpicklableError: <function.*"),
        ("UNSENDABLE", r"exit code 1: .*[pP]ickl.*"),
    ],
)
def test_a_worker_that_ends_costs_its_job_alone_and_is_replaced(
    how: str, cause: str, tmp_path: Path, double: Any, pool: Callable[..., Pool]
) -> None:
    ended = _all(pool(1), [job(0, double.SCORED), job(1, getattr(double, how)), job(2, double.SCORED)])
    outcome = ended[1].outcome
    assert isinstance(outcome, Failed) and outcome.stage == "worker"
    assert re.fullmatch(cause, outcome.cause), outcome.cause
    assert _pid(ended[0]) != _pid(ended[2])
    evaluated = [words for words in double.diary(tmp_path) if words[1] != "start"]
    assert [int(words[0]) == _pid(ended[0]) for words in evaluated] == [True, True, False]


def test_a_worker_without_a_sign_of_life_is_ended(double: Any, pool: Callable[..., Pool]) -> None:
    """One sleeps, and says where; one is frozen, so that SIGTERM does not reach it."""
    crew = pool(2, patience=5.0)
    kinds = [double.SLEEPS, double.FROZEN]
    started = time.monotonic()
    ended = _all(crew, [job(number, kind) for number, kind in enumerate(kinds)])
    assert time.monotonic() - started > 5
    assert ended[1].outcome == Failed("worker", silence := "no sign of life for 5 s, so it was ended")
    slept = ended[0].outcome
    assert isinstance(slept, Failed) and slept.stage == "worker"
    assert re.fullmatch(rf'{silence}: File ".*laboratory_double.py", line \d+ in <lambda>', slept.cause), slept


def test_a_worker_that_tells_of_its_training_is_not_ended(
    double: Any, pool: Callable[..., Pool], watcher: Watcher
) -> None:
    crew = pool(1, patience=2.0)
    crew.assign(job(0, double.TRAINS))
    started: float | None = None
    while started is None or time.monotonic() - started < 5:
        crew._listen()
        started = time.monotonic() if started is None and watcher.steps else started
    watcher.verdicts[0] = Stopped(Pruned("enough", {}))
    assert crew.wait().outcome == Pruned("enough", {})


def test_verdicts_end_the_training_they_are_meant_for(double: Any, pool: Callable[..., Pool], watcher: Watcher) -> None:
    crew = pool(2)
    watcher.verdicts = {0: Stopped(Pruned("it cannot win", {}, (0.1, 0.2)))}
    crew.assign(job(0, double.TRAINS))
    crew.assign(job(1, double.TRAINS))
    first = crew.wait()
    assert (first.job.number, first.outcome) == (0, Pruned("it cannot win", {}, (0.1, 0.2)))
    crew.assign(job(2, double.SCORED))
    assert _pid(crew.wait()) and crew.room == 1
    watcher.verdicts = {1: OutOfTime()}
    second = crew.wait()
    assert (second.job.number, second.outcome) == (1, None)
    assert crew.room == 2 and set(watcher.steps) == {0, 1}


def test_the_log_of_a_noisy_worker_begins_anew(
    tmp_path: Path, double: Any, pool: Callable[..., Pool], watcher: Watcher
) -> None:
    """It prints 3 MB, and tells of its training all the time."""
    ended = _all(pool(1), [job(0, double.NOISY), job(1, double.LEFT)])
    assert _pid(ended[0]) and len(watcher.steps) == 30
    assert (tmp_path / "logs" / "worker-1.log").stat().st_size < 1.2e6
    assert isinstance(ended[1].outcome, Failed) and ended[1].outcome.cause.endswith("no room for them")


def test_after_the_time_a_job_without_steps_has_a_grace_and_is_then_ended(
    double: Any, pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch, watcher: Watcher
) -> None:
    monkeypatch.setattr(pools, "GRACE", 3.0)
    crew = pool(2, late=lambda: len(watcher.notes) == 2)
    crew.assign(job(0, double.SLEEPS))
    crew.assign(job(1, 100 + 500))
    ended = {finished.job.number: finished.outcome for finished in (crew.wait(), crew.wait())}
    assert ended[0] is None and isinstance(ended[1], Scored)


def test_a_job_whose_worker_could_not_start_is_given_to_the_next(
    tmp_path: Path, double: Any, pool: Callable[..., Pool]
) -> None:
    ended = _all(pool(1, start="die once"), [job(0, double.SCORED)])
    assert _pid(ended[0]) and len(_pids(tmp_path, double)) == 2


def test_workers_that_cannot_start_end_the_search(tmp_path: Path, double: Any, pool: Callable[..., Pool]) -> None:
    with pytest.raises(UserError, match=r"3 in a row .* stops \(exit code 1: no memory for the pictures\): see .*logs"):
        _all(pool(1, start="die"), [job(0, double.SCORED)])
    assert len(_pids(tmp_path, double)) == 3


def test_what_a_worker_refuses_is_said_in_its_words(double: Any, pool: Callable[..., Pool]) -> None:
    with pytest.raises(UserError, match=r"^The pictures have changed\.$"):
        _all(pool(1, start="refuse"), [job(0, double.SCORED)])


SEARCH = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[2])
import laboratory_double as double
from coreml_pareto.search.crew import Job
from coreml_pareto.search.workers.pool import Pool, Terms
from coreml_pareto.spaces.candidate import Candidate

class Watcher:
    def note(self, job, doing): print(doing, flush=True)
    def step(self, job, step): return None
    def packaged(self, job, known): return None
    def stage(self, job, name, seconds): pass

terms = Terms("laboratory_double:open_double", {"folder": Path(sys.argv[1])}, 3, 60.0, Path(sys.argv[1]) / "logs")
pool = Pool(terms, Watcher(), print, lambda: False)
for number, candidate in enumerate(sys.argv[3:]):
    pool.assign(Job(number, Candidate.model_validate_json(candidate)))
pool.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what holds the interpreter's lock is ended by Linux only")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_search_however_it_ends(
    number: int, tmp_path: Path, double: Any, wait_until_gone: Callable[[set[int]], None]
) -> None:
    """One trains, one sleeps, one holds the interpreter's lock."""
    jobs = [job(n, kind) for n, kind in enumerate((double.TRAINS, double.SLEEPS, double.GRIPS))]
    folder = str(Path(double.__file__).parent)
    command = [sys.executable, "-c", SEARCH, str(tmp_path), folder]
    command += [one.candidate.model_dump_json() for one in jobs]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as search:
        assert search.stdout is not None
        assert {search.stdout.readline() for _ in jobs} == {
            f"at work on {one.candidate.recipe.epochs}\n" for one in jobs
        }
        search.send_signal(number)
        assert search.wait(10) == -number
    pids = _pids(tmp_path, double)
    assert len(pids) == 3
    wait_until_gone(pids)
