"""How does a network begin with the weights of another of its backbone?  Every tensor takes the part that both have.

Of a wider parent a tensor takes the first channels; of a narrower one it takes all, and the rest stays as it was drawn.
Tensors that the parent lacks, or has with another number of axes, stay as they were drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def inherit(module: nn.Module, parent: Mapping[str, Tensor]) -> float:
    """Give a module a parent's weights, in place; return the share of its own that it inherited.

    Args:
        module: of the child, freshly drawn.
        parent: state of a network of the same backbone, of any width.
    """
    state = module.state_dict()  # views: what is written here is the module's
    inherited = 0
    for name, own in state.items():
        given = parent.get(name)
        if given is not None and given.ndim == own.ndim:
            part = tuple(slice(0, min(sides)) for sides in zip(own.shape, given.shape, strict=True))
            with torch.no_grad():
                own[part] = given[part].to(own)
            inherited += own[part].numel()
    elements: int = sum(own.numel() for own in state.values())
    return inherited / elements
