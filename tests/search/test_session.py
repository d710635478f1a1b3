"""Searches from start to end on real trainings: small, but whole. Interrupted, killed, resumed, refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from PIL import Image
from rich.console import Console

from coreml_pareto.objectives.devices.measurements import Measurements, Record
from coreml_pareto.objectives.measuring import records
from coreml_pareto.objectives.measuring.records import package_of
from coreml_pareto.objectives.program import Executor, Program, content_digest, load
from coreml_pareto.objectives.score import static_score
from coreml_pareto.search import budget, session
from coreml_pareto.search.budget import PowerLaw
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.crew import Job, Verdict
from coreml_pareto.search.data import load_data
from coreml_pareto.search.events import read_events
from coreml_pareto.search.measurements import KEPT, import_into
from coreml_pareto.search.outcome import Infeasible, Scored
from coreml_pareto.search.profile import profile
from coreml_pareto.search.proposals import Proposals
from coreml_pareto.search.prospects import NothingCanFit
from coreml_pareto.search.report.watch import look
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.session import search
from coreml_pareto.search.stages.train import Step, Trainer
from coreml_pareto.search.stages.trained import open_checkpoint
from coreml_pareto.search.store import Store
from coreml_pareto.search.study import Study, load_run
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.errors import UserError

STUDY: dict[str, Any] = {
    "name": "small",
    "data": "digits",
    "splits": {"limit": 300},
    "networks": {
        "backbones": ["mobilenetv3_small", "squeezenet1_1"], "width": [0.35], "resolution": [32], "pretrained": False,
    },
    "compression": ["fp16", "int8/channel"],
    "training": {"epochs": [1], "batch_size": 32, "device": "cpu"},
    "search": {"trials": 4, "seed": 3},
}  # fmt: skip


def _search(folder: Path, **sections: Any) -> tuple[Run, str]:
    console = Console(file=io.StringIO(), width=100)
    with Screen(console) as screen:
        run = search(load_plan(None, STUDY | sections), folder, screen)
    assert isinstance(console.file, io.StringIO)
    return run, console.file.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _search(tmp_path_factory.mktemp("run"))[0]


def test_every_trial_ends_in_a_package_that_runs(finished: Run) -> None:
    assert len(finished.results) == 4
    for result in finished.results:
        assert isinstance(result.outcome, Scored), result.outcome
        assert Executor(load(result.outcome.package)).program.labels == finished.classes
        assert set(result.score) >= {"top1", "top5", "latency_ms", "size_bytes", "memory_bytes", "energy_mj", "macs"}


def test_a_baseline_comes_first_and_compressions_follow_their_training(finished: Run) -> None:
    asked = [r.candidate for r in finished.results]
    assert asked[0].compression.scheme == "fp16" and asked[0].recipe.teacher is None
    assert [{c.compression.scheme for c in pair} for pair in (asked[:2], asked[2:])] == [{"fp16", "int8"}] * 2
    assert [c.network for c in asked[::2]] == [c.network for c in asked[1::2]]
    trainings = {r.outcome.provenance["training"] for r in finished.results if isinstance(r.outcome, Scored)}
    assert len(trainings) == 2


def test_the_run_folder_holds_what_it_says(finished: Run) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert names >= {"study.yaml", "study.db", "store", "front.csv", "environment.json"}
    assert json.loads((finished.folder / "environment.json").read_text())["packages"]["optuna"] == optuna.__version__


def test_the_test_split_is_read_for_the_front_only(finished: Run) -> None:
    tested = {r.trial for r in finished.results if r.test_top1 is not None}
    lines = (finished.folder / "front.csv").read_text().splitlines()
    assert len(lines) == len(tested) + 1


def test_any_optuna_tool_reads_the_study(finished: Run) -> None:
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{finished.folder / 'study.db'}")
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE", "MINIMIZE", "MINIMIZE"]
    best = max(t.values[0] for t in study.trials if t.values)
    assert best == max(r.score["top1"].value for r in finished.scored())


def test_the_same_command_on_a_finished_run_trains_nothing(finished: Run) -> None:
    started = time.monotonic()
    again, text = _search(finished.folder)
    assert [r.trial for r in again.results] == [r.trial for r in finished.results]
    assert "Going on after 4 trials" in text
    assert time.monotonic() - started < 60


def test_the_log_of_a_search_says_where_its_time_went(finished: Run) -> None:
    events = list(read_events(finished.folder))
    spent, seconds = profile(events), sum(result.seconds for result in finished.results)
    assert spent.stages["training"] > 0 < spent.stages["package"] and spent.stages["teacher"] < 1
    assert sum(spent.stages.values()) == pytest.approx(seconds, rel=0.05)
    assert spent.wall == pytest.approx(sum(spent.stages.values()) + spent.outside)
    assert len([event for event in events if event["event"] == "epoch"]) >= 2  # one for each training
    seen = look(finished.folder)
    assert (seen.at_work, seen.ended, seen.state.counts) == (False, "finished", {"scored": 4})
    assert {result.trial for result in seen.state.front} == {r.trial for r in finished.results if r.test_top1}


def test_limits_that_nothing_can_keep_stop_a_search_before_its_first_training(tmp_path: Path) -> None:
    """The folder takes another question afterwards, and the probes are used again."""
    with pytest.raises(NothingCanFit, match="Nothing in this space can keep size ≤ 10KB: it is not trained") as caught:
        _search(tmp_path, limits={"size": "10KB", "accuracy": 0.5})
    text = str(caught.value)
    assert "Nearest to size ≤ 10KB: squeezenet1_1" in text and "would admit squeezenet1_1" in text
    assert not (tmp_path / "store" / "train").exists() and not (tmp_path / "study.db").exists()
    probes = {path.name: path.stat().st_mtime for path in (tmp_path / "store" / "probe").iterdir()}
    _, told = _search(tmp_path, limits={"size": "10MB", "accuracy": 0.01}, search={"trials": 1, "seed": 3})
    assert "Can the limits be kept?" in told and "100 %" in told and "not known before training" in told
    assert "Budget: 1 trial takes about 1 training, 2 packages of each; one takes about" in told
    after = {path.name: path.stat().st_mtime for path in (tmp_path / "store" / "probe").iterdir()}
    assert probes.items() <= after.items()


def test_without_limits_the_time_of_the_budget_is_told_once_before_the_first_training(tmp_path: Path) -> None:
    """Also where only the accuracy is limited; the table is for what is known before training."""
    search = {"trials": 1, "seed": 3}
    for number, limits in enumerate(({}, {"accuracy": 0.01})):
        _, told = _search(tmp_path / str(number), limits=limits, search=search)
        line = told.index("Budget: 1 trial takes about 1 training, 2 packages of each; one takes about")
        assert line < told.index("trial 0")
        assert "Can the limits be kept?" not in told
    _, told = _search(tmp_path / "0", search=search | {"trials": 2})
    assert "Budget:" not in told


def test_a_plan_that_was_timed_is_not_timed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two measurements of one run would contradict each other."""
    laws = dict.fromkeys(STUDY["networks"]["backbones"], PowerLaw(1e-6, 1.0))
    monkeypatch.setattr(budget, "_measure", lambda *_: laws)
    monkeypatch.setattr(budget, "_seconds_per_image", lambda *_: pytest.fail("timed twice"))
    timed = {"training": STUDY["training"] | {"epochs": "auto"}, "search": {"trials": 1, "timeout": "10m", "seed": 3}}
    _, told = _search(tmp_path, **timed)
    assert "Planned for the timeout" in told and "Budget: the timeout holds about" in told


