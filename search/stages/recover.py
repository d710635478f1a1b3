"""How does a network regain what compression cost it?  It is trained on, each weight seen as it will be stored.

The network is folded first (batch norms and scales), because the package stores folded weights; then every weight of a
convolution or linear layer is trained relative to its output channel's size (folding leaves channels that differ by
orders of magnitude, and Adam's steps are absolute), and projected onto its form on the way to the network, gradients
passing unchanged (straight-through estimator: Bengio et al. 2013, arXiv:1308.3432; for integers Jacob et al. 2018,
arXiv:1712.05877). What is left at the end are the projected weights, which `compress` then stores as they are. Batches,
loss, teacher, schedule and checkpoints are those of any training.

Decision: projections of our own, not coremltools.optimize.torch or coreai-opt. Measured on digits by
benchmarks/recovery_methods.py: 2 epochs (38 steps), one seed, the better of two learning rates (squeezenet1_1: one),
top-1 on 269 validation images (one standard deviation is 1 to 2 %; 98.5 % before) and seconds of one core per epoch:

    mobilenetv3_small ×0.5 @48    palette-2         pruning-50
    stored without training       10.8 %            25.7 %
    ours                          93.7 %   2.7 s    96.7 %   2.5 s
    ours, weights absolute        94.4 %   2.8 s    97.4 %   2.7 s
    coremltools (DKM, magnitudes) 90.3 %   13.7 s   97.4 %   2.7 s
    coreai-opt 0.4.0              53.9 %   1.6 s    97.4 %   2.5 s
    squeezenet1_1 @48             palette-2         pruning-50
    stored without training       30.5 %            39.0 %
    ours                          96.3 %   7.0 s    95.5 %   6.2 s
    ours, weights absolute        96.3 %   7.3 s    95.2 %   6.4 s
    coremltools (DKM, magnitudes) 96.7 %   18.6 s   95.5 %   6.6 s
    coreai-opt 0.4.0              53.5 %   5.9 s    95.5 %   6.6 s

So DKM (arXiv:2108.12659) regains no more than a straight-through table for three to nine times the time, pruning is the
same everywhere, and coreai-opt's palettizer leaves palettized weights where k-means put them (its default strategy; it
comes with no other). coremltools' quantizer knows tensors and channels, no blocks, and each tool has another arithmetic,
another prepared network and another way to finish than `compress`, to which the result must be exact. At four bits
little was lost (97.8 and 96.3 % were left) and all are within three images of each other. Relative weights gain where
little is left: 75.1 against 45.0 % at pruning-75, 95.9 against 93.7 % at palette-2/group-16; elsewhere they and absolute
ones are equal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers.linear import Linear
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from coreml_pareto.search.stages.compress import Layer, Plan, decided, forms_of
from coreml_pareto.search.stages.folding import fold_batch_norm
from coreml_pareto.search.stages.projections import Projection, projection
from coreml_pareto.search.stages.scales import fold_scales
from coreml_pareto.search.stages.train import (
    Follow,
    Progress,
    Trainer,
    Training,
    glance,
    lesson,
    normalisers,
    preprocessing_of,
)
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import stage_key
from coreml_pareto.spaces.candidate import Compression, Network, Recipe
from coreml_pareto.spaces.compression import describe, parse, spell

RATE = 0.5
"""Of the recipe's learning rate. Top-1 after 3 epochs on digits (57 steps), MobileNetV3-small ×0.5 @48, 98.5 % before:

    share   int8    int4    pruning-50   palette-2   pruning-75   palette-1
    0.3     98.9 %  97.8 %  97.8 %       93.3 %      50.9 %       59.9 %
    0.5     -       98.5 %  98.1 %       94.1 %      79.9 %       72.9 %
    1.0     97.8 %  96.7 %  96.7 %       93.3 %      90.0 %       79.2 %

