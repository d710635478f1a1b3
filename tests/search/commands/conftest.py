"""The command line as a function, on a run that `load_run` finds without a folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from coreml_pareto.search import study
from coreml_pareto.search.cli import main
from coreml_pareto.search.run import Run


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """command("front", "RUN", "--json") -> exit code, stdout, stderr."""

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = main(arguments)
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def recorded_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], Run]:
    """recorded_as(run): every folder is this run."""

    def record(run: Run) -> Run:
        monkeypatch.setattr(study, "load_run", lambda folder: run)
        return run

    return record


@pytest.fixture
def recorded(recorded_as: Callable[[Run], Run], draw_run: Callable[..., Run]) -> Run:
    """A run of 12 packages within 5 MB; every folder is this run."""
    run = draw_run(12, limits={"size": 5e6})

    return recorded_as(run)
