"""What of the machine does each worker get?  Its share of the cores, and one GPU where training uses them.

Libraries read these variables when they are loaded, so they are set before a worker's interpreter starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


def cores() -> int:
    """Return the number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus(wish: str) -> tuple[str, ...]:
    """Return the GPUs that a training may use, by their names in CUDA_VISIBLE_DEVICES; none where only one is there."""
    import torch

    count = torch.cuda.device_count() if wish in ("auto", "cuda") else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = named.split(",") if named else [str(number) for number in range(count)]
    return tuple(names[:count]) if count > 1 else ()


def environment(seat: int, workers: int, gpus: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment of the worker in this seat, counted from 0: ours, with its threads and its GPU.

    A number of threads that is set already and smaller stays; OMP's counts for the libraries whose own is not set, as it
    does in the search's own process. Modules are found where we find them.
    """
    share = max(1, cores() // workers)
    general = os.environ.get(THREADS[0])
    variables = {name: str(min(share, _number(os.environ.get(name, general), share))) for name in THREADS}
    if gpus:
        variables["CUDA_VISIBLE_DEVICES"] = gpus[seat % len(gpus)]
    return os.environ | variables | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdigit() and int(text) else otherwise
