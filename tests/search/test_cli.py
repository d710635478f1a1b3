"""The command line as a whole: help, version, exit codes, and how long it takes to answer."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from coreml_pareto.search import study
from coreml_pareto.search.cli import app, main
from coreml_pareto.spaces.errors import UserError

COMMANDS = ("search", "front", "best", "evaluate", "estimate", "devices", "space")
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


def test_no_command_is_a_question() -> None:
    assert main([]) != 1


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
