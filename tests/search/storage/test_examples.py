"""The examples for SLURM and Kubernetes: read, and their commands run with stand-ins for the launchers."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from coreml_pareto.search.cli import USER_ERROR
from coreml_pareto.search.commands.options import NOTHING_FITS
from coreml_pareto.search.study import load_run

EXAMPLES = Path(__file__).parents[3] / "examples"
MACHINE = Path(__file__).with_name("machine_double.py")
STUDY: dict[str, Any] = {
    "name": "birds",
    "data": "digits",
    "splits": {"limit": 100},
    "networks": {"backbones": ["squeezenet1_1"], "width": [0.25, 0.35], "resolution": [32], "pretrained": False},
    "training": {"epochs": [130], "rungs": 1, "device": "cpu"},
    "search": {"sampler": "random", "trials": 2, "workers": 1, "packages_per_training": 1},
}


@pytest.fixture
def bin_(tmp_path: Path) -> Path:
    """`srun` runs what it is given; `coreml-pareto` is ours, without networks."""
    folder = tmp_path / "bin"
    folder.mkdir()
    ours = f'exec "{sys.executable}" "{MACHINE}" double "$@"'
    for name, line in (("srun", 'echo "srun $*"; exec "$@"'), ("coreml-pareto", ours)):
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


def _environment(bin_: Path, **variables: str) -> dict[str, str]:
    paths = {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return os.environ | paths | variables


def _split(url: str) -> tuple[str, str]:
    """A URL without its password, and the password."""
    found = re.fullmatch(r"(.*//[^:]*):([^@]*)(@.*)", url)
    assert found
    return found[1] + found[3], found[2]


def test_the_script_for_slurm_is_bash_and_asks_for_an_array() -> None:
    script = EXAMPLES / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    options = [line for line in lines if line.startswith("#SBATCH ")]
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(lines.index(option) < first for option in options)  # sbatch reads none behind the first command
    known = {"job-name", "array", "ntasks", "cpus-per-task", "mem", "time", "requeue"}
    assert {re.split("[ =]", option.removeprefix("#SBATCH --"))[0] for option in options} == known
    assert "#SBATCH --array=0-7" in options


def test_the_tasks_of_slurm_join_one_study(tmp_path: Path, bin_: Path, database: str) -> None:
    """Two tasks, one after the other: the second finds the first one's trials and nothing left to do."""
    study = tmp_path / "birds.yaml"
    study.write_text(yaml.safe_dump(STUDY))
    url, password = _split(database)
    pgpass = tmp_path / "pgpass"
    pgpass.write_text(f"127.0.0.1:*:*:search:{password}\n")
    pgpass.chmod(stat.S_IRUSR | stat.S_IWUSR)
    said = []
    for task, trials in (("0", "1"), ("1", "2")):
        variables = {
            "SLURM_ARRAY_TASK_ID": task, "SLURM_CPUS_PER_TASK": "1", "SLURM_SUBMIT_DIR": str(tmp_path),
            "STORAGE": url, "TIMEOUT": "30m", "PGPASSFILE": str(pgpass),
        }  # fmt: skip
        command = ["bash", str(EXAMPLES / "slurm.sbatch"), str(study), "--trials", trials]
        done = subprocess.run(
            command, env=_environment(bin_, **variables), cwd=tmp_path, capture_output=True, text=True, timeout=600,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        said.append(done.stdout)
    assert all(text.startswith("srun coreml-pareto search") and password not in text for text in said)
    assert "Going on after 1 trials." in said[1]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PGPASSFILE", str(pgpass))
        runs = [load_run(tmp_path / "runs" / f"task-{task}") for task in (0, 1)]
    first, second = ([result.trial for result in run.results] for run in runs)
    assert (
        first == second and len(first) == 2 and first[0] == 0
    )  # a candidate drawn again takes a number, and counts once
    found = [path for path in tmp_path.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert found == [pgpass]


@pytest.fixture
def job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())
    return loaded


def test_the_job_for_kubernetes_says_what_matters(job: dict[str, Any]) -> None:
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert spec["parallelism"] == spec["completions"] == 4 and spec["completionMode"] == "Indexed"
    assert pod["restartPolicy"] == "Never"  # the failure policy asks for it
    rules = {rule["action"]: rule for rule in spec["podFailurePolicy"]["rules"]}
    assert rules["FailJob"]["onExitCodes"]["values"] == [USER_ERROR, NOTHING_FITS]
    (container,) = pod["containers"]
    assert rules["FailJob"]["onExitCodes"]["containerName"] == container["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    (secret,) = [row for row in container["env"] if row["name"] == "COREML_PARETO_STORAGE"]
    assert "secretKeyRef" in secret["valueFrom"] and "value" not in secret
    assert all(isinstance(row.get("value", ""), str) for row in container["env"])
    assert all(":" not in text.removeprefix("--storage=postgresql://") for text in container["args"])  # no password


def test_the_command_of_kubernetes_runs(job: dict[str, Any], tmp_path: Path, bin_: Path, database: str) -> None:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    for mount in container["volumeMounts"]:
        (tmp_path / mount["mountPath"].strip("/")).mkdir(parents=True)
    (tmp_path / "study" / "birds.yaml").write_text(yaml.safe_dump(STUDY))
    url, password = _split(database)
    paths = {mount["mountPath"]: str(tmp_path / mount["mountPath"].strip("/")) for mount in container["volumeMounts"]}
    arguments = [text.replace("postgresql://search@database/birds", url) for text in container["args"]]
    for inside, outside in paths.items():
        arguments = [re.sub(rf"(^|=){inside}/", rf"\g<1>{outside}/", text) for text in arguments]
    done = subprocess.run(
        [*container["command"], *arguments], env=_environment(bin_, COREML_PARETO_STORAGE=database), cwd=tmp_path,
        capture_output=True, text=True, timeout=600, check=False, executable=str(bin_ / "coreml-pareto"),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "") and password not in done.stdout
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("COREML_PARETO_STORAGE", database)
        assert len(load_run(tmp_path / "run/coreml-pareto/birds").results) == 2