def test_another_question_in_the_same_folder_is_refused(finished: Run) -> None:
    with pytest.raises(UserError, match="differs in compression; choose another --run"):
        _search(finished.folder, compression=["fp16"])


def test_what_no_trial_could_be_made_with_is_refused_before_the_folder_exists(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="resnet18 has no width multiplier"):
        _search(folder, distillation={"teachers": ["none", "resnet18"], "teacher_width": 0.75})
    with pytest.raises(UserError, match="has no ImageNet weights"):
        _search(folder, networks=STUDY["networks"] | {"pretrained": True})
    with pytest.raises(UserError, match=r"levit_128s takes no pictures of 40x40 pixels"):
        _search(folder, networks={"backbones": ["levit_128s"], "resolution": [40], "pretrained": False})
    assert not folder.exists()


def test_more_calibration_images_than_there_are_are_refused_before_the_folder_exists(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"calibration.images are training images, of which there are \d+; got 5000"):
        _search(tmp_path / "run", compression=["w8a8"], calibration={"images": [8, 5000]})
    assert not (tmp_path / "run").exists()


def test_the_same_pictures_by_another_name_are_the_same_study(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    for label, shade in (("dark", 20), ("light", 220)):
        (pictures / label).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (32, 32), (shade + number,) * 3).save(pictures / label / f"{number}.png")
    study = {"search": {"trials": 1, "seed": 3}, "splits": {}}
    _search(tmp_path / "run", data=str(pictures), **study)
    again, text = _search(tmp_path / "run", data=f"{pictures}/", **study)
    assert "Going on after 1 trials" in text and len(again.results) == 1


