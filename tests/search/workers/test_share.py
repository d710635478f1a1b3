"""Each worker's share: cores, GPUs, and the modules of the search."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from coreml_pareto.search.workers import share
from coreml_pareto.search.workers.share import THREADS, cores, environment, gpus


@pytest.mark.parametrize(("count", "workers", "threads"), [(8, 1, "8"), (8, 3, "2"), (8, 8, "1"), (2, 5, "1")])
def test_workers_share_the_cores(count: int, workers: int, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "cores", lambda: count)
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    assert {environment(seat, workers)[name] for seat in range(workers) for name in THREADS} == {threads}


def test_a_smaller_number_of_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "cores", lambda: 8)
    for name, text in zip(THREADS, ("1", "7", "nonsense", "0", ""), strict=True):
        monkeypatch.setenv(name, text)
    assert [environment(0, 2)[name] for name in THREADS] == ["1", "4", "4", "4", "4"]


def test_omps_number_of_threads_counts_for_the_libraries_without_one_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in the search's own process: else a worker would sum in another order."""
    monkeypatch.setattr(share, "cores", lambda: 8)
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    found = environment(0, 2)
    assert {name: found[name] for name in THREADS} == dict.fromkeys(THREADS, "1") | {"NUMBA_NUM_THREADS": "3"}


@pytest.mark.skipif(sys.platform != "linux", reason="taskset")
def test_only_the_cores_that_this_process_may_use_count() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from coreml_pareto.search.workers.share import cores; print(cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
    assert cores() == len(os.sched_getaffinity(0))


def test_torch_and_numba_keep_to_the_share() -> None:
    code = "import torch, numba; print(torch.get_num_threads(), numba.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(0, 10_000), capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 1\n"


def test_gpus_are_dealt_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert gpus("auto") == gpus("cuda") == ("0", "1", "2")
    assert gpus("cpu") == gpus("mps") == ()
    assert [environment(seat, 5, gpus("auto"))["CUDA_VISIBLE_DEVICES"] for seat in range(5)] == [
        "0",
        "1",
        "2",
        "0",
        "1",
    ]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7f")
    assert gpus("auto") == ("4", "GPU-7f")


def test_a_single_gpu_is_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus("cuda") == () and "CUDA_VISIBLE_DEVICES" not in environment(1, 2, gpus("cuda"))
