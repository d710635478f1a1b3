"""A file of measurements as the app exports it."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def measured() -> dict[str, Any]:
    """Two packages on an iPhone 15 Pro."""
    return measurements_of({"a" * 64: (10**6, 0.5), "b" * 64: (10**9, 1.5)})


def measurements_of(packages: dict[str, tuple[int, float]]) -> dict[str, Any]:
    """A file of packages, digest -> (MACs, median in ms)."""
    return {
        "format": "coreml-pareto-measurements",
        "version": 1,
        "unit": "ms",
        "packages": [
            {"digest": digest, "name": f"net {number}", "role": "front", "costs": [cost(macs)]}
            for number, (digest, (macs, _)) in enumerate(packages.items())
        ],
        "records": [record(digest, median) for digest, (_, median) in packages.items()],
    }


def cost(macs: int) -> dict[str, Any]:
    return {
        "name": "conv", "kind": "conv", "group": "dense", "precision": "fp16", "macs": macs, "weight_bytes": 2000,
        "weight_elements": 1000, "read_bytes": 4000, "written_bytes": 4000, "note": "",
    }  # fmt: skip


def record(digest: str, median: float) -> dict[str, Any]:
    return {
        "digest": digest, "device": "iPhone16,1", "os": "17.5.1", "os_build": "21F90", "harness": "test kit",
        "compute_units": "ALL", "median_ms": median, "p10_ms": 0.9 * median, "p90_ms": 1.2 * median,
        "load1_ms": 120.0, "load2_ms": 15.0, "rounds": 20, "predictions_per_round": 50, "warm_up": 7,
        "thermal": "nominal", "low_power": False, "measured_at": "2026-11-25T10:00:00Z",
    }  # fmt: skip
