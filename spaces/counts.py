"""How much arithmetic and how many weights is a network?  Counted without weights and without computing.

Multiply-accumulates are counted by torch's `FlopCounterMode` (convolutions and matrix products; two operations each) on
the meta device: a second for what a conversion tells in ten. Of a saved package `objectives.program` counts from its own
operations.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.families import build


class Counts(NamedTuple):
    """Multiply-accumulates of convolutions and matrix products for one image, and parameters."""

    macs: int
    parameters: int


@cache
def count(network: Network) -> Counts:
    """Return a network's counts."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module = build(network).eval()
        module(torch.empty(1, 3, network.resolution, network.resolution))
    return Counts(counter.get_total_flops() // 2, sum(weights.numel() for weights in module.parameters()))
