"""What a search asks, and in which order: baselines, repetitions, resume; on a laboratory without networks."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from PIL import Image
from rich.console import Console

from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.search import budget, events, session
from coreml_pareto.search.budget import PowerLaw
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.events import read_events
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report import watch
from coreml_pareto.search.report.watch import look
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.samplers import SAMPLERS
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.study import INTERRUPTED, Study
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.errors import UserError

STUDY: dict[str, Any] = {
    "name": "asked",
    "data": "digits",
    "splits": {"limit": 100},
    "networks": {
        "backbones": ["squeezenet1_1"], "width": [0.25, 0.5, 0.75], "resolution": [32], "pretrained": False,
    },
    "compression": ["fp16", "int8/channel"],
    "training": {"epochs": [1], "device": "cpu"},
    "search": {"sampler": "random", "trials": 100},
}  # fmt: skip


class Laboratory:
    """Stands for the real one: every candidate is scored at once; `interrupt` says at which ones Ctrl-C is pressed."""

    evaluated: list[Candidate]
    interrupt: Callable[[Candidate], bool]
    score: dict[str, Reading]

    evidence = None

    def __init__(self, *_: object) -> None:
        pass

    def evaluate(self, candidate: Candidate, *_: object) -> Scored:
        if Laboratory.interrupt(candidate):
            raise KeyboardInterrupt
        Laboratory.evaluated.append(candidate)
        return Scored(Laboratory.score, Path("model.mlpackage"), {"training": "0", "curve": "0.9"})

    def probe(self, candidate: Candidate) -> dict[str, Reading]:
        return {}

    def over(self, score: object) -> tuple[str, ...]:
        return ()

    def test_top1(self, *_: object) -> Reading:
        return exact(0.9, "share")


@pytest.fixture(autouse=True)
def _laboratory(monkeypatch: pytest.MonkeyPatch, result_at: Callable[..., Result]) -> Iterator[None]:
    Laboratory.evaluated, Laboratory.interrupt = [], lambda candidate: False
    Laboratory.score = dict(result_at(0, (0.9, 1.0, 1e5, 1e6, 1.0)).score)
    monkeypatch.setattr(session, "open_laboratory", Laboratory)
    monkeypatch.setattr(session.Mender, "package", lambda *_: None)  # no package of this laboratory exists
    yield


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler that draws the same candidate whenever it is asked, and no baseline."""
    monkeypatch.setitem(SAMPLERS, "random", lambda seed: RandomSampler(seed=1))  # type: ignore[arg-type]


def _search(folder: Path, **sections: Any) -> tuple[Run, str]:
    console = Console(file=io.StringIO(), width=120)
    with Screen(console) as screen:
        run = session.search(load_plan(None, STUDY | sections), folder, screen)
    assert isinstance(console.file, io.StringIO)
    return run, console.file.getvalue()


def _told(folder: Path) -> list[tuple[Candidate, bool]]:
    """Each candidate told, and whether it only repeats an earlier one; interrupted attempts are left out."""
    study = optuna.load_study(study_name="asked", storage=f"sqlite:///{folder / 'study.db'}")
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
    return [
        (Candidate.model_validate(trial.user_attrs["candidate"]), "repeats" in trial.user_attrs)
        for trial in ended if INTERRUPTED not in trial.user_attrs
    ]  # fmt: skip


def test_a_search_ends_when_its_space_is_used_up(tmp_path: Path) -> None:
    run, text = _search(tmp_path)
    assert "Every candidate of the space was evaluated." in text
    assert len(run.results) == 6 == len({result.candidate for result in run.results})
    assert Laboratory.evaluated == [result.candidate for result in run.results]
    _, text = _search(tmp_path)
    assert "Going on after 6 trials" in text and "Every candidate" in text and len(Laboratory.evaluated) == 6


@pytest.mark.usefixtures("stubborn")
def test_after_three_repetitions_something_new_is_asked_near_the_last(tmp_path: Path) -> None:
    run, _ = _search(tmp_path)
    told = _told(tmp_path)
    assert len(run.results) == 6
    ends = [n for n in range(3, len(told)) if all(repeats for _, repeats in told[n - 3 : n])]
    assert ends
    for n in ends:
        fresh, repeats = told[n]
        assert not repeats
        seen = {candidate for candidate, _ in told[:n]}
        near = set(load_plan(None, STUDY).space(10).neighbours(told[n - 1][0])) - seen
        assert fresh in near or not near


