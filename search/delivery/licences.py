"""Under which terms may what is handed over be used?  As far as it is on record; what is not is said to be unknown.

Weights that begin with published ones are derived from them. So the chain of trainings is followed back through the
store: to random weights, to ImageNet weights of timm or torchvision (whose licence timm's own configuration names), or to
a file or another run, of which nothing is known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from coreml_pareto.search.record import STORE
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.families import backbone_of

UNKNOWN: Final = "unknown"
OURS: Final = "Apache License 2.0"
NO_ONE: Final = "none needed, no third party's weights"


@final
@dataclass(frozen=True)
class Origin:
    """A training that the weights go back to: what it began with, and the terms of that."""

    network: str
    weights: str
    licence: str
    source: str


def origins(folder: Path, key: str | None) -> tuple[Origin, ...]:
    """Where the weights of a training come from: its own chain.

    Args:
        folder: of the run.
        key: of the training in its store.
    """
    return tuple(_origins(Store(folder / STORE), key))


def _origins(store: Store, key: str | None) -> Iterator[Origin]:
    seen: set[str] = set()
    while key is not None and key not in seen:
        seen.add(key)
        place = store.own.find("train", key)
        if place is None:
            yield Origin(UNKNOWN, f"training {key}, which is not in the store any more", UNKNOWN, UNKNOWN)
            return
        trained = Trained.of(place)
        record = trained.record
        key = record.get("parent")
        if key is None:
            yield _origin(trained.network, str(record["initial_weights"]))


def _origin(network: Network, weights: str) -> Origin:
    if weights == "random":
        return Origin(network.label, "random weights", NO_ONE, "trained here from nothing")
    if not weights.startswith("imagenet-"):
        return Origin(network.label, weights, UNKNOWN, "a file or a run that was given")
    licence, source = imagenet_terms(network)
    return Origin(network.label, f"ImageNet weights ({weights.removeprefix('imagenet-')})", licence, source)


def imagenet_terms(network: Network) -> tuple[str, str]:
    """Licence and address of the ImageNet weights of a network, as timm states them; `unknown` where it does not."""
    import timm

    name = backbone_of(network.family, network.backbone).pretrained or network.backbone
    config = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if config is None:
        return UNKNOWN, f"torchvision, {name}"
    where = f"huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else str(config.url or UNKNOWN)
    return str(config.license or UNKNOWN), f"timm, {config.architecture}.{config.tag} ({where})"