def test_limits_end_candidates_before_their_training(tmp_path: Path) -> None:
    run, text = _search(tmp_path, limits={"size": "300KB"}, search={"trials": 3, "seed": 3})
    over = [r for r in run.results if isinstance(r.outcome, Infeasible)]
    assert over and all(r.outcome.limits == ("size",) for r in over if isinstance(r.outcome, Infeasible))
    assert "not trained" in text
    for result in run.scored():
        assert result.score["size_bytes"].value <= 300e3
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path / 'study.db'}")
    told = study.trials[over[0].trial]
    assert told.state.name == "COMPLETE" and told.values[0] == float("-inf")
    assert told.constraints["size"] > 0


def test_further_packages_are_calibrated_and_fine_tuned_as_the_study_allows(tmp_path: Path) -> None:
    """Neither 0 epochs nor 128 images are among the choices; no trial is asked twice or left out."""
    run, _ = _search(
        tmp_path / "run",
        networks={"backbones": ["squeezenet1_1"], "width": [0.25], "resolution": [32], "pretrained": False},
        compression=["fp16", "w8a8", "mixed-3"],
        calibration={"images": [8, 16], "method": ["min-max", "percentile"]},
        training={"epochs": [1], "fine_tune_epochs": [1, 2], "batch_size": 32, "device": "cpu"},
        search={"trials": 4, "seed": 0, "packages_per_training": 3},
    )
    assert [type(result.outcome) for result in run.results] == [Scored] * 4
    first = [result.candidate.compression for result in run.results[:3]]
    assert {form.scheme for form in first} == {"fp16", "w8a8", "mixed"}
    for form in (result.candidate.compression for result in run.results):
        assert form.fine_tune_epochs in ((0,) if form.scheme == "fp16" else (1, 2))
        assert form.calibration_images in ((8, 16) if form.scheme == "w8a8" else (0,))
    assert len({result.candidate.digest for result in run.results}) == 4


def test_probes_weigh_what_the_trained_package_weighs(tmp_path: Path) -> None:
    """A limit just below a trained package's bytes refuses it before training: the sizes agree to the byte."""
    run, _ = _search(tmp_path / "a", search={"trials": 2, "seed": 3})
    sizes = {r.candidate.digest: r.score["size_bytes"].value for r in run.scored()}
    largest = max(sizes.values())
    limited, _ = _search(tmp_path / "b", limits={"size": f"{int(largest) - 1}B"}, search={"trials": 2, "seed": 3})
    known = {
        r.candidate.digest: r.outcome.score["size_bytes"].value
        for r in limited.results if isinstance(r.outcome, Infeasible | Scored)
    }  # fmt: skip
    shared = set(sizes) & set(known)
    assert shared
    assert {d: sizes[d] for d in shared} == {d: known[d] for d in shared}


