"""Power laws: exact where read, by the slopes of the beginning where little was, recovered where enough was."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coreml_pareto.search.scaling import SLOPES, Scaling
from coreml_pareto.spaces.candidate import Network

READINGS = ("size_bytes", "latency_ms")


def network(width: float = 0.5, side: int = 32, backbone: str = "mobilenetv2") -> Network:
    return Network(family="mobilenet", backbone=backbone, width=width, resolution=side, stem_stride=1, classes=10)


def law(one: Network, slopes: dict[str, tuple[float, float, float]], scale: float = 1.0) -> np.ndarray:
    """Two compressions, the second at half of the first."""
    row = [
        scale
        * one.width ** slopes[n][0]
        * one.depth ** slopes[n][1]
        * (one.resolution / one.stem_stride) ** slopes[n][2]
        for n in READINGS
    ]
    return np.array([row, [value / 2 for value in row]])


def test_what_was_read_is_exact() -> None:
    known = {network(w): law(network(w), dict(SLOPES)) * (1 + w) for w in (0.35, 0.5, 1.0)}
    scaling = Scaling(READINGS, known)
    for one, table in known.items():
        np.testing.assert_allclose(scaling.of(one), np.log(table))


def test_from_one_network_the_others_follow_by_the_slopes_of_the_beginning() -> None:
    scaling = Scaling(READINGS, {network(0.5, 32): np.array([[1e6, 0.2], [5e5, 0.1]])})
    wider = scaling.of(network(1.0, 64))
    assert wider is not None
    assert math.exp(wider[0, 0]) == pytest.approx(1e6 * 2**1.7)
    assert math.exp(wider[1, 1]) == pytest.approx(0.1 * 2**0.3 * 2**0.3)


def test_other_slopes_are_learned_and_shared_by_backbones() -> None:
    steep = {"size_bytes": (2.5, 0.9, 0.0), "latency_ms": (1.0, 0.6, 1.5)}
    read = [network(w, s, b) for w in (0.1, 0.5, 4.0) for s in (32, 320) for b in ("mobilenetv2", "mobilenetv3_small")]
    known = {one: law(one, steep, 3.0 if one.backbone == "mobilenetv2" else 7.0) for one in read}
    known[network(0.5, 64, "mobilenetv3_large")] = law(network(0.5, 64, "mobilenetv3_large"), steep, 5.0)
    guessed = Scaling(READINGS, known).of(network(1.0, 128, "mobilenetv3_large"))
    assert guessed is not None
    np.testing.assert_allclose(guessed, np.log(law(network(1.0, 128), steep, 5.0)), atol=0.1)


def test_a_backbone_never_read_follows_by_its_counts() -> None:
    """MobileNetV2 at width 1 has 3,504,872 parameters with 1000 classes, MobileNetV3-small 2,542,856 (torchvision)."""

    def full(backbone: str) -> Network:
        return network(1.0, 224, backbone).model_copy(update={"classes": 1000, "stem_stride": 2})

    read, other = full("mobilenetv2"), full("mobilenetv3_small")
    guessed = Scaling(READINGS, {read: np.array([[7e6, 0.5]])}).of(other)
    assert guessed is not None
    assert math.exp(guessed[0, 0]) == pytest.approx(7e6 * 2_542_856 / 3_504_872)
    assert math.exp(guessed[0, 1]) < 0.5
    assert Scaling(READINGS, {}).of(other) is None
