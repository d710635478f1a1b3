"""On which device is a network trained?  On what torch finds here."""

from __future__ import annotations

import torch

from coreml_pareto.spaces.errors import UserError


def pick_device(wish: str = "auto") -> torch.device:
    """Return the device to train on: CUDA, else Apple's GPU, else the CPU."""
    if wish != "auto":
        return torch.device(wish)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def check_device(wish: str) -> None:
    """Refuse a device to train on that this machine, or its torch, does not have.

    Raises:
        UserError: no such device here; the message names those that are.
    """
    there = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(wish, False):
        names = ", ".join(name for name, available in there.items() if available)
        raise UserError(f"training.device must be one that torch finds here ({names}); got {wish!r}: set it to auto.")
