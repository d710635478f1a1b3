"""What pip installs: a wheel and a strict editable install, each next to PyPI's `spaces`, which owns that bare name.

The real `spaces` is used where an index has it, otherwise a stand-in of the same layout. Both environments borrow
the installed dependencies (a .pth file), and everything is built from a copy: the working tree stays as it is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("spaces", "objectives", "search", "studies")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PRESETS = {path.stem for path in (ROOT / "studies").glob("*.yaml")}

PROBE = """
import importlib.metadata as metadata, importlib.util as util, json
from importlib.resources import files
import coreml_pareto.spaces.errors as ours
from coreml_pareto.search.config import presets
print(json.dumps({
    "bare": util.find_spec("spaces").origin,
    "bare_objectives": util.find_spec("objectives") is not None,
    "ours": ours.__file__,
    "presets": sorted(presets()),
    "devices": files("coreml_pareto.objectives.devices").joinpath("catalogue.csv").is_file(),
    "typed": [files(f"coreml_pareto.{room}").joinpath("py.typed").is_file() for room in ("spaces", "objectives", "search")],
    "license": metadata.metadata("coreml-pareto")["License-Expression"],
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def packaged(folder: Path) -> set[str]:
    """Return the files of the rooms below a folder that belong into a wheel."""
    kinds = {".py", ".yaml", ".csv", ".md", ".typed", ".json", ".swift", ".typ", ".html", ".css", ".js"}
    found = (path for room in ROOMS for path in (folder / room).rglob("*") if path.is_file())
    kept = (path for path in found if path.suffix in kinds or path.name == "LICENSE")
    return {str(path.relative_to(folder)) for path in kept if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what packaging reads."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", out, source, cwd=out)
    return next(out.glob("coreml_pareto-*.whl"))


@pytest.fixture(scope="module")
def other_spaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PyPI's `spaces`, or a stand-in where no index answers."""
    out = tmp_path_factory.mktemp("other")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "-q",
        "--retries",
        "0",
        "--timeout",
        "5",
        "-d",
        str(out),
    ]
    subprocess.run([*pip, "spaces"], capture_output=True, timeout=120, check=False)
    return next(out.glob("spaces-*.whl"), None) or _stand_in(out)


def _stand_in(folder: Path) -> Path:
    path = folder / "spaces-0.0.0-py3-none-any.whl"
    info = "spaces-0.0.0.dist-info"
    content = {
        "spaces/__init__.py": "GPU = 'Hugging Face'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: spaces\nVersion: 0.0.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*content, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return path


@pytest.fixture(scope="module", params=["wheel", "editable"])
def environment(
    request: pytest.FixtureRequest,
    source: Path,
    wheel: Path,
    other_spaces: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A virtual environment with `spaces` and ours in it."""
    folder = tmp_path_factory.mktemp(f"env_{request.param}")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv/bin/python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    install = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index")
    strict = ("--no-build-isolation", "--config-settings", "editable_mode=strict", "-e", source)
    run(*install, other_spaces, cwd=folder)
    run(*install, *((wheel,) if request.param == "wheel" else strict), cwd=folder)
    return folder / "venv"


def test_every_folder_with_source_is_listed() -> None:
    mapping = PROJECT["tool"]["setuptools"]["package-dir"]
    folders = {path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    expected = {".".join(("coreml_pareto", *folder.parts)) for folder in folders} | {"coreml_pareto.studies"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == expected
    assert mapping == {f"coreml_pareto.{room}": room for room in ROOMS}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", ""),
        ("new", "PYTHON=./new (3.13.0) is not used: .venv has Python 3.11.7 already; make clean first to change it."),
        ("same", ""),
        (
            "none",
            "PYTHON=./none (no Python) is not used: .venv has Python 3.11.7 already; make clean first to change it.",
        ),
    ],
)
def test_make_says_that_an_interpreter_is_not_used(asked: str, said: str, tmp_path: Path) -> None:
    """Where .venv exists, PYTHON=... comes too late; interpreters are played by scripts that know their version."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name, version in ((".venv/bin/python", "3.11.7"), ("new", "3.13.0"), ("same", "3.11.7")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {version}\n")
        path.chmod(0o755)
    for room in ROOMS:
        (tmp_path / room).mkdir()
    chosen = [f"PYTHON=./{asked}"] if asked else ["PYTHON="]
    done = subprocess.run(["make", "interpreter", *chosen], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    told = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode == 0 and told == ([said] if said else [])


def test_constraints_pin_every_declared_dependency() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all("==" in line for line in lines)
    pinned = {_normal(line.split("==")[0]) for line in lines}
    extras = PROJECT["project"]["optional-dependencies"].values()
    declared = [text for group in (PROJECT["project"]["dependencies"], *extras) for text in group]
    assert {_normal(text.split(">")[0]) for text in declared} <= pinned
    assert not [name for name in pinned if name.startswith(("nvidia", "cuda", "triton"))]


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def test_the_wheel_holds_every_file_of_the_rooms(source: Path, wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    ours = {name.removeprefix("coreml_pareto/") for name in names if name.startswith("coreml_pareto/")}
    assert ours == packaged(source)
    assert {name.split("/")[0] for name in names} == {"coreml_pareto", wheel.name.split("-py3")[0] + ".dist-info"}


def test_no_file_is_claimed_by_both(wheel: Path, other_spaces: Path) -> None:
    assert not set(zipfile.ZipFile(wheel).namelist()) & set(zipfile.ZipFile(other_spaces).namelist())


def test_both_are_importable_and_data_is_found_from_any_folder(environment: Path, tmp_path: Path) -> None:
    found = json.loads(run(environment / "bin/python", "-c", PROBE, cwd=tmp_path))
    assert Path(found["bare"]).is_relative_to(environment)
    assert not found["bare_objectives"]
    assert "coreml_pareto/spaces" in found["ours"]
    assert Path(found["ours"]).is_relative_to(environment) or "__editable__" in found["ours"]
    assert set(found["presets"]) == PRESETS and PRESETS
    assert found["devices"] and all(found["typed"])
    assert found["license"] == "Apache-2.0"


def test_the_command_answers_from_any_folder(environment: Path, tmp_path: Path) -> None:
    assert "search" in run(environment / "bin/coreml-pareto", "--help", cwd=tmp_path)
