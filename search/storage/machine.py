"""Which of the machines of a study does a run folder belong to?  RUN/machine.json: a name drawn once, and the host.

A folder that is copied to another host belongs to another machine there.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from uuid import uuid4

from coreml_pareto.search.record import MACHINE
from coreml_pareto.search.store import write_atomically

FOUNDER = "founder"
"""A fact of a study: the machine that began it."""


def host() -> str:
    """Return this machine's name in the network."""
    return socket.gethostname()


def holder(folder: Path) -> dict[str, str]:
    """Return {"machine": ..., "host": ...} of a run folder: as it stands there, or drawn and written now."""
    known = holder_in(folder)
    if known.get("host") == host():
        return known
    drawn = {"machine": uuid4().hex[:12], "host": host()}
    write_atomically(folder / MACHINE, json.dumps(drawn))
    return drawn


def holder_in(folder: Path) -> dict[str, str]:
    """Return what stands in a run folder, empty where nothing can be read; nothing is written."""
    try:
        found = json.loads((folder / MACHINE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and {"machine", "host"} <= found.keys()
    return {name: str(found[name]) for name in ("machine", "host")} if whole else {}
