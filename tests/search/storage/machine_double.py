"""One machine of a study, for tests: a whole command in a process of its own, with short leases and maybe an accident.

    python machine_double.py ACCIDENT COMMAND...

Accidents: `none`; `double` (a laboratory without networks, see laboratory_double.py); `training` (SIGKILL after the first
checkpoint); `publishing` (SIGKILL when half of a package lies in the shared store).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from coreml_pareto.search import cli, session
from coreml_pareto.search.stages.train import Training
from coreml_pareto.search.storage import lease, patience, peers
from coreml_pareto.search.store import folder


def hurry() -> None:
    """Seconds instead of minutes."""
    lease.BEAT, lease.EXPIRES, peers.TICK, patience.LONGEST = 0.3, 4.0, 0.3, 1.0  # type: ignore[misc]


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_training() -> None:
    checkpoint = Training._checkpoint

    def one(self: Training) -> None:
        checkpoint(self)
        die()

    Training._checkpoint = one  # type: ignore[method-assign]


def killed_while_publishing(shared: Path) -> None:
    copy = folder._link_or_copy

    def half(source: Path, target: Path) -> None:
        copy(source, target)
        if target.is_relative_to(shared) and "package" in str(source):
            die()

    folder._link_or_copy = half


def main() -> int:
    accident, *command = sys.argv[1:]
    hurry()
    if accident == "double":
        sys.path.insert(0, str(Path(__file__).parents[1] / "workers"))
        import laboratory_double  # type: ignore[import-not-found]

        laboratory_double.install(session)
    if accident == "training":
        killed_in_training()
    if accident == "publishing":
        killed_while_publishing(Path(command[command.index("--store") + 1]))
    return cli.main(command)


if __name__ == "__main__":
    sys.exit(main())
