"""The sampling grids of `resize_bilinear` against the tables in its documentation."""

from __future__ import annotations

import numpy as np
import pytest

from coreml_pareto.objectives.program.operations.resizing import grid, linear_weights


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("UNALIGN_CORNERS", [0, 0.1, 0.5, 0.9, 1]),
        ("STRICT_ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
        ("ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
        ("DEFAULT", [0, 0.4, 0.8, 1, 1]),
        ("OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
    ],
)
def test_sampling_grids(mode: str, expected: list[float]) -> None:
    np.testing.assert_allclose(grid(mode, 2, 5), expected, atol=1e-12)


def test_align_corners_of_a_single_sample_takes_the_middle() -> None:
    assert grid("ALIGN_CORNERS", 7, 1) == 3
    assert grid("STRICT_ALIGN_CORNERS", 7, 1) == 0


@pytest.mark.parametrize("mode", ["DEFAULT", "UNALIGN_CORNERS", "STRICT_ALIGN_CORNERS", "OFFSET_CORNERS"])
def test_weights_sum_to_one(mode: str) -> None:
    np.testing.assert_allclose(linear_weights(mode, 7, 11).sum(1), 1, rtol=1e-6)
