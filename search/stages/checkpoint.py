"""How do the tensors of a training survive a kill, a full disk and a damaged file?  Saved whole, and read if they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from coreml_pareto.search.store import write_whole

log = logging.getLogger(__name__)


def save(state: Mapping[str, Any], path: Path) -> None:
    """Save tensors and plain values whole or not at all; of a full disk torch's own writer does not say that it is full."""
    content = BytesIO()
    torch.save(state, content)
    write_whole(path, content.getbuffer())


def restore(path: Path) -> dict[str, Any] | None:
    """Return what was saved; None where there is nothing, or, with a warning, nothing whole."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises on a broken file has no common class
        log.warning("%s is damaged (%s): the training begins anew", path, type(error).__name__)
        return None
    return state
