"""Permutations of more than five axes, as coremltools spells them, are priced as one."""

from __future__ import annotations

from typing import Any

import torch
from coremltools.converters.mil import Builder as mb

from coreml_pareto.objectives.program import costs, load
from coreml_pareto.objectives.program.permutations import chains

WINDOW = 8


class Windows(torch.nn.Module):
    """A convolution, then windows of 8 x 8 as Swin and iFormer cut them, in six axes; 10 classes of 48 x 48 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.inside = torch.nn.Conv2d(3, 16, 1), torch.nn.Conv2d(16, 10, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        cut = self.conv(image).reshape(1, 16, 6, WINDOW, 6, WINDOW).permute(0, 2, 4, 1, 3, 5)
        return torch.softmax(self.inside(cut.reshape(-1, 16, WINDOW, WINDOW)).mean((0, 2, 3))[None], -1)


def test_a_permutation_of_six_axes_counts_as_one(convert: Any) -> None:
    program = load(convert("windows", Windows()))
    (chain,) = chains(program)
    kinds = [operation.kind for operation in chain]
    assert kinds[0] == kinds[-1] == "reshape" and kinds.count("transpose") >= 3
    rows = {row.name: row for row in costs(program)}
    found = [rows[operation.name].aligned_bytes for operation in chain]
    assert found[0] == 16 * 48 * 128 and found[-1] == 36 * 16 * WINDOW * 64  # rows of 96 and of 16 bytes, filled up
    assert sum(found) == found[0] + found[-1]


def test_two_transpositions_of_the_networks_own_count_as_two(build: Any) -> None:
    def twice(x: Any) -> Any:
        cut = mb.transpose(x=mb.reshape(x=mb.relu(x=x), shape=(1, 4, 32, 32)), perm=[0, 2, 1, 3])
        return mb.transpose(x=mb.reshape(x=cut, shape=(1, 8, 16, 32)), perm=[0, 2, 1, 3])

    program = build(twice, (1, 4, 16, 64))
    assert not list(chains(program))
    found = [row.aligned_bytes for row in costs(program) if row.kind == "transpose"]
    assert found == [2 * 4 * 4 * 16 * 64] * 2  # read and written; rows of 128 bytes need no filling


def test_a_value_that_others_read_ends_a_chain(build: Any) -> None:
    def thrice(x: Any) -> Any:
        first = mb.transpose(x=mb.relu(x=x), perm=[0, 2, 1, 3])
        second = mb.transpose(x=mb.reshape(x=first, shape=(1, 8, 32, 16)), perm=[0, 2, 1, 3])
        third = mb.transpose(x=mb.reshape(x=second, shape=(1, 16, 16, 16)), perm=[0, 2, 1, 3])
        return mb.add(x=third, y=mb.reshape(x=second, shape=(1, 16, 16, 16)))

    assert not list(chains(build(thrice, (1, 4, 16, 64))))