What loses little wants a low rate, what loses everything a high one, as long as steps are few."""

SIZE = 0.1
"""Root mean square of each channel's relative weights: about that of a fresh network's (He et al. 2015, arXiv:1502.01852:
√(2 / inputs)), whose learning rate is taken."""

SETTLED = 4
"""Most times that a weight is stored and decoded until it stays what it is."""

TINY = 1e-12
"""Least size of a channel: one that is zero can still be divided by its size."""


@final
@dataclass(frozen=True)
class Recovered:
    """A training under a compression, in the store: in the place of the `Trained` that it began with."""

    key: str
    trained: Trained
    folder: Path

    @property
    def network(self) -> Network:
        """The network that was trained; `module` is its form for inference."""
        return self.trained.network

    @property
    def recipe(self) -> Recipe:
        """The recipe of the training before; the record has that of the recovery."""
        return self.trained.recipe

    @property
    def record(self) -> dict[str, Any]:
        """What happened: source, compression, plan, initial weights, history, seconds, device."""
        loaded: dict[str, Any] = json.loads((self.folder / "record.json").read_text())
        return loaded

    def module(self) -> nn.Module:
        """Return the folded network, in evaluation mode; its weights are what the package will hold."""
        module = folded(self.trained)
        module.load_state_dict(torch.load(self.folder / "weights.pt", map_location="cpu", weights_only=True))
        return module.eval()


@final
@dataclass(frozen=True)
class Tuning:
    """What fine-tuning reads beyond a trained network and its compression: data and device, the teacher, who is told."""

    trainer: Trainer
    progress: Progress
    teacher: Trained | None = None


def recover(
    trainer: Trainer, trained: Trained, compression: Compression, progress: Progress,
    teacher: Trained | None = None, plan: Plan | None = None,
) -> Recovered:  # fmt: skip
    """Train on under a compression for its `fine_tune_epochs`, or find that in the store.

    Args:
        teacher: of the training's recipe, which is that of the recovery, too.
        plan: of mixed precision, by the names of the folded network's layers (see `renamed`).

    Raises:
        TrainingError: the loss is no number.
    """
    recipe = tuning_recipe(trained.recipe, compression.fine_tune_epochs)
    asked = None if plan is None else _spelt(plan)
    read = lesson(recipe, trainer.data, trained.network, teacher)
    key = stage_key(source=trained.key, compression=compression.digest, plan=asked, **read)

    def make(work: Path) -> None:
        module = folded(trained)
        done = plan_for(module, trained.network.resolution, compression, plan)
        follow = put_under(module, done)
        training = _training(trainer, trained, recipe, module, teacher, work, progress, follow)
        training.run()
        settle(module, done)
        facts = {
            "source": trained.key, "initial_weights": trained.record["initial_weights"],
            "compression": compression.model_dump(), "plan": _spelt(done),
            "glance_top1": _glance(trainer, trained.network, module, training.device),
        }  # fmt: skip
        training.finish(facts)

    about = f"{trained.network.label}, {describe(compression)}"
    return Recovered(key, trained, trainer.store.produce("recover", key, make, about))


def tuner(
    trainer: Trainer, trained: Trained, epochs: int, progress: Progress, teacher: Trained | None, work: Path
) -> Callable[[nn.Module], None]:
    """Return what trains a prepared network for inference in place, with the recipe and the data of a training.

    The network simulates its compression itself. `work` keeps a checkpoint while it is trained.
    """

    def train(module: nn.Module) -> None:
        recipe = tuning_recipe(trained.recipe, epochs)
        follow = put_under(module, {})
        training = _training(trainer, trained, recipe, module, teacher, work, progress, follow)
        training.run()
        settle(module, {})
        module.cpu().eval()
        training.drop_checkpoint()

    return train


def _training(
    trainer: Trainer, trained: Trained, recipe: Recipe, module: nn.Module, teacher: Trained | None,
    work: Path, progress: Progress, follow: Follow,
) -> Training:  # fmt: skip
    seed = trainer.seed(trained.network, recipe)
    return Training(
        trainer, trained.network, recipe, module, teacher, work, seed, progress, inference=True, follow=follow
    )


def tuning_recipe(recipe: Recipe, epochs: int) -> Recipe:
    """Return how a trained network is trained on: what it learns from stays."""
    changes = {"epochs": epochs, "learning_rate": RATE * recipe.learning_rate, "weight_decay": 0.0}
    return Recipe.model_validate(recipe.model_dump() | changes)


def folded(trained: Trained) -> nn.Module:
    """Return a trained network as the package holds it."""
    return as_stored(trained.module(), trained.network.resolution)


def as_stored(module: nn.Module, side: int) -> nn.Module:
    """Return a network whose weights are those that its package will hold: batch norms and scales folded into them."""
    example = _noise(side)
    return fold_scales(fold_batch_norm(module, example), example)


def _noise(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def weights_in_order(module: nn.Module, side: int) -> dict[str, Tensor]:
    """Return the weights of convolutions and linear layers as a forward pass calls them, by their layers' names.

    That is the order in which a package's program has them. Layers that make their weight of a parameter (standardised
    convolutions) are left out: what is stored is something else.
    """
    found: dict[str, Tensor] = {}

    def saw(name: str) -> Any:
        def hook(layer: nn.Module, _: Any) -> None:
            found.setdefault(name, cast("Tensor", layer.weight).detach())

        return hook

    plain = {name: part for name, part in module.named_modules() if type(part).forward in _PLAIN}
    handles = [part.register_forward_pre_hook(saw(name)) for name, part in plain.items()]
    with torch.no_grad():
        module(_noise(side))
    for handle in handles:
        handle.remove()
    return found


_PLAIN = (nn.Conv1d.forward, nn.Conv2d.forward, nn.Linear.forward, Linear.forward)


def plan_for(module: nn.Module, side: int, compression: Compression, plan: Plan | None = None) -> Plan:
    """Return what `compress` will do to the weights of a folded network, by its layers' names; so is `plan`, if any."""
    values = {name: _fp16(value) for name, value in weights_in_order(module, side).items()}
    layers = decided(values, compression, plan)
    return {layer.name: parse(layer.applied) for layer in layers if layer.applied}


