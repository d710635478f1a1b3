"""Shares as they are shown: nothing that exists is called none, nothing partial all."""

from __future__ import annotations

import pytest

from coreml_pareto.search.report.foreseen import share


@pytest.mark.parametrize(
    ("least", "most", "told"),
    [
        (0.25, 0.25, "25 %"), (0.2, 0.45, "20–45 %"), (0.0, 0.0, "0 %"), (1.0, 1.0, "100 %"),
        (0.0, 0.001, "0–1 %"), (0.001, 0.001, "0–1 %"), (0.999, 1.0, "99–100 %"),
    ],
)  # fmt: skip
def test_share(least: float, most: float, told: str) -> None:
    assert share(least, most) == told