@pytest.mark.usefixtures("stubborn")
@pytest.mark.parametrize("moment", ["asked", "told", "put in line"])
def test_a_search_interrupted_again_and_again_asks_what_an_uninterrupted_one_asks(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every trial once, after every end of one, after every entry into the line."""
    many = ["fp16", "int8/tensor", "int8/channel", "palette-8/tensor", "palette-6/tensor", "palette-4/tensor"]
    wide = {"compression": many, "search": STUDY["search"] | {"trials": 6, "packages_per_training": 2}}
    _search(tmp_path / "through", **wide)
    tried: set[Candidate] = set()

    def once(candidate: Candidate) -> bool:
        new = candidate not in tried
        tried.add(candidate)
        return new

    def then_interrupt(method: Callable[..., None]) -> Callable[..., None]:
        def interrupted(*arguments: Any) -> None:
            method(*arguments)
            raise KeyboardInterrupt

        return interrupted

    if moment == "asked":
        Laboratory.interrupt = once
    else:
        name = {"told": "tell", "put in line": "enqueue"}[moment]
        monkeypatch.setattr(Study, name, then_interrupt(getattr(Study, name)))
    interrupts = 0
    for _ in range(60):
        try:
            _search(tmp_path / "again", **wide)
        except KeyboardInterrupt:
            interrupts += 1
        else:
            break
    told = _told(tmp_path / "again")
    assert told == _told(tmp_path / "through") and sum(repeats for _, repeats in told) == 3
    assert interrupts == {"asked": 6, "told": len(told), "put in line": 5}[moment]


def test_a_search_ends_between_two_trials_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial takes 200 seconds; those of an earlier session count."""

    class Clock:
        def __init__(self) -> None:
            self.before, self.done = 0.0, len(Laboratory.evaluated)

        @property
        def seconds(self) -> float:
            return self.before + 200.0 * (len(Laboratory.evaluated) - self.done)

    monkeypatch.setattr(session, "Clock", Clock)
    run, text = _search(tmp_path, search={"timeout": "10m"})
    assert len(run.results) == 3 and "(after 10 min 00 s)" in text and "is over" not in text
    run, text = _search(tmp_path, search={"timeout": "10m"})
    assert len(run.results) == 3
    run, text = _search(tmp_path, search={"timeout": "15m"})
    assert len(run.results) == 5 and "Going on after 3 trials." in text


def test_the_first_baseline_asked_is_the_quickest_by_the_measured_laws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laws = {"mobilenetv2": PowerLaw(1e-4, 1.0), "mobilenetv3_small": PowerLaw(1e-5, 1.0)}
    laws |= {"efficientnet_lite0": PowerLaw(1e-4, 1.0), "squeezenet1_1": PowerLaw(1e-6, 1.0)}
    monkeypatch.setattr(budget, "_measure", lambda *_: laws)
    networks = STUDY["networks"] | {"backbones": [*laws]}
    _search(
        tmp_path,
        networks=networks,
        training={"device": "cpu"},
        search={"trials": 3, "timeout": "10m", "packages_per_training": 1},
    )
    asked = [candidate.network.backbone for candidate in Laboratory.evaluated]
    assert asked == ["squeezenet1_1", "mobilenetv3_small", "efficientnet_lite0"]


def test_pictures_that_break_between_two_sessions_are_told_and_restored_the_same_goes_on(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    for label in ("dark", "light"):
        (pictures / label).mkdir(parents=True)
        for number in range(50):
            Image.new("RGB", (32, 32), (2 * number, 9, 20 * (label == "dark"))).save(pictures / label / f"{number}.png")
    study = {"data": str(pictures), "splits": {}, "search": STUDY["search"] | {"trials": 2}}
    _search(tmp_path / "run", **study)
    one = pictures / "dark" / "7.png"
    whole = one.read_bytes()
    one.write_bytes(whole[:60])
    before = (tmp_path / "run" / "study.db").read_bytes()
    with pytest.raises(UserError, match=r"holds a run on other pictures than .* has now"):
        _search(tmp_path / "run", **study)
    assert (tmp_path / "run" / "study.db").read_bytes() == before
    _, text = _search(tmp_path / "new", **study)
    assert "skipped dark/7.png" in text
    one.write_bytes(whole)
    run, _ = _search(tmp_path / "run", **study | {"search": STUDY["search"] | {"trials": 3}})
    assert len(run.results) == 3


def test_a_clock_that_is_set_back_changes_no_duration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the system's clock shows a day less than the one before."""
    plain, _ = _search(tmp_path / "plain")
    days = count()

    class Backwards(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Backwards:
            return cls.fromtimestamp(1.8e9 - 86400 * next(days), tz)

    monkeypatch.setattr(events, "datetime", Backwards)
    monkeypatch.setattr(watch, "datetime", Backwards)
    monkeypatch.setattr("time.time", lambda: 1.8e9 - 86400 * next(days))
    Laboratory.interrupt = lambda candidate: len(Laboratory.evaluated) == 9
    with pytest.raises(KeyboardInterrupt):
        _search(tmp_path / "back")
    Laboratory.interrupt = lambda candidate: False
    run, _ = _search(tmp_path / "back")
    assert [r.candidate for r in run.results] == [r.candidate for r in plain.results]
    told = list(read_events(tmp_path / "back"))
    assert all(later["time"] < earlier["time"] for earlier, later in pairwise(told))
    sessions = [[event for event in told if event["session"] == name] for name in {event["session"] for event in told}]
    assert all(later["clock"] >= earlier["clock"] for own in sessions for earlier, later in pairwise(own))
    assert all(event.get("seconds", 0) >= 0 for event in told) and all(r.seconds >= 0 for r in run.results)
    seen = look(tmp_path / "back")
    assert seen.state.elapsed >= 0 and not seen.at_work and seen.ended == "finished"


def test_the_log_tells_every_trial_every_front_and_every_end(tmp_path: Path) -> None:
    """Two sessions: one that Ctrl-C stops in its third trial, and one that ends."""
    Laboratory.interrupt = lambda candidate: len(Laboratory.evaluated) == 2
    with pytest.raises(KeyboardInterrupt):
        _search(tmp_path)
    Laboratory.interrupt = lambda candidate: False
    run, _ = _search(tmp_path)
    events = list(read_events(tmp_path))
    sessions = list(dict.fromkeys(event["session"] for event in events))
    first, second = ([event for event in events if event["session"] == name] for name in sessions)
    assert [event["event"] for event in first[:2]] == ["started", "planned"]
    assert (first[-1]["event"], first[-1]["why"], second[-1]["event"]) == ("stopped", "Ctrl-C", "finished")
    assert second[0]["results"] == 2 and second[0]["trials"] == 100
    told = [event for event in events if event["event"] == "told" and "repeats" not in event]
    assert [event["trial"] for event in told] == [result.trial for result in run.results]
    assert told[0]["readings"] == {name: reading.value for name, reading in Laboratory.score.items()}
    assert {event["trial"] for event in events if event["event"] == "asked"} >= {event["trial"] for event in told}
    fronts = [event for event in events if event["event"] == "front"]
    assert fronts[-1]["trials"] == [result.trial for result in run.results]  # all are equal
    assert len({event["hypervolume"] for event in fronts}) == 1
    assert all(later["clock"] >= earlier["clock"] for earlier, later in pairwise(second))


def test_a_continued_run_says_that_its_test_was_read_and_keeps_how_often(tmp_path: Path) -> None:
    def go_on(trials: int) -> tuple[Run, str]:
        return _search(tmp_path, search={"sampler": "random", "trials": trials})

    first, text = go_on(2)
    assert "Test was" not in text and [look.trials for look in first.looks] == [2]
    second, text = go_on(4)
    assert text.count("Test was already read once: the search never sees it") == 1
    assert [look.trials for look in second.looks] == [2, 4] and second.looks[0] == first.looks[0]
    third, text = go_on(4)
    assert "Test was already read 2 times" in text and third.looks == second.looks
    assert len(third.results) == 4 and all(result.test_top1 for result in third.results)