def test_a_search_killed_in_training_loses_nothing_finished_and_asks_the_same(tmp_path: Path, finished: Run) -> None:
    """SIGKILL after the first finished trial; the resumed run asks what the uninterrupted one asked."""
    study, folder = tmp_path / "small.json", tmp_path / "run"
    study.write_text(json.dumps(STUDY))
    script = (
        "import sys; from pathlib import Path; from rich.console import Console\n"
        "from coreml_pareto.search.config import load_plan; from coreml_pareto.search.screen import Screen\n"
        "from coreml_pareto.search.session import search; import json\n"
        "plan = load_plan(None, json.load(open(sys.argv[1])))\n"
        "with Screen(Console()) as screen: search(plan, Path(sys.argv[2]), screen)\n"
    )
    command = [sys.executable, "-c", script, str(study), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "1/4" in line:
                break
        time.sleep(1.0)
        os.kill(process.pid, signal.SIGKILL)
    before = load_run(folder)
    assert len(before.scored()) >= 1
    resumed, _ = _search(folder)
    assert [r.candidate for r in resumed.scored()] == [r.candidate for r in finished.scored()]
    assert [r.candidate for r in resumed.scored()][: len(before.scored())] == [r.candidate for r in before.scored()]


def test_a_kill_before_the_further_compressions_stand_in_line_loses_none(
    tmp_path: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = Study.enqueue

    def kill(study: Study, candidate: Candidate) -> None:
        if study.results():
            raise KeyboardInterrupt
        enqueue(study, candidate)

    monkeypatch.setattr(Study, "enqueue", kill)
    with pytest.raises(KeyboardInterrupt):
        _search(tmp_path)
    monkeypatch.undo()
    resumed, _ = _search(tmp_path)
    assert [r.candidate for r in resumed.scored()] == [r.candidate for r in finished.scored()]


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.before = self.now = 0.0

    @property
    def seconds(self) -> float:
        return self.before + self.now


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Hand]:
    """hand(600): the next search's clock; it shows that much as soon as a training is told after the first result."""

    def make(then: float) -> Hand:
        clock, results, result, step = Hand(), list[object](), Screen.result, Screen.step

        def told(screen: Screen, *arguments: Any) -> None:
            results.append(arguments[0])
            result(screen, *arguments)

        def moved(screen: Screen, *arguments: Any) -> None:
            clock.now = then if results else clock.now
            step(screen, *arguments)

        monkeypatch.setattr(session, "Clock", lambda: clock)
        monkeypatch.setattr(Screen, "result", told)
        monkeypatch.setattr(Screen, "step", moved)
        return clock

    return make


def test_a_search_whose_time_is_over_goes_on_with_a_longer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hand: Callable[[float], Hand]
) -> None:
    """The time ends in the second training; the same again does nothing; a longer one goes on with that training."""
    networks, training = STUDY["networks"] | {"width": [0.35, 0.5]}, STUDY["training"] | {"epochs": [3]}
    study = {"compression": ["fp16"], "networks": networks, "training": training}
    monkeypatch.setattr("coreml_pareto.search.stages.train.PULSE", 1e9)
    hand(601.0)
    run, text = _search(tmp_path, **study, search={"timeout": "10m", "seed": 3})
    assert "The time of 10m is over; the training in progress is kept for a longer one." in text
    assert len(run.scored()) == 1 == len((tmp_path / "front.csv").read_text().splitlines()) - 1

    again = hand(0.0)
    run, text = _search(tmp_path, **study, search={"timeout": "10m", "seed": 3})
    assert "Going on after 1 trials, asking 1 unfinished again." in text and "is over" not in text
    assert len(run.scored()) == 1 and again.before == 601.0

    longer, steps = hand(600.0), list[float]()
    told = session._Session.step

    def watched(self: session._Session, job: Job, step: Step) -> Verdict:
        steps.append(step.done)
        return told(self, job, step)

    monkeypatch.setattr(session._Session, "step", watched)
    run, text = _search(tmp_path, **study, search={"timeout": "20m", "seed": 3})
    assert "Going on after 1 trials." in text  # the unfinished one stands in line
    assert steps[:2] == [1, 2]  # the first epoch was kept, and is told once more
    assert len(run.scored()) == 2 and longer.seconds == 1201.0
    assert "The time of 20m is over" in text  # in the third training


TAUGHT: dict[str, Any] = {
    "compression": ["fp16"],
    "search": {"trials": 2, "seed": 3, "packages_per_training": 1},
    "distillation": {"teachers": ["squeezenet1_1"], "teacher_width": 0.25, "soft_weight": [0.5]},
}


def test_a_teacher_is_trained_once_and_announced(tmp_path: Path) -> None:
    run, text = _search(tmp_path, **TAUGHT)
    assert [r.candidate.recipe.teacher for r in run.scored()] == ["squeezenet1_1"] * 2
    records = [json.loads(path.read_text()) for path in tmp_path.glob("store/train/*/record.json")]
    (own,) = [record for record in records if record["recipe"]["teacher"] is None]
    assert len(records) == 3 and own["network"]["width"] == 0.25
    (line,) = [line for line in text.splitlines() if line.startswith("teacher ")]
    images = len(load_data("digits", limit=300).validation)
    assert line == (
        f"teacher squeezenet1_1×0.25 @32 stem/1: top-1 {own['glance_top1']:.1%} (torch network, {images} validation images)"
    )
    _, text = _search(tmp_path, **TAUGHT | {"search": TAUGHT["search"] | {"trials": 3}})
    assert "teacher squeezenet1_1×0.25" not in text  # it is known to the study


def test_a_teacher_of_another_run_is_announced_with_its_accuracy_on_these_pictures(
    tmp_path: Path, finished: Run
) -> None:
    """Its record speaks of other pictures, and says whatever it likes."""
    (training, *_) = sorted((finished.folder / "store" / "train").iterdir())
    teacher = shutil.copytree(training, tmp_path / "teacher")
    record = json.loads((teacher / "record.json").read_text()) | {"glance_top1": 0.999, "data": "other"}
    (teacher / "record.json").write_text(json.dumps(record))
    run, text = _search(
        tmp_path / "run", **TAUGHT | {"distillation": {"teachers": [str(teacher)]}, "search": {"trials": 1, "seed": 3}}
    )
    data = load_data("digits", limit=300)
    measured = Trainer(Store(tmp_path), data, device="cpu").top1(open_checkpoint(teacher, data.classes))
    assert f": top-1 {measured:.1%} (torch network" in text and measured < 0.999
    kept = optuna.load_study(study_name="small", storage=f"sqlite:///{run.folder / 'study.db'}").user_attrs["teachers"]
    assert [teacher["top1"] for teacher in kept.values()] == [measured]


