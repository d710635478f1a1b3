"""Which networks tell a device's floor, weights and activations apart?  Six small packages with random weights.

In published networks weights, MACs and activations go together; a stopwatch on networks of a search alone could not
tell them apart either. So one network is tiny (the floor), one is all weights, one is all activations, one is seen at
two resolutions (same weights), and at the smaller of them as W8A8, too. What a network has learnt does not matter to
its time, so nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from coreml_pareto.search.stages.convert import Wrapping, convert, save
from coreml_pareto.search.stages.package import PROBE_CALIBRATION, randomised
from coreml_pareto.search.stages.train import preprocessing_of
from coreml_pareto.search.stages.w8a8 import convert_w8a8
from coreml_pareto.search.store import Store, stage_key
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.compression import minimum_os, parse

CLASSES: Final = tuple(f"class {number}" for number in range(10))


def _network(family: str, backbone: str, width: float, resolution: int) -> Network:
    return Network(
        family=family, backbone=backbone, width=width, resolution=resolution, stem_stride=2, classes=len(CLASSES)
    )


SET: Final[Mapping[str, tuple[Network, str]]] = {
    "tiny": (_network("squeezenet", "squeezenet1_1", 0.25, 32), "fp16"),
    "weights": (_network("efficientnet", "efficientnet_b0", 1.0, 32), "fp16"),
    "activations": (_network("squeezenet", "squeezenet1_1", 1.0, 256), "fp16"),
    "small-input": (_network("mobilenet", "mobilenetv2", 1.0, 96), "fp16"),
    "large-input": (_network("mobilenet", "mobilenetv2", 1.0, 192), "fp16"),
    "w8a8": (_network("mobilenet", "mobilenetv2", 1.0, 96), "w8a8"),
}
"""Name -> network and compression."""


def calibration_package(name: str, store: Store) -> Path:
    """The saved package of one of the set, from the store or made now."""
    network, scheme = SET[name]

    def make(work: Path) -> None:
        save(_converted(name, network, scheme), work / "model.mlpackage")

    key = stage_key(calibration=name, network=network.digest, scheme=scheme)
    return store.produce("calibration", key, make, f"{network.label}, {scheme}") / "model.mlpackage"


def _converted(name: str, network: Network, scheme: str) -> Any:
    wrapping = Wrapping(
        network=network,
        classes=CLASSES,
        preprocessing=preprocessing_of(network),
        metadata={},
        description=f"Calibrates latency estimates ({name}); its weights are random",
    )
    oldest = minimum_os(parse(scheme))
    if scheme != "w8a8":
        return convert(randomised(network), wrapping, minimum_os=oldest, precision="fp16")
    side = network.resolution
    images = np.random.default_rng(0).integers(0, 256, (PROBE_CALIBRATION, side, side, 3), np.uint8)
    model, _ = convert_w8a8(randomised(network), images, wrapping, minimum_os=oldest, probe=True)
    return model
