"""The command line as a whole: help, version, exit codes, how long it takes to answer, and a search through it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from typer.testing import CliRunner

from coreml_pareto.search import study
from coreml_pareto.search.cli import app, main
from coreml_pareto.search.config import Plan
from coreml_pareto.search.lock import sole_search
from coreml_pareto.spaces.errors import UserError

COMMANDS = (
    "search", "front", "best", "device-kit", "import-measurements", "evaluate", "estimate", "inspect", "sensitivity",
    "measure", "verify", "devices", "space", "store",
)  # fmt: skip
LIMITS = ("--max-size", "--max-latency", "--max-memory", "--max-energy", "--min-top1", "--strict")


def test_help_names_every_command() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    for command in COMMANDS:
        assert command in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    assert f"coreml-pareto {command}" in result.output
    if command in ("search", "front", "best"):
        assert all(flag in result.output for flag in LIMITS)


def test_help_imports_nothing_heavy() -> None:
    """Heavy libraries are what makes a command line slow; the time itself depends on the machine."""
    code = (
        "import sys, coreml_pareto.search.cli as c; c.main(['--help']); "
        "print([m for m in ('torch', 'optuna', 'coremltools', 'timm', 'plotly', 'scipy', 'numpy') if m in sys.modules])"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
    assert time.monotonic() - started < 10


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("coreml-pareto")


def test_no_command_is_a_usage_error_that_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert "Usage: coreml-pareto" in out and all(command in out for command in COMMANDS)
    assert err.strip() == ""


def test_an_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["front", "RUN", "--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (UserError("a rule; what came; the way out"), 2, "error: a rule; what came; the way out"),
        (ZeroDivisionError("division\nby zero"), 1, "error: ZeroDivisionError: division by zero (a defect; --debug"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, said: str
) -> None:
    def fail(folder: object) -> None:
        raise raised

    monkeypatch.setattr(study, "load_run", fail)
    assert main(["front", "RUN"]) == code
    out, err = capsys.readouterr()
    assert said in err and "Traceback" not in err and out == ""


def test_debug_shows_the_traceback_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(study, "load_run", fail)
    for arguments in (["--debug", "front", "RUN"], ["front", "RUN", "--debug"]):
        with pytest.raises(ZeroDivisionError):
            main(arguments)


# --- a search from start to end, through the command line -------------------------------------------------------------

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": "digits",
    "splits": {"limit": 120},
    "networks": {"backbones": ["squeezenet1_1"], "width": [0.25], "resolution": [32], "pretrained": False},
    "compression": ["fp16"],
    "training": {"epochs": [1], "batch_size": 32, "device": "cpu"},
    "search": {"trials": 1},
}  # fmt: skip


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """command("search", study) -> exit code, stdout, stderr."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study file whose search ends after one short training."""
    study = tmp_path_factory.mktemp("study") / "tiny.yaml"
    study.write_text(yaml.safe_dump(TINY))
    return study


@pytest.fixture(scope="module")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its run folder after a first search."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["search", str(tiny), "--run", str(folder)]) == 0
    return folder


def _refused(answer: Answer, *said: str) -> None:
    """Bad input: exit code 2, one line on stderr that says what and the way out."""
    assert answer.code == 2, answer
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1 and "Traceback" not in answer.err
    for words in said:
        assert words in answer.err


def test_ctrl_c_in_a_training_ends_cleanly_and_the_same_command_goes_on(
    command: Callable[..., Answer], tmp_path: Path
) -> None:
    study, folder = tmp_path / "long.yaml", tmp_path / "run"
    study.write_text(yaml.safe_dump(TINY | {"training": TINY["training"] | {"epochs": [60]}}))
    # A shell that starts tests in the background lets its children ignore SIGINT; a person's shell does not.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from coreml_pareto.search.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", code, "search", str(study), "--run", str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not list(folder.glob("store/.work/train-*/checkpoint.pt")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"Stopped. Everything finished is in {folder}; the same command goes on." in out and err == ""
    assert "No trial has ended yet." in command("front", folder).out
    answer = command("search", study, "--run", folder)
    assert answer.code == 0 and "Going on after 0 trials, asking 1 unfinished again." in answer.out
    (trial,) = json.loads(command("front", folder, "--json").out)
    assert Path(trial["package"]).is_dir()


def test_every_option_of_a_search_arrives_in_its_own_place(
    command: Callable[..., Answer], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Plan, Path]] = []

    def capture(plan: Plan, folder: Path, screen: object) -> None:
        asked.append((plan, folder))
        raise UserError("captured")

    monkeypatch.setattr("coreml_pareto.search.session.search", capture)
    limits = ("--max-size", "3MB", "--max-latency", "4ms", "--max-memory", "5MB", "--max-energy", "6mJ")
    target = ("--ios", "18", "--device", "iPhone 14 Pro", "--compute-units", "CPU_AND_GPU")
    end = ("--trials", "7", "--timeout", "8h", "--seed", "9", "--store", tmp_path.parent / "shared")
    answer = command(
        "search", tiny, "--data", tmp_path, "--run", tmp_path.parent / "there", *limits, "--min-top1", "0.6", "--strict",
        *target, *end,
    )  # fmt: skip
    assert "captured" in answer.err
    ((plan, folder),) = asked
    assert (plan.data, folder) == (str(tmp_path), tmp_path.parent / "there")
    assert plan.store == str(tmp_path.parent / "shared")
    assert plan.bounds == {"size": 3e6, "latency": 4.0, "memory": 5e6, "energy": 6.0, "accuracy": 0.6}
    assert plan.strict
    assert (plan.target.os, plan.target.device, plan.target.compute_units) == (18, "iPhone 14 Pro", "CPU_AND_GPU")
    assert (plan.search.trials, plan.search.timeout, plan.search.seed, plan.splits.seed) == (7, "8h", 9, 9)
    command("search", tiny)
    plain, folder = asked[-1]
    assert folder == Path("runs/tiny") and not plain.strict and plain.bounds == {} and plain.search.trials == 1


