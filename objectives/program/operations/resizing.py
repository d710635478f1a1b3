"""Resizing of the last two dimensions by sampling a grid (MIL ops reference, `image_resizing`).

The grid of each sampling mode is written out in the documentation of `resize_bilinear`; interpolation between grid
points is linear and separable, so it is one small matrix per dimension.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from coreml_pareto.objectives.program.operations.row import Call, OperationRow, Step


def grid(mode: str, size: int, target: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Where `target` samples are taken in `size` pixels."""
    i = np.arange(target, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        points = i * (size - 1) / max(target - 1, 1)
        points = np.array([(size - 1) / 2]) if target == 1 and mode == "ALIGN_CORNERS" else points
    elif mode == "DEFAULT":
        points = i * (size - size / target) / max(target - 1, 1)
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / target
        points = 0.5 * delta + i * delta
    else:
        points = (i + 0.5) * size / target - 0.5  # UNALIGN_CORNERS
    return np.clip(points, 0, size - 1)


def linear_weights(mode: str, size: int, target: int) -> torch.Tensor:
    """Matrix [target, size]: each row mixes the two pixels next to its grid point."""
    points = grid(mode, size, target)
    below = np.floor(points).astype(int)
    above = np.minimum(below + 1, size - 1)
    matrix = np.zeros((target, size))
    np.add.at(matrix, (np.arange(target), below), 1 - (points - below))
    np.add.at(matrix, (np.arange(target), above), points - below)
    return torch.from_numpy(matrix).float()


def _bilinear(call: Call, mode: str) -> Step:
    (height, width), (rows, columns) = call.type_of("x").shape[-2:], call.output.shape[-2:]
    vertical, horizontal = linear_weights(mode, height, rows), linear_weights(mode, width, columns).T
    return lambda x: vertical @ x @ horizontal


def _resize_bilinear(call: Call) -> Step:
    return _bilinear(call, call.parameter("sampling_mode", "DEFAULT"))


def _upsample_bilinear(call: Call) -> Step:
    if call.parameter("align_corners", True):
        return _bilinear(call, "STRICT_ALIGN_CORNERS")
    return _bilinear(call, "UNALIGN_CORNERS" if call.parameter("half_pixel_centers", True) else "DEFAULT")


def _nearest(call: Call) -> Step:
    if call.parameter("sampling_mode", "DEFAULT") != "DEFAULT":
        raise call.refuse(f"sampling_mode '{call.parameter('sampling_mode')}'")
    (height, width), (rows, columns) = call.type_of("x").shape[-2:], call.output.shape[-2:]
    vertical, horizontal = torch.arange(rows) * height // rows, torch.arange(columns) * width // columns
    return lambda x: x.index_select(-2, vertical).index_select(-1, horizontal)


ROWS: Mapping[str, OperationRow] = {
    "resize_bilinear": OperationRow(_resize_bilinear),
    "upsample_bilinear": OperationRow(_upsample_bilinear),
    "resize_nearest_neighbor": OperationRow(_nearest),
    "upsample_nearest_neighbor": OperationRow(_nearest),
}
