"""Projections hold what the package will hold, let gradients through, and follow the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from coreml_pareto.search.stages.compress import decided, forms_of
from coreml_pareto.search.stages.projections import Palettes, projection, sparsity_at
from coreml_pareto.spaces.candidate import Compression
from coreml_pareto.spaces.compression import every_compression, parse, spell

SHAPES = {"conv": (24, 20, 3, 3), "depthwise": (320, 1, 3, 3), "pointwise": (48, 33, 1, 1), "linear": (10, 300)}
EVERY = tuple(row for row in every_compression() if row.scheme not in ("fp32", "fp16", "mixed", "w8a8"))


def _weight(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """fp16 values whose channels differ by orders of magnitude, as folded ones do; one channel is dead."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * torch.logspace(-3, 0, shape[0]).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    weight[1] = 0
    return weight.half().float()


def _stored(weight: Tensor, asked: Compression) -> tuple[Compression | None, Tensor]:
    """What `compress` does to a weight and what it stores of it."""
    weights = {"w": weight.half().numpy()}
    (layer,) = layers = decided(weights, asked)
    if layer.applied is None:
        return None, weight
    return parse(layer.applied), torch.from_numpy(forms_of(weights, layers)["w"].decoded()).float()


@pytest.mark.parametrize("asked", EVERY, ids=spell)
def test_a_projection_is_what_the_package_holds(asked: Compression) -> None:
    seen = 0
    for shape in SHAPES.values():
        weight = _weight(shape)
        applied, expected = _stored(weight, asked)
        if applied is None:
            continue
        seen += 1
        form = projection(weight, applied)
        form.follow(weight, 1.0)
        got = form(weight)
        assert torch.equal(got, got.half().float())
        assert torch.equal(got == 0, expected == 0)
        if asked.scheme in ("int8", "int4", "pruning"):
            assert torch.equal(got, expected)
        else:  # a step of Lloyd's iteration may round a table's entry to the next number
            assert (got - expected).norm() < 1e-3 * expected.norm()
    assert seen


@pytest.mark.parametrize("text", ["int8/tensor", "int8/channel/asymmetric", "int4/channel"])
def test_weights_beyond_what_fp16_multiplies(text: str) -> None:
    weight = _weight(SHAPES["conv"]) * 3000
    applied, expected = _stored(weight, parse(text))
    assert applied is not None
    assert torch.equal(projection(weight, applied)(weight), expected)


def test_a_form_of_whole_networks_is_refused() -> None:
    with pytest.raises(ValueError, match="w8a8 is no form of a single weight"):
        projection(torch.ones(4, 4), parse("w8a8"))


def test_sparsity_rises_by_zhu_and_gupta() -> None:
    """Equation 1 with an initial sparsity of 0, n·Δt half of the training."""
    assert [sparsity_at(done, 0.8) for done in (0, 0.5, 0.75, 1)] == [0, 0.8, 0.8, 0.8]
    assert sparsity_at(0.25, 0.8) == pytest.approx(0.8 + (0 - 0.8) * (1 - 0.25 / 0.5) ** 3)


def test_a_mask_follows_the_ramp_and_the_magnitudes() -> None:
    weight = _weight(SHAPES["linear"])[2:]
    form = projection(weight, parse("pruning-50"))
    for done in (0.1, 0.3, 0.6):
        form.follow(weight, done)
        share = float((form(weight) == 0).float().mean())
        assert share == pytest.approx(sparsity_at(done, 0.5), abs=1e-3)
    removed = form(weight) == 0
    form.follow(torch.where(removed, weight + 9, weight), 0.7)
    assert not (form(torch.ones_like(weight))[removed] == 0).any()


def test_n_of_m_rises_weight_by_weight() -> None:
    weight = torch.rand(8, 8) + 0.1
    form = projection(weight, parse("pruning-2:4"))
    shares = []
    for done in (0.0, 0.15, 0.5):
        form.follow(weight, done)
        shares.append(float((form(weight) == 0).float().mean()))
    assert shares == [0, 0.25, 0.5]


def test_tables_move_to_the_means_of_their_weights() -> None:
    weight = torch.tensor([[-1.0, -0.5, 2.0, 4.0]])
    form = projection(weight, parse("palette-1/tensor"))
    assert isinstance(form, Palettes)
    torch.testing.assert_close(form.tables, torch.tensor([[-0.75, 3.0]]))
    moved = torch.tensor([[-2.0, -1.0, 2.0, 6.0]])
    form.follow(moved, 0.5)
    torch.testing.assert_close(form.tables, torch.tensor([[-1.5, 4.0]]))
    form.follow(torch.full((1, 4), 3.5), 0.6)  # the lower entry stands for none
    torch.testing.assert_close(form.tables, torch.tensor([[-1.5, 3.5]]))


def test_fewer_weights_than_entries_are_stored_exactly() -> None:
    weight = torch.tensor(np.linspace(-1, 1, 12, dtype=np.float16)).float().reshape(3, 4)
    form = projection(weight, parse("palette-4/tensor"))
    form.follow(weight, 0.2)
    assert torch.equal(form(weight), weight)
