"""The embedded data set: 1,797 handwritten digits of 8x8 pixels, no download.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (1998),
its test part, as scikit-learn ships it (`sklearn.datasets.load_digits`).
"""

from __future__ import annotations

import hashlib

import numpy as np
from sklearn.datasets import load_digits

from coreml_pareto.search.data.picture import Picture


def digits() -> list[Picture]:
    """All digits as RGB pictures; the grey levels 0..16 become 0..255."""
    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    return [
        _picture(row, str(label), pixels) for row, (label, pixels) in enumerate(zip(bunch.target, rgb, strict=True))
    ]


def _picture(row: int, label: str, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Picture:
    return Picture(
        name=f"{label}/{row:04d}",
        label=label,
        split="",
        size=pixels.nbytes,
        digest=hashlib.sha256(pixels.tobytes()).hexdigest(),
        working=lambda: pixels,
        shorter_side=8,
    )
