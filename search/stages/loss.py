"""What a student minimises: hard labels + soft labels at a temperature + feature maps.

Soft labels: Hinton et al. 2015 (arXiv:1503.02531), section 2: KL between the softened distributions, times T² so that
its gradient keeps its size as T changes. Feature maps: FitNets (Romero et al. 2015, arXiv:1412.6550), equation 3,
with 1×1 convolutions as regressors; both maps are normalised over channels first (Zagoruyko & Komodakis 2017,
arXiv:1612.03928), so that the weight means the same for every pair of networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from coreml_pareto.spaces.candidate import Recipe


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T²·KL(teacher ‖ student) of logits [batch, classes], averaged over the batch."""
    log_student = functional.log_softmax(student / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=1)
    return functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def feature_loss(student: Tensor, teacher: Tensor, adapter: nn.Module) -> Tensor:
    """Return the mean squared error between unit-length channel vectors of two maps [batch, channels, h, w].

    The adapter brings the student's channels to the teacher's; the teacher's map is averaged to the student's size.
    Maps of half precision, which autocast makes, are compared in single precision, as the adapter is.
    """
    student, teacher = student.float(), teacher.float()
    target = functional.adaptive_avg_pool2d(teacher, (student.shape[2], student.shape[3]))
    difference = functional.normalize(adapter(student), dim=1) - functional.normalize(target, dim=1)
    return difference.square().sum(dim=1).mean()


def hard_loss(student: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Return the cross entropy with the labels."""
    return functional.cross_entropy(student, targets, label_smoothing=recipe.label_smoothing)


def as_map(output: object, module: nn.Module, channels: int) -> Tensor | None:
    """Return what a layer of a timm network gives as [batch, channels, h, w]; None where it is no such map.

    Only what the network states is believed: `output_fmt` for channels that come last, `num_prefix_tokens` for tokens
    in the order of a square grid. Networks that state neither may order their tokens otherwise (Hiera does).
    """
    if not isinstance(output, Tensor):
        return None
    if output.dim() == 3:
        return _from_tokens(output, module, channels)
    if output.dim() == 4 and getattr(module, "output_fmt", None) == "NHWC":
        output = output.permute(0, 3, 1, 2)
    return output if output.dim() == 4 and output.shape[1] == channels else None


def _from_tokens(tokens: Tensor, module: nn.Module, channels: int) -> Tensor | None:
    """Tokens [batch, count, channels] as a map; class and register tokens come first, in some networks only later."""
    prefix = getattr(module, "num_prefix_tokens", None)
    if prefix is None or tokens.shape[2] != channels:
        return None
    for first in (prefix, 0):
        side = math.isqrt(max(0, tokens.shape[1] - first))
        if side and side**2 == tokens.shape[1] - first:
            return tokens[:, first:].transpose(1, 2).reshape(len(tokens), channels, side, side)
    return None


class Taps:
    """Keeps the feature maps of a network's forward passes, by stride, through timm's `feature_info`.

    `channels` maps stride to channels of the last feature map of that stride. Which layers give maps is seen on a
    black image of `side` pixels; those that give none are left out.
    """

    def __init__(self, module: nn.Module, side: int) -> None:
        info: list[dict[str, Any]] = list(getattr(module, "feature_info", None) or [])
        rows = {int(row["reduction"]): row for row in info}
        named = dict(module.named_modules())
        stated = {stride: int(row["num_chs"]) for stride, row in rows.items() if row["module"] in named}
        self.maps: dict[int, Tensor] = {}
        for stride, channels in stated.items():
            named[rows[stride]["module"]].register_forward_hook(self._keep(stride, module, channels))
        _look_at_black(module, side)
        self.channels: dict[int, int] = {stride: stated[stride] for stride in self.maps}

    def _keep(self, stride: int, network: nn.Module, channels: int) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: object) -> None:
            found = as_map(output, network, channels)
            if found is not None:
                self.maps[stride] = found

        return hook


@torch.no_grad()
def _look_at_black(module: nn.Module, side: int) -> None:
    """Run a network once, its statistics untouched."""
    training, device = module.training, next(module.parameters()).device
    module.eval()(torch.zeros(1, 3, side, side, device=device))
    module.train(training)


class FeatureMatcher(nn.Module):
    """The feature term between two networks: one 1×1 adapter for each stride that both have, the two deepest ones.

    `sides` are the resolutions of student and teacher in pixels.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, sides: tuple[int, int]) -> None:
        super().__init__()
        self._student, self._teacher = Taps(student, sides[0]), Taps(teacher, sides[1])
        shared = sorted(set(self._student.channels) & set(self._teacher.channels))[-2:]
        self.adapters = nn.ModuleDict(
            {str(s): nn.Conv2d(self._student.channels[s], self._teacher.channels[s], 1, bias=False) for s in shared}
        )

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides at which maps are compared; empty when the networks share none."""
        return tuple(int(stride) for stride in self.adapters)

    def forward(self) -> Tensor:
        """Return the loss of the maps of the last forward passes of both networks, averaged over the strides."""
        terms = [
            feature_loss(self._student.maps[int(stride)], self._teacher.maps[int(stride)], adapter)
            for stride, adapter in self.adapters.items()
        ]
        return torch.stack(terms).mean()


def weighted(terms: Mapping[str, Tensor], recipe: Recipe) -> Tensor:
    """Return the sum of the terms `hard`, `soft`, `features` with the recipe's weights; without a teacher only `hard`."""
    if recipe.teacher is None:
        return terms["hard"]
    weights = {"hard": recipe.hard_weight, "soft": recipe.soft_weight, "features": recipe.feature_weight}
    return torch.stack([weights[name] * term for name, term in terms.items() if weights[name] > 0]).sum()
