"""Image folders drawn by the tests themselves."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


def draw(path: Path, width: int = 12, height: int = 10) -> Path:
    """An image of its own: colours are drawn from the path's name."""
    rng = np.random.default_rng(zlib.crc32(path.as_posix().encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(name="draw")
def draw_fixture() -> Draw:
    return draw


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[dict[str, int]], Path]:
    """folder({"train/cat": 5, "dog": 3}) draws that many PNGs into each folder and returns the root."""

    def make(counts: dict[str, int]) -> Path:
        root = tmp_path / "photos"
        root.mkdir(exist_ok=True)
        for place, count in counts.items():
            (root / place).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                draw(root / place / f"{number:04d}.png")
        return root

    return make