def test_a_teacher_for_other_classes_is_refused_before_the_folder_exists(tmp_path: Path, finished: Run) -> None:
    (teacher, *_) = (finished.folder / "store" / "train").iterdir()
    for label in "abcdefghij":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(4):
            shade = 5 * (10 * number + ord(label) - 97)
            Image.new("RGB", (8, 8), (shade,) * 3).save(tmp_path / "pictures" / label / f"{number}.png")
    with pytest.raises(UserError, match=r"only in the data: 'a', 'b'.*only in the teacher: '0', '1'"):
        _search(tmp_path / "run", data=str(tmp_path / "pictures"), distillation={"teachers": [str(teacher)]})
    assert not (tmp_path / "run").exists()


def test_a_study_whose_first_trials_all_fail_stops_with_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the converter is out of order")

    monkeypatch.setattr("coreml_pareto.search.stages.package.convert", broken)
    with pytest.raises(
        UserError, match=r"first 3 trials all failed.*package: RuntimeError: the converter is out of order"
    ):
        _search(tmp_path)


def test_no_data_and_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data"):
        _search(tmp_path, data=None)
    with pytest.raises(UserError, match="no run folder"):
        load_run(tmp_path / "nothing")


def test_what_an_estimate_refused_is_asked_again_once_the_device_proved_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every candidate of a study breaks its limit by estimate; a phone that takes 0.3 of the estimates is imported.

    Such a study is refused as a whole before it begins; here it is let through.
    """
    monkeypatch.setattr(session, "foresee", lambda *_: None)
    limits = {"latency": "0.07ms"}
    first, _ = _search(tmp_path / "run", limits=limits, search={"trials": 1, "seed": 3})
    assert [type(result.outcome) for result in first.results] == [Infeasible]
    probes = [load(path) for path in sorted((tmp_path / "run/store/probe").glob("*/model.mlpackage"))[:2]]
    phone = [_measured(program, 0.3 * static_score(program, first.target)["latency_ms"].value) for program in probes]
    import_into(first, Measurements.of(map(package_of, probes), phone))
    again, text = _search(tmp_path / "run", limits=limits, search={"trials": 2, "seed": 3})
    assert "Asking again for 1 that were refused" in text
    assert len(again.scored()) == 2
    assert again.scored()[0].candidate == first.results[0].candidate
    assert all(r.score["latency_ms"].how == "corrected" and r.score["latency_ms"].value < 0.07 for r in again.scored())
    third, text = _search(tmp_path / "run", limits=limits, search={"trials": 2, "seed": 3})
    assert "Asking again" not in text and len(third.results) == len(again.results) == 3


def test_after_an_import_what_was_read_before_is_compared_as_what_is_read_from_then_on(
    tmp_path: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone that takes three times the estimates: what the gate is given says so, the record keeps the estimates."""
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    before = load_run(folder)
    program = load(before.scored()[0].outcome.package)  # type: ignore[union-attr]
    phone = _measured(program, 3 * static_score(program, before.target)["latency_ms"].value)
    after, compared = import_into(before, Measurements.of([package_of(program)], [phone])), list[Result]()

    def watched(*parts: Any) -> Proposals:
        proposals = Proposals(*parts)
        compared.extend(proposals.seen.values())
        return proposals

    monkeypatch.setattr(session, "Proposals", watched)
    _search(folder)
    assert [r.outcome for r in compared] == [r.outcome for r in after.results] != [r.outcome for r in before.results]
    (folder / KEPT).unlink()
    recorded = load_run(folder).results[: len(before.results)]
    assert [r.outcome for r in recorded] == [r.outcome for r in before.results]


def _measured(program: Program, median: float) -> Record:
    return Record(
        digest=content_digest(program), device="iPhone16,1", os="17.5.1", os_build="21F90", harness="test kit",
        compute_units="ALL", median_ms=median, p10_ms=median, p90_ms=median, load1_ms=9.0, load2_ms=3.0, rounds=20,
        predictions_per_round=50, warm_up=7, thermal="nominal", low_power=False, measured_at=records.now(),
    )  # fmt: skip
