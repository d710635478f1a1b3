"""What every test shares: one torch thread per worker, and what happens where a browser is missing."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a crowded machine is no defect
settings.load_profile("untimed")
os.environ["COREML_PARETO_CACHE"] = ""  # no test reads or fills the user's own cache; tests of the cache name a folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """pytest-xdist runs one worker per core; more threads than cores would make all of them slower."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def browser() -> str:
    """Path of a Chrome or Chromium, which kaleido draws PNGs with; without one the test is left out, in CI it fails."""
    from choreographer.browsers.chromium import Chromium

    found = Chromium.find_browser(skip_local=False)
    if found is None:
        missing = "needs Chrome or Chromium, which draws charts as PNG (Debian: apt install chromium)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return str(found)


def _double(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    double = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, double)  # dataclasses look their module up
    spec.loader.exec_module(double)
    return double


@pytest.fixture
def core_ml(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Core ML on a MacBook Air, as far as coremltools can see; what it does is told to this `Behaviour`."""
    double = _double("coreml_double", monkeypatch)
    monkeypatch.setitem(sys.modules, "coremltools.libcoremlpython", None)  # undone afterwards
    behaviour = double.Behaviour()
    double.install(behaviour, monkeypatch.setattr)
    return behaviour


@pytest.fixture
def core_ml_apart(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put the made-up Core ML into the processes that `worker` starts, too: `Behaviour`'s fields are given by name."""

    def install(**behaviour: Any) -> None:
        script = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "import coreml_double as double\n"
            f"double.install(double.Behaviour(**{behaviour!r}))\n"
            "print('noise')\n"
            "from coreml_pareto.objectives.measuring.worker import main; main(sys.argv[1:])"
        )
        monkeypatch.setattr("coreml_pareto.objectives.measuring.worker.COMMAND", (sys.executable, "-c", script))

    return install


@pytest.fixture
def iphone(core_ml: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """iphone(phones=1, failure=None): a made-up iPhone at the cable of the made-up Mac; returns its `Behaviour`."""
    double = _double("phone_double", monkeypatch)

    def connect(**behaviour: Any) -> Any:
        told = double.Behaviour(**behaviour)
        double.install(told, monkeypatch.setattr)
        return told

    return connect


@pytest.fixture
def iphone_apart(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The same in the processes that `worker` starts."""

    def install(**behaviour: Any) -> None:
        script = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "import coreml_double; coreml_double.install(coreml_double.Behaviour())\n"
            f"import phone_double; phone_double.install(phone_double.Behaviour(**{behaviour!r}))\n"
            "from coreml_pareto.objectives.measuring.worker import main; main(sys.argv[1:])"
        )
        monkeypatch.setattr("coreml_pareto.objectives.measuring.worker.COMMAND", (sys.executable, "-c", script))

    return install
