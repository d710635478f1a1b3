"""Whole searches with several workers, on laboratories without networks: nothing is lost, nothing evaluated twice."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from coreml_pareto.search import session
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.outcome import Failed, Scored
from coreml_pareto.search.run import Run
from coreml_pareto.search.samplers import SAMPLERS
from coreml_pareto.search.screen import Screen
from coreml_pareto.spaces.errors import UserError

STUDY: dict[str, Any] = {
    "name": "many",
    "data": "digits",
    "splits": {"limit": 100},
    "networks": {
        "backbones": ["squeezenet1_1"], "width": [0.25, 0.35, 0.5, 0.75], "resolution": [32, 48], "pretrained": False,
    },
    "training": {"epochs": [1], "device": "cpu"},
    "search": {"sampler": "random", "trials": 100, "workers": 3},
}  # fmt: skip


def _asked(sections: dict[str, Any]) -> dict[str, Any]:
    """A study; epochs say what its laboratory does, so none are left out at first."""
    asked = STUDY | sections
    return asked | {"training": {"rungs": 1} | asked["training"]}


def _search(folder: Path, **sections: Any) -> tuple[Run, str]:
    console = Console(file=io.StringIO(), width=140)
    with Screen(console) as screen:
        run = session.search(load_plan(None, _asked(sections)), folder, screen)
    assert isinstance(console.file, io.StringIO)
    return run, console.file.getvalue()


@pytest.fixture(autouse=True)
def _double(double: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    double.install(session, monkeypatch.setattr)


def _trials(folder: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name="many", storage=f"sqlite:///{folder / 'study.db'}").trials


def _evaluated(folder: Path, double: Any) -> list[str]:
    """The digests of the candidates evaluated, in their order."""
    return [words[2] for words in double.diary(folder) if words[1] != "start"]


def test_of_sixty_trials_with_three_workers_none_is_lost_and_none_twice(tmp_path: Path, double: Any) -> None:
    """Every third kind of candidate kills its worker; failures do not count."""
    run, text = _search(
        tmp_path,
        training={"epochs": [1, 130, double.KILLED], "device": "cpu"},
        search=STUDY["search"] | {"trials": 60, "packages_per_training": 1},
    )
    assert len(run.scored()) == 60
    failed = [result for result in run.results if not isinstance(result.outcome, Scored)]
    assert failed and all(result.candidate.recipe.epochs == double.KILLED for result in failed)
    for result in failed:
        assert isinstance(result.outcome, Failed) and result.outcome.cause.startswith("SIGKILL, ")
    assert len({result.candidate for result in run.results}) == len(run.results) == 60 + len(failed)
    evaluated = _evaluated(tmp_path, double)
    assert sorted(evaluated) == sorted(result.candidate.digest for result in run.results)
    assert {trial.state for trial in _trials(tmp_path)} == {TrialState.COMPLETE, TrialState.FAIL}
    assert text.count("failed in worker: SIGKILL") == len(failed)
    assert len(list((tmp_path / "logs").iterdir())) == 3


def test_a_candidate_asked_while_it_is_at_work_is_told_as_its_repetition(
    tmp_path: Path, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler draws the same one whenever it is asked."""
    monkeypatch.setitem(SAMPLERS, "random", lambda seed: RandomSampler(seed=1))  # type: ignore[arg-type]
    networks = STUDY["networks"] | {"resolution": [32]}
    run, text = _search(tmp_path, networks=networks, compression=["fp16"], training={"epochs": [500], "device": "cpu"})
    assert "Every candidate of the space was evaluated." in text and len(run.results) == 4
    assert sorted(_evaluated(tmp_path, double)) == sorted(result.candidate.digest for result in run.results)
    trials = _trials(tmp_path)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    repeats = [(trial, trials[trial.user_attrs["repeats"]]) for trial in trials if "repeats" in trial.user_attrs]
    assert all(trial.values == first.values and trial.params == first.params for trial, first in repeats)
    early = [trial for trial, first in repeats if trial.datetime_start < first.datetime_complete]
    assert early and all(
        trial.datetime_complete >= trials[trial.user_attrs["repeats"]].datetime_complete for trial in early
    )


