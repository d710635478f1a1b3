from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from coreml_pareto.search.data import augment as module
from coreml_pareto.search.data.augment import (
    DIGITS,
    LARGE_PHOTOGRAPHS,
    NONE,
    PHOTOGRAPHS,
    Policy,
    augment,
    default_policy,
    to_float,
)
from coreml_pareto.spaces.errors import UserError

POLICIES = {"none": NONE, "digits": DIGITS, "photographs": PHOTOGRAPHS, "large": LARGE_PHOTOGRAPHS}


def batch(n: int = 6, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=seeded(1))


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_contract(policy: Policy) -> None:
    images = batch()
    before = images.clone()
    varied = augment(images, generator := seeded(), policy)
    assert varied.shape == (6, 3, 16, 16)
    assert varied.dtype == torch.float32
    assert varied.is_contiguous()
    assert varied.min() >= 0 and varied.max() <= 1
    assert torch.equal(images, before)
    assert torch.equal(varied, augment(images, seeded(), policy))
    if policy != NONE:
        assert not torch.equal(varied, augment(images, generator, policy))


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_every_policy_takes_the_same_draws(policy: Policy) -> None:
    augment(batch(), generator := seeded(), policy)
    augment(batch(), reference := seeded(), NONE)
    assert torch.equal(generator.get_state(), reference.get_state())


def test_no_variation_is_the_picture_in_0_to_1() -> None:
    images = batch()
    assert torch.equal(augment(images, seeded(), NONE), to_float(images))
    assert torch.allclose(to_float(images), images.permute(0, 3, 1, 2) / 255)


def test_shift_and_mirror_equal_padding_and_cropping() -> None:
    """Independent second path: reflect padding, a crop at the shift, a flip; one of them must be the result."""
    images = batch(20, 16)
    varied = augment(images, seeded(), Policy(shift=0.125, flip=True))
    padded = torch.nn.functional.pad(to_float(images), (2, 2, 2, 2), mode="reflect")
    met = set()
    for row in range(20):
        places = [
            (y, x, flip)
            for y in range(5)
            for x in range(5)
            for flip in (False, True)
            for crop in [padded[row, :, y : y + 16, x : x + 16]]
            if torch.equal(crop.flip(2) if flip else crop, varied[row])
        ]
        assert len(places) == 1
        met.update(places)
    assert {flip for *_, flip in met} == {False, True}
    assert len({place[:2] for place in met}) > 5


def affine(images: Tensor, **values: Any) -> Tensor:
    n = len(images)
    shifts = torch.tensor(values.get("shift", (0.0, 0.0))).view(2, 1).expand(2, n)
    mirrored = torch.full((n,), values.get("mirrored", False))
    angle = torch.full((n,), values.get("angle", 0.0))
    zoom = torch.full((n,), values.get("zoom", 1.0))
    return module._affine(images, shifts, mirrored, angle, zoom, values.get("border", "zeros"))


def test_the_affine_path_has_closed_forms() -> None:
    images = batch()
    plain = to_float(images)
    assert torch.allclose(affine(images), plain, atol=1e-4)
    assert torch.allclose(affine(images, mirrored=True), plain.flip(3), atol=1e-4)
    assert torch.allclose(affine(images, angle=math.pi / 2), torch.rot90(plain, 1, (2, 3)), atol=1e-4)
    moved = affine(images, shift=(2 / 16, 3 / 16))
    assert torch.allclose(moved[:, :, :-2, :-3], plain[:, :, 2:, 3:], atol=1e-4)
    assert moved[:, :, -2:].abs().max() < 1e-4  # black outside


def test_zoom_magnifies_the_centre() -> None:
    images = batch()
    centre = to_float(images)[:, :, 4:12, 4:12]
    expected = torch.nn.functional.interpolate(centre, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(affine(images, zoom=2.0)[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], atol=1e-4)


def test_both_paths_agree() -> None:
    images = batch()
    shifts = torch.tensor([[2 / 16], [-3 / 16]]).expand(2, 6)
    mirrored = torch.tensor([True, False] * 3)
    whole = module._whole_pixels(images, shifts, mirrored)
    smooth = module._affine(images, shifts, mirrored, torch.zeros(6), torch.ones(6), "reflection")
    assert torch.allclose(whole[1::2, :, 3:-3, 3:-3], smooth[1::2, :, 3:-3, 3:-3], atol=1e-4)


def test_colour_equals_torchvision() -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    images = torch.rand(5, 3, 16, 16, generator=seeded()) * 0.3 + 0.35  # far from both ends: clipping plays no part
    factors = 1 + 0.3 * (2 * torch.rand(3, 5, generator=seeded()) - 1)
    expected = []
    for image, (saturation, contrast, brightness) in zip(images, factors.T.tolist(), strict=True):
        image = functional.adjust_contrast(functional.adjust_saturation(image, saturation), contrast)
        expected.append(functional.adjust_brightness(image, brightness))
    assert torch.allclose(module._colour(images.clone(), factors), torch.stack(expected), atol=1e-3)


def test_default_policies() -> None:
    assert not default_policy(flip_safe=False, resolution=32).flip
    assert default_policy(flip_safe=True, resolution=32) is PHOTOGRAPHS
    assert default_policy(flip_safe=True, resolution=224) is LARGE_PHOTOGRAPHS


@pytest.mark.parametrize("values", [{"shift": 0.5}, {"colour": 1.0}, {"zoom": (2.0, 1.0)}, {"zoom": (0.0, 1.0)}])
def test_policies_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="choose values in range"):
        Policy(**values)
