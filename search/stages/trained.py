"""What is a finished training?  A folder with weights and a record, of this run's store or of another's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from coreml_pareto.search.data.folder import few
from coreml_pareto.spaces.candidate import Network, Recipe
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import build
from coreml_pareto.spaces.weights import state_digest


@final
@dataclass(frozen=True)
class Trained:
    """A finished training in the store: its key, its network and recipe, and the folder with weights and record."""

    key: str
    network: Network
    recipe: Recipe
    folder: Path

    @classmethod
    def of(cls, folder: Path) -> Trained:
        """Return the training of a store's folder, which is named by its key."""
        record = json.loads((folder / "record.json").read_text())
        network, recipe = Network.model_validate(record["network"]), Recipe.model_validate(record["recipe"])
        return cls(folder.name, network, recipe, folder)

    @property
    def record(self) -> dict[str, Any]:
        """What happened: initial weights, classes and digest of the data, history, seconds, device."""
        loaded: dict[str, Any] = json.loads((self.folder / "record.json").read_text())
        return loaded

    def module(self) -> nn.Module:
        """Build the network and load its weights, in evaluation mode."""
        module = build(self.network)
        module.load_state_dict(torch.load(self.folder / "weights.pt", map_location="cpu", weights_only=True))
        return module.eval()


def open_checkpoint(folder: Path, classes: tuple[str, ...]) -> Trained:
    """Open a training of this or another run as a teacher: the folder that holds its `weights.pt` and `record.json`.

    Classes are compared by name and order; a record without names, of an older version, by their number.

    Raises:
        UserError: no such training, files that are broken or do not belong together, or other classes.
    """
    folder = folder.expanduser()
    try:
        record = json.loads((folder / "record.json").read_text())
        network, recipe = Network.model_validate(record["network"]), Recipe.model_validate(record["recipe"])
        known = tuple(map(str, record.get("classes", ())))
        state = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
        trained = Trained(state_digest(state), network, recipe, folder)
        trained.module()  # refuses weights of another network
    except Exception as error:  # what torch raises on a broken file has no common class
        raise UserError(
            f"A teacher's checkpoint is a folder with weights.pt and record.json, such as RUN/store/train/KEY; "
            f"{folder} is none ({type(error).__name__})."
        ) from error
    if network.classes != len(classes) or (known and known != classes):
        raise UserError(
            f"A teacher knows the classes of the data, in the same order: {_difference(known, network, classes)}; "
            f"{folder} is no such training; name one on these classes."
        )
    return trained


def _difference(known: tuple[str, ...], network: Network, classes: tuple[str, ...]) -> str:
    if not known:
        return f"the teacher knows {network.classes}, the data has {len(classes)}"
    lacking, strange = (sorted(set(a) - set(b)) for a, b in ((classes, known), (known, classes)))
    sides = (("the data", lacking), ("the teacher", strange))
    told = [f"only in {side}: {few(names)}" for side, names in sides if names]
    return "; ".join(told) or f"the teacher has them as {few(known)}"
