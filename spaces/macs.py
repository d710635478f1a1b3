"""How much arithmetic is a network?  Multiply-accumulates of one image, counted without weights and without computing.

Counted by torch's `FlopCounterMode` (convolutions and matrix products; two operations each) on the meta device: a second
for what a conversion tells in ten. Of a saved package `objectives.program` counts from its own operations.
"""

from __future__ import annotations

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.families import build


@cache
def macs(network: Network) -> int:
    """Return the multiply-accumulates of convolutions and matrix products for one image."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(network).eval()(torch.empty(1, 3, network.resolution, network.resolution))
    return counter.get_total_flops() // 2