def test_the_plan_of_a_run_may_name_other_workers_later(tmp_path: Path) -> None:
    small = STUDY["search"] | {"trials": 2}
    _search(tmp_path, search=small | {"workers": 2})
    run, text = _search(tmp_path, search=small | {"trials": 3, "workers": 1, "patience": "1h"})
    assert "Going on after 2 trials." in text and len(run.results) == 3
    with pytest.raises(UserError, match="differs in search"):
        _search(tmp_path, search=small | {"seed": 9})


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.before = self.seconds = 0.0


TAKES_LONG = {
    "networks": STUDY["networks"] | {"backbones": ["squeezenet1_1", "mobilenetv2"], "resolution": [32]},
    "compression": ["fp16"],
    "search": STUDY["search"] | {"workers": 2, "timeout": "10m"},
}


def test_the_end_of_time_reaches_every_worker_and_what_it_trained_is_asked_again(
    tmp_path: Path, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks of one family are trained until the time is over."""
    epochs = {"squeezenet1_1": double.SCORED, "mobilenetv2": double.TRAINS}
    study = TAKES_LONG | {"training": {"epochs": epochs, "device": "cpu"}}
    trained, told, clock = set[int](), session._Session.step, Hand()
    monkeypatch.setattr(session, "Clock", lambda: clock)

    def step(self: session._Session, job: Any, step: Any) -> Any:
        trained.add(job.number)
        clock.seconds = 601.0 if len(trained) == 2 and self.seen else clock.seconds
        return told(self, job, step)

    monkeypatch.setattr(session._Session, "step", step)
    run, text = _search(tmp_path, **study)
    assert "The time of 10m is over" in text
    assert run.results and {result.candidate.network.family for result in run.results} == {"squeezenet"}
    unfinished = [trial for trial in _trials(tmp_path) if trial.state == TrialState.RUNNING]
    assert {trial.number for trial in unfinished} == trained and len(unfinished) == 2

    before = len(_evaluated(tmp_path, double))
    (tmp_path / "enough").touch()
    clock.seconds = 0.0
    run, text = _search(tmp_path, **study)
    assert f"Going on after {before - 2} trials, asking 2 unfinished again." in text
    again = _evaluated(tmp_path, double)[before:]
    results = {result.trial: result.candidate.digest for result in run.results}
    assert sorted(again[:2]) == sorted(results[trial.number] for trial in unfinished)
    assert len(run.results) == 8 and len(again) == 8 - (before - 2)


SEARCH = """
import sys
sys.path.insert(0, sys.argv[1])
import laboratory_double
from coreml_pareto.search import cli, session
laboratory_double.install(session)
sys.exit(cli.main(sys.argv[2:]))
"""


def test_ctrl_c_ends_search_and_workers_and_the_same_command_goes_on(
    tmp_path: Path, double: Any, wait_until_gone: Callable[[set[int]], None]
) -> None:
    """Ctrl-C reaches the search's whole group of processes, as from a terminal."""
    study, folder = tmp_path / "many.yaml", tmp_path / "run"
    training = {"epochs": {"squeezenet1_1": double.SCORED, "mobilenetv2": double.TRAINS}, "device": "cpu"}
    study.write_text(yaml.safe_dump(STUDY | TAKES_LONG | {"training": training}))
    command = [sys.executable, "-c", SEARCH, str(Path(double.__file__).parent)]
    command += ["search", str(study), "--run", str(folder), "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as search:
        deadline = time.monotonic() + 120
        while len([words for words in double.diary(folder) if words[1] == str(double.TRAINS)]) < 2:
            assert time.monotonic() < deadline and search.poll() is None
            time.sleep(0.1)
        os.killpg(search.pid, signal.SIGINT)
        out, errors = search.communicate(timeout=30)
    assert search.returncode == 130 and not errors
    assert re.search(r"Stopped\. Everything finished is in .*run; the same command goes on\.", out)
    wait_until_gone({int(words[0]) for words in double.diary(folder)})
    states = [trial.state for trial in _trials(folder)]
    assert states.count(TrialState.RUNNING) == 2

    (folder / "enough").touch()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "asking 2 unfinished again" in done.stdout and "Every candidate of the space was evaluated." in done.stdout
    assert {trial.state for trial in _trials(folder)} <= {TrialState.COMPLETE}