def renamed(plan: Plan, names: Iterable[str], others: Iterable[str]) -> Plan:
    """Return a plan in other names of the same weights: of a package in those of a network's layers, or back.

    Args:
        plan: by some of `names`.
        names, others: of all weights, both in program order.
    """
    other = dict(zip(names, others, strict=True))
    return {other[name]: form for name, form in plan.items()}


def _fp16(value: Tensor) -> NDArray[Any]:
    """As the conversion stores it: a weight that leaves fp16's range stays in fp32."""
    exact: NDArray[Any] = value.detach().cpu().numpy()
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float16)
    return rounded if np.isfinite(rounded).all() else exact


class Relative(nn.Module):
    """A weight as it is trained: relative to its output channel's size, and seen by the network as it will be stored.

    The gradient passes the storing unchanged (straight-through estimator: Bengio et al. 2013, arXiv:1308.3432).
    """

    scale: Tensor

    def __init__(self, weight: Tensor, projection: Projection | None) -> None:
        super().__init__()
        sizes = weight.detach().square().mean(dim=tuple(range(1, weight.ndim)), keepdim=True).sqrt()
        self.register_buffer("scale", (sizes / SIZE).clamp(min=TINY))
        self.projection = projection

    def forward(self, relative: Tensor) -> Tensor:
        """Return the weight that the network computes with."""
        weight = relative * self.scale
        if self.projection is None:
            return weight
        with torch.no_grad():
            stored: Tensor = self.projection(weight)
        return stored + (weight - weight.detach())

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return what gives this weight."""
        return weight / self.scale

    def follow(self, relative: Tensor, done: float) -> None:
        """Adapt the form to the weight."""
        if self.projection is not None:
            self.projection.follow(relative * self.scale, done)


def put_under(module: nn.Module, plan: Plan) -> Follow:
    """Prepare a network for training under a plan, all its weights relative; return what is to be told every step."""
    parts = {name: part for name, part in module.named_modules() if isinstance(part, (_ConvNd, nn.Linear))}
    for name, part in parts.items():
        form = projection(part.weight.detach(), plan[name]) if name in plan else None
        parametrize.register_parametrization(part, "weight", Relative(part.weight, form))

    def follow(done: float) -> None:
        for part in parts.values():
            original, relative = _parametrized(part)
            relative.follow(original, done)

    return follow


def _parametrized(part: nn.Module) -> tuple[Tensor, Relative]:
    slots = cast("Any", part).parametrizations.weight
    return slots.original.detach(), slots[0]


def settle(module: nn.Module, plan: Plan) -> None:
    """Leave plain weights in the network: those of the plan as they are stored, and stored again.

    Scales are computed from values that were rounded to fp16, so a second storing may find another one. After a few
    rounds nothing changes any more, but for 8-bit integers with offsets: there the scale of some channels (of 200 random
    ones 2 to 5 %) moves by the last bit of fp16 at every storing, 60 dB below the weights.
    """
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight")
    layers = [Layer(name, (), spell(form), spell(form)) for name, form in plan.items()]
    parts = {name: cast("Tensor", module.get_submodule(name).weight) for name in plan}
    values = {name: _fp16(weight) for name, weight in parts.items()}
    for _ in range(SETTLED):
        again = {name: form.decoded() for name, form in forms_of(values, layers).items()}
        still = all(np.array_equal(again[name], values[name]) for name in plan)
        values = again
        if still:
            break
    with torch.no_grad():
        for name, weight in parts.items():
            weight.copy_(torch.from_numpy(values[name].astype(np.float32)))


def _glance(trainer: Trainer, network: Network, module: nn.Module, device: torch.device) -> float:
    return glance(module, trainer.data.validation, preprocessing_of(network), *normalisers(network, device))


def _spelt(plan: Plan) -> dict[str, str]:
    return {name: spell(form) for name, form in plan.items()}