def test_the_same_command_again_trains_nothing(
    command: Callable[..., Answer], tiny: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> None:
        raise AssertionError("a training")

    monkeypatch.setattr("coreml_pareto.search.stages.train.Trainer.train", train)
    trainings = {path: path.stat().st_mtime_ns for path in (finished / "store").rglob("*") if path.is_file()}
    answer = command("search", tiny, "--run", finished)
    assert answer.code == 0, answer
    assert "Going on after 1 trials" in answer.out and "squeezenet1_1" in answer.out
    assert {p: p.stat().st_mtime_ns for p in (finished / "store").rglob("*") if p.is_file()} == trainings
    assert len(list((finished / "store" / "train").iterdir())) == 1


def test_front_and_best_read_the_run_while_a_search_holds_it(command: Callable[..., Answer], finished: Path) -> None:
    with sole_search(finished):
        (row,) = json.loads(command("front", finished, "--json").out)
        assert Path(row["package"]).is_dir()
        assert command("best", finished).code == 0


def test_a_second_search_in_the_folder_is_refused(command: Callable[..., Answer], tiny: Path, finished: Path) -> None:
    with sole_search(finished):
        _refused(command("search", tiny, "--run", finished), "Only one search at a time", str(finished))
    assert command("search", tiny, "--run", finished).code == 0


def test_a_limit_that_nothing_keeps_ends_with_code_3(
    command: Callable[..., Answer], tiny: Path, tmp_path: Path
) -> None:
    answer = command("search", tiny, "--run", tmp_path / "run", "--max-size", "1KB")
    assert answer.code == 3, answer
    assert "not trained" in answer.out and answer.err == ""
    assert not (tmp_path / "run" / "store" / "train").exists()
    assert command("best", tmp_path / "run").code == 2  # there is no run: the folder takes another question
    assert "would admit squeezenet1_1" in answer.out


def test_bad_input_is_refused_in_one_line_and_leaves_nothing(
    command: Callable[..., Answer], tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "one"
    _refused(command("search", tiny, "--run", folder, "--data", tmp_path / "nothing"), "does not exist")
    _refused(command("search", tiny, "--run", folder, "--max-size", "big"), "big")
    _refused(command("search", "no_such_study", "--run", folder), "no_such_study", "quickstart")
    _refused(command("search", "--data", "digits", "--run", folder), "--timeout", "--trials")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_a_file_is_refused_before_anything_is_read(
    command: Callable[..., Answer], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coreml_pareto.search.preparation.load_data", lambda *_, **__: pytest.fail("read"))
    _refused(command("search", tiny, "--run", tiny), "it is a file", str(tiny))
    _refused(command("search", tiny, "--run", tiny / "run"), "can be created and written", str(tiny / "run"))


@pytest.mark.parametrize("name", ["study.db", "study.yaml"])
def test_a_damaged_record_is_bad_input_for_every_command(
    command: Callable[..., Answer], tiny: Path, finished: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:700])
    for arguments in (("front", folder), ("best", folder), ("search", tiny, "--run", folder)):
        _refused(command(*arguments), f"{folder / name} is damaged", "another --run folder", str(folder / "store"))


def test_a_run_folder_inside_the_pictures_is_refused(
    command: Callable[..., Answer], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    for label in ("cat", "dog"):
        (pictures / label).mkdir(parents=True)
    monkeypatch.chdir(pictures)
    refused = "inside the pictures would be read as a class"
    _refused(command("search", tiny, "--data", "."), refused, "runs/tiny")
    _refused(command("search", tiny, "--data", "../pictures", "--run", pictures), refused)
    _refused(command("search", tiny, "--data", pictures, "--run", "dog/run"), refused)
    assert {path.name for path in pictures.rglob("*")} == {"cat", "dog"}
    _refused(command("search", tiny, "--data", ".", "--run", "../run"), "training images")  # the next check


def test_a_run_folder_beside_the_splits_is_no_class(
    command: Callable[..., Answer], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "dog").mkdir()
    monkeypatch.chdir(tmp_path)
    for run in ("train", "val/runs/tiny"):
        _refused(command("search", tiny, "--data", ".", "--run", run), "inside the pictures would be read as a class")
    _refused(command("search", tiny, "--data", "."), "training images")  # the next check


def test_the_help_says_what_counts_as_a_trial() -> None:
    text = " ".join(CliRunner().invoke(app, ["search", "--help"], env={"COLUMNS": "200"}).output.split())
    assert "Packages scored or refused by a limit; those stopped early and failures do not count." in text
