"""What does a network cost that was not read yet?  Its readings follow from those of its backbone by power laws.

Each reading is, in logs, its backbone's mean plus slopes times width, depth and side behind the stem; the slopes are
common to all backbones and compressions of a reading. They begin as in the table (bytes grow with the square of the width
less what does not scale, activations with the square of the side) and give way to what was read: ridge regression. A
backbone of which nothing was read follows from the others by its parameters and multiply-accumulates, which are counted.
A guess to choose by, never shown: what is shown is read from a package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.counts import count

SLOPES: Final[Mapping[str, tuple[float, float, float]]] = {
    "size_bytes": (1.7, 0.9, 0.0), "memory_bytes": (1.3, 0.6, 0.8), "latency_ms": (0.3, 0.6, 0.3),
    "energy_mj": (0.3, 0.6, 0.3), "macs": (1.8, 0.9, 2.0),
}  # fmt: skip
"""By reading, the exponents of width, depth and side with which a study begins."""
COUNTED: Final[Mapping[str, tuple[float, float]]] = {
    "size_bytes": (1.0, 0.0), "memory_bytes": (0.7, 0.2), "latency_ms": (0.1, 0.15), "energy_mj": (0.1, 0.15),
    "macs": (0.0, 1.0),
}  # fmt: skip
"""By reading, the exponents of parameters and multiply-accumulates between backbones. Over the networks of
`benchmarks/trainings_table.py` (small, Neural Engine) such laws hold within 5 % for latency and 2 % for memory."""
WEIGHT: Final = 0.5
"""How hard the slopes of the beginning hold, in squared octaves of spread."""

Table = NDArray[np.float64]


@final
class Scaling:
    """Readings of networks in logs, exact where read, guessed where a network of the backbone was.

    Args:
        readings: the names, in the order of the columns.
        known: by network, its rows: one for each compression, a column for each reading, all positive.
    """

    def __init__(self, readings: Sequence[str], known: Mapping[Network, Table]) -> None:
        self.readings, self._known = tuple(readings), {network: np.log(table) for network, table in known.items()}
        self._means: dict[str, tuple[NDArray[np.float64], Table]] = {}
        for backbone in dict.fromkeys(network.backbone for network in known):  # sums depend on the order
            own = [network for network in known if network.backbone == backbone]
            places = np.array([_place(network) for network in own])
            self._means[backbone] = places.mean(axis=0), np.mean([self._known[network] for network in own], axis=0)
        self._slopes = self._fitted()

    def of(self, network: Network) -> Table | None:
        """Return a network's rows in logs; None where nothing was read."""
        if network in self._known:
            return self._known[network]
        if network.backbone not in self._means:
            return self._of_another_backbone(network) if self._known else None
        place, rows = self._means[network.backbone]
        guessed: Table = rows + (np.array(_place(network)) - place) @ self._slopes
        return guessed

    def _of_another_backbone(self, network: Network) -> Table:
        """Return the mean of what each backbone that was read says of this one.

        They are compared whole, at width and depth 1: counting takes a part of a second, and is done once for a backbone
        and side.
        """
        exponents = np.array([COUNTED[name] for name in self.readings]).T
        size, place = _whole(network)
        said = []
        for backbone, (mean, rows) in self._means.items():
            known, at = _whole(next(one for one in self._known if one.backbone == backbone))
            said.append(rows + (at - mean) @ self._slopes + (size - known) @ exponents)
        guessed: Table = np.mean(said, axis=0) + (np.array(_place(network)) - place) @ self._slopes
        return guessed

    def _fitted(self) -> Table:
        """Slopes, three rows by readings, from each network's distance to its backbone's mean."""
        prior = np.array([SLOPES[name] for name in self.readings]).T.reshape(3, len(self.readings))
        places, rows = [], []
        for network, table in self._known.items():
            place, mean = self._means[network.backbone]
            places.append(np.array(_place(network)) - place)
            rows.append((table - mean).mean(axis=0))  # compressions scale alike
        x, y = np.array(places).reshape(-1, 3), np.array(rows).reshape(-1, len(self.readings))
        fitted: Table = prior + np.linalg.solve(x.T @ x + WEIGHT * np.eye(3), x.T @ (y - x @ prior))
        return fitted


def _place(network: Network) -> tuple[float, float, float]:
    return math.log(network.width), math.log(network.depth), math.log(network.resolution / network.stem_stride)


def _whole(network: Network) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return size, the logs of parameters and multiply-accumulates, and place of a network at width and depth 1."""
    whole = network.model_copy(update={"width": 1.0, "depth": 1.0})
    counts = count(whole)
    return np.log([counts.parameters, counts.macs]), np.array(_place(whole))
