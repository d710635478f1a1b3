"""Which weights a network starts from: ImageNet's, a checkpoint's, or random ones; and their name for the store.

Policies: `auto` takes ImageNet weights where they exist and the hub (or its cache) has them, and says once when the
hub is out of reach; `true` insists; `false` starts from random weights; anything else is the path of a checkpoint.
ImageNet weights exist at width and depth 1 only.
"""

from __future__ import annotations

import hashlib
import logging
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, final
from urllib.parse import urlparse

from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import backbone_of, build

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)

RANDOM = "random"


@final
@dataclass(frozen=True)
class Initial:
    """A module before training, and what its weights are: `random`, or `imagenet-` / `file-` and their digest."""

    module: nn.Module
    weights: str


def initialise(network: Network, policy: str, seed: int) -> Initial:
    """Build a network and give it its initial weights under a policy; random parts follow from `seed`.

    Raises:
        UserError: `true` where no ImageNet weights exist or the hub is out of reach; a checkpoint that does not fit.
    """
    import torch

    torch.manual_seed(seed)
    if policy not in ("auto", "true", "false"):
        return _from_file(network, Path(policy))
    exists = network.width == 1 and network.depth == 1 and backbone_of(network.family, network.backbone).pretrained
    if policy == "false" or (policy == "auto" and not exists):
        return Initial(build(network), RANDOM)
    if not exists:
        raise UserError(
            f"pretrained: true, but {network.label} has no ImageNet weights: set width and depth to 1, or pretrained: auto."
        )
    module = _imagenet(network, required=policy == "true")
    if module is None:
        torch.manual_seed(seed)
        return Initial(build(network), RANDOM)
    return Initial(module, f"imagenet-{state_digest(module.state_dict())}")


def state_digest(state: dict[str, Tensor]) -> str:
    """Return 16 hex digits naming the content of a state dict, whatever file it came from."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()[:16]


def _imagenet(network: Network, *, required: bool) -> nn.Module | None:
    """Load ImageNet weights; None when they are out of reach and not required."""
    offline = not _hub_in_reach()
    try:
        with _offline(offline):
            return build(network, imagenet=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # what hub clients raise: URLError and LocalEntryNotFound are OSErrors
        if required:
            raise UserError(
                f"pretrained: true, but the ImageNet weights of {network.backbone} could not be loaded "
                f"({type(error).__name__}): connect to the hub, fill its cache, or set pretrained: auto."
            ) from error
        _say_once(type(error).__name__)
        return None


def _from_file(network: Network, path: Path) -> Initial:
    """Load a checkpoint into all layers whose names and shapes agree; the classifier may differ."""
    import torch

    module = build(network)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(
            f"pretrained: must be auto, true, false or a checkpoint file; {path} does not exist."
        ) from error
    except Exception as error:  # torch raises many types for a file that is no checkpoint
        raise UserError(
            f"{path} is no checkpoint that torch.load(weights_only=True) reads ({type(error).__name__})."
        ) from error
    inner = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    state = inner if isinstance(inner, dict) else {}
    own = module.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and getattr(v, "shape", None) == own[k].shape}
    if len(fitting) < 0.9 * len(own):
        raise UserError(
            f"{path} fits {len(fitting)} of {len(own)} tensors of {network.label}: "
            "give a state dict of this very backbone, or pretrained: false."
        )
    module.load_state_dict(fitting, strict=False)
    return Initial(module, f"file-{state_digest(fitting)}")


@cache
def _hub_in_reach() -> bool:
    """Whether the hub's host answers within 3 s; its own client would retry for 45 s first."""
    from huggingface_hub import constants

    url = urlparse(constants.ENDPOINT)
    try:
        socket.create_connection((url.hostname or "huggingface.co", url.port or 443), timeout=3).close()
    except OSError:
        return False
    return True


class _offline:
    """Let the hub's client use its cache only, inside the block."""

    def __init__(self, active: bool) -> None:
        self._active = active

    def __enter__(self) -> None:
        from huggingface_hub import constants

        self._before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = self._before or self._active

    def __exit__(self, *_: object) -> None:
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = self._before


@cache
def _say_once(cause: str) -> None:
    log.warning("The hub of pretrained weights is out of reach (%s): networks start from random weights.", cause)
