"""Which weights a network starts from: ImageNet's, a checkpoint's, or random ones; and their name for the store.

Policies: `auto` takes ImageNet weights where they exist and the hub (or its cache) has them, and says once when the
hub is out of reach; `true` insists; `false` starts from random weights; anything else is the path of a checkpoint.
ImageNet weights exist at width and depth 1 only, and not for every network of timm.
"""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, final
from urllib.parse import urlparse

from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import build, has_imagenet

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)

RANDOM = "random"
POLICIES = ("auto", "true", "false")
PATIENCE = 10.0
"""Seconds that a server of weights may be silent."""


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
    if policy not in POLICIES:
        return _from_file(network, Path(policy))
    if policy == "true":
        _check_imagenet(network)
    if policy == "false" or not has_imagenet(network):
        return Initial(build(network), RANDOM)
    module = _imagenet(network, required=policy == "true")
    if module is None:
        torch.manual_seed(seed)
        return Initial(build(network), RANDOM)
    return Initial(module, f"imagenet-{state_digest(module.state_dict())}")


def check_policy(networks: Iterable[Network], policy: str) -> None:
    """Refuse, before anything is trained, a policy that some network of a space cannot follow.

    Under `true` the ImageNet weights of each backbone are loaded once, so that a hub that is out of reach stops the
    search here; the trainings then find them in the hub's cache.

    Raises:
        UserError: `true` where no ImageNet weights exist or the hub is out of reach; a checkpoint that does not fit
            every network.
    """
    if policy in ("auto", "false"):
        return
    shapes = {(network.backbone, network.width, network.depth): network for network in networks}.values()
    if policy != "true":
        for network in shapes:
            _from_file(network, Path(policy))
        return
    for network in shapes:
        _check_imagenet(network)
    for network in shapes:
        _imagenet(network, required=True)


def state_digest(state: dict[str, Tensor]) -> str:
    """Return 16 hex digits naming the content of a state dict, whatever file it came from."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()[:16]


def _check_imagenet(network: Network) -> None:
    if not has_imagenet(network):
        plain = network.width == 1 and network.depth == 1
        way = "name another backbone" if plain else "set width and depth to 1"
        raise UserError(f"pretrained: true, but {network.label} has no ImageNet weights: {way}, or pretrained: auto.")


def _imagenet(network: Network, *, required: bool) -> nn.Module | None:
    """Load ImageNet weights; None when they are out of reach and not required."""
    try:
        with _offline(not _hub_in_reach()), _impatient():
            return build(network, imagenet=True)
    except _out_of_reach() as error:
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


def _out_of_reach() -> tuple[type[Exception], ...]:
    """What clients raise on a hub that does not answer, or stops to; URLError, time-outs and cache misses are OSErrors."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # its HTTP library changes by version

    return OSError, HTTPError, HTTPException


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


@contextmanager
def _offline(active: bool) -> Iterator[None]:
    """Let the hub's client use its cache only, inside the block."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or active
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _impatient() -> Iterator[None]:
    """Give up on a silent server, inside the block; torchvision's downloads would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@cache
def _say_once(cause: str) -> None:
    log.warning("The hub of pretrained weights is out of reach (%s): networks start from random weights.", cause)
