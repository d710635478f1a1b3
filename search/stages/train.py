"""From a Network and a Recipe to trained weights, in the store.

Every epoch is checkpointed, so a killed training goes on where it was, with the random numbers that it would have
drawn. A loss that is not a number ends the training with its cause.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.search.curves import GLANCE
from coreml_pareto.search.data import DataSet, Split
from coreml_pareto.search.data.augment import Policy, augment, default_policy, to_float
from coreml_pareto.search.stages.allocator import keeping_memory
from coreml_pareto.search.stages.checkpoint import restore, save
from coreml_pareto.search.stages.device import pick_device
from coreml_pareto.search.stages.inherit import inherit
from coreml_pareto.search.stages.loss import FeatureMatcher, hard_loss, soft_loss, weighted
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import CHECKPOINT, TRAINING_TOOLS, Store, stage_key
from coreml_pareto.spaces.candidate import Network, Recipe, digest_of
from coreml_pareto.spaces.families import normalisation
from coreml_pareto.spaces.weights import RANDOM, Initial, initialise, state_digest


class TrainingError(RuntimeError):
    """A training that cannot be finished, and why: ends its trial, never the study."""


INHERITED = "inherited"
"""How the name of initial weights begins that came from another training."""
PULSE = 0.5
"""Seconds between two calls of `Progress` within an epoch: often enough for a live line and for a deadline."""


@final
@dataclass(frozen=True)
class Step:
    """Where a training stands, for the progress line; told after every epoch and about twice a second within one.

    A training that goes on from a checkpoint tells first where that was made: whoever judges by it may not have done so
    before the kill.

    Attributes:
        done: epochs behind it, a fraction within an epoch.
        epochs: of the whole training.
        loss: mean over the running (or just finished) epoch.
        curve: top-1 of the torch network on at most 512 validation images after each whole epoch.
        seconds_left: at the pace since this process began the training; before that, of the epochs that were kept.
        stage: what is trained: a teacher, the candidate (`training`), or the candidate once more (`fine-tuning`).
    """

    done: float
    epochs: int
    loss: float
    curve: tuple[float, ...]
    seconds_left: float
    stage: str = "training"

    @property
    def top1(self) -> float | None:
        """After the last whole epoch; None before the first."""
        return self.curve[-1] if self.curve else None


Progress = Callable[[Step], None]
"""Told how a training goes; what it raises ends the training at once, the last whole epoch stays as a checkpoint."""


@final
@dataclass(frozen=True)
class Trainer:
    """Everything a training reads beyond its Network and Recipe."""

    store: Store
    data: DataSet
    pretrained: str = "auto"
    device: str = "auto"

    def train(
        self, network: Network, recipe: Recipe, progress: Progress, teacher: Trained | None = None,
        parent: Trained | None = None,
    ) -> Trained:  # fmt: skip
        """Return the finished training, from the store or made now.

        Args:
            parent: a training of the same backbone, whose weights are where this one begins.

        Raises:
            TrainingError: the loss is no number.
            UserError: the initial weights asked for are not to be had.
        """
        seed = self.seed(network, recipe)
        initial = self._initial(network, seed, parent)
        key = self.key(network, recipe, initial.weights, teacher)

        def make(work: Path) -> None:
            training = Training(self, network, recipe, initial.module, teacher, work, seed, progress)
            training.run()
            inherits = parent.key if parent and initial.weights.startswith(INHERITED) else None
            training.finish({"initial_weights": initial.weights, "parent": inherits})

        about = f"{network.label}, {recipe.label}"
        return Trained(key, network, recipe, self.store.produce("train", key, make, about))

    def made(self, network: Network, recipe: Recipe, teacher: Trained | None = None) -> Trained | None:
        """Return the finished training that begins with weights of its own; None where it is yet to be made."""
        initial = self._initial(network, self.seed(network, recipe), None)
        return self.find(self.key(network, recipe, initial.weights, teacher))

    def find(self, key: str) -> Trained | None:
        """Return a finished training of this store; None where it is gone."""
        folder = self.store.find("train", key)
        return None if folder is None else Trained.of(folder)

    def _initial(self, network: Network, seed: int, parent: Trained | None) -> Initial:
        """Weights of its own that were trained on more pictures are better than parts of another width's."""
        own = initialise(network, self.pretrained, seed)
        if parent is None or (own.weights != RANDOM and parent.network.width != network.width):
            return own
        inherit(own.module, parent.module().state_dict())
        return Initial(own.module, f"{INHERITED}-{state_digest(own.module.state_dict())}")

    def top1(self, trained: Trained) -> float:
        """Return a training's top-1 at a glance at this data: its own where it was trained on it, else measured now."""
        record = trained.record
        if record.get("data") == self.data.digest:
            return float(record["glance_top1"])
        device = pick_device(self.device)
        module = trained.module().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        rule = preprocessing_of(trained.network)
        return glance(module, self.data.validation, rule, *normalisers(trained.network, device))

    def seed(self, network: Network, recipe: Recipe) -> int:
        """Return the seed of everything that a training draws."""
        return int(digest_of([network.digest, recipe.seed])[:8], 16)

    def key(self, network: Network, recipe: Recipe, weights: str, teacher: Trained | None) -> str:
        """Return the store's key of a training."""
        return stage_key(
            TRAINING_TOOLS, network=network.digest, weights=weights, preprocessing=preprocessing_of(network).model_dump(),
            **lesson(recipe, self.data, network, teacher),
        )  # fmt: skip


def lesson(recipe: Recipe, data: DataSet, network: Network, teacher: Trained | None) -> dict[str, object]:
    """Return what a training reads beside the weights that it begins with, as plain values for its key.

    A teacher counts by its weights and its network, not by the name or path that the recipe calls it by; pictures count
    with how they are varied, which follows from more than their content (handwriting is not mirrored).
    """
    return {
        "recipe": recipe.model_copy(update={"teacher": None}).digest,
        "teacher": [teacher.key, teacher.network.digest] if teacher else None,
        "data": data.digest,
        "augmentation": asdict(default_policy(data.flip_safe, network.resolution)),
    }


def preprocessing_of(network: Network) -> Preprocessing:
    """Return the one rule by which pictures become this network's input."""
    return Preprocessing(resolution=network.resolution)


@contextmanager
def _flushing_denormals() -> Iterator[None]:
    """Take denormal numbers for zero, inside the block: on them a dying network trains ten times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


Follow = Callable[[float], None]
"""Told after every step of an optimiser which share of the steps is done, 0 to 1."""


def _nothing(done: float) -> None:
    pass


@final
class Training:
    """One training of a module from first to last epoch; the state that a checkpoint keeps is what `_state` names.

    Args:
        module: trained in place, on the trainer's device.
        teacher: of the recipe; feature maps are compared where both networks have them.
        inference: the module is a network for inference: it is trained in evaluation mode (what is left of its batch
            norms keeps its statistics), and without the term of the feature maps where it no longer shows them.
        follow: changes the module's buffers with the steps; called outside of gradients.
    """

    def __init__(
        self, trainer: Trainer, network: Network, recipe: Recipe, module: nn.Module, teacher: Trained | None,
        work: Path, seed: int, progress: Progress, *, inference: bool = False, follow: Follow = _nothing,
    ) -> None:  # fmt: skip
        torch.manual_seed(seed)  # the adapters of feature maps draw from the global generator
        self.network, self.recipe, self.work, self.inference, self.follow = network, recipe, work, inference, follow
        self.device = pick_device(trainer.device)
        self.module = module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.teacher = teacher.module().to(self.device).eval() if teacher else None
        self.teacher_network = teacher.network if teacher else None
        self.matcher = self._feature_matcher()
        if inference and not (self.matcher or recipe.hard_weight or recipe.soft_weight):
            self.recipe = recipe.model_copy(update={"hard_weight": 1.0})  # else nothing would be left to learn from
        self.data, self.parking = trainer.data, trainer.store.parking
        self.policy: Policy = default_policy(trainer.data.flip_safe, network.resolution)
        self.mean, self.std = normalisers(network, self.device)
        self.draws = torch.Generator().manual_seed(seed)
        self.order = torch.Generator().manual_seed(seed + 1)
        parameters = [*self.module.parameters(), *(self.matcher.parameters() if self.matcher else [])]
        self.optimiser = torch.optim.AdamW(_groups(parameters, recipe.weight_decay), lr=recipe.learning_rate)
        self.steps = max(1, len(trainer.data.train) // recipe.batch_size) * recipe.epochs
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: _rate(step, self.steps))
        self.history: list[dict[str, float]] = []
        self.progress = progress

    def run(self) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        with _flushing_denormals(), keeping_memory():
            self._run()

    def finish(self, facts: Mapping[str, object]) -> None:
        """Write weights and record, these facts in it, and drop the checkpoint."""
        state = {name: tensor.cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        save(state, self.work / "weights.pt")
        record = {
            "network": self.network.model_dump(), "recipe": self.recipe.model_dump(),
            "classes": self.data.classes, "data": self.data.digest, "device": str(self.device), "history": self.history,
            "seconds": sum(row["seconds"] for row in self.history), "glance_top1": self.history[-1]["top1"], **facts,
        }  # fmt: skip
        (self.work / "record.json").write_text(json.dumps(record, indent=1))
        self.drop_checkpoint()

    def drop_checkpoint(self) -> None:
        """Forget the last epoch: the training is finished and kept elsewhere."""
        (self.work / CHECKPOINT).unlink(missing_ok=True)

    def _run(self) -> None:
        self._restore()
        self.resumed_at, self.started = len(self.history), time.monotonic()
        if 0 < self.resumed_at < self.recipe.epochs:
            self._tell(self.resumed_at, self.history[-1]["loss"])
        rule = preprocessing_of(self.network)
        images = torch.from_numpy(self.data.train.images(rule))
        targets = torch.from_numpy(self.data.train.targets)
        for epoch in range(len(self.history), self.recipe.epochs):
            started = time.monotonic()
            loss = self._epoch(images, targets)
            top1 = glance(self.module, self.data.validation, rule, self.mean, self.std)
            seconds = time.monotonic() - started
            self.history.append({"epoch": epoch + 1, "loss": loss, "top1": top1, "seconds": seconds})
            self._checkpoint()
            self._tell(epoch + 1, loss)

    def _tell(self, done: float, loss: float) -> None:
        pace = self._pace(done - self.resumed_at)
        curve = tuple(row["top1"] for row in self.history)
        self.progress(Step(done, self.recipe.epochs, loss, curve, pace * (self.recipe.epochs - done)))

    def _pace(self, since: float) -> float:
        """Seconds per epoch, `since` so many epochs in this process; of those kept before the first."""
        if since:
            return (time.monotonic() - self.started) / since
        return sum(row["seconds"] for row in self.history) / len(self.history)

    def _epoch(self, images: Tensor, targets: Tensor) -> float:
        self.module.train(not self.inference)
        losses: list[Tensor] = []
        told = time.monotonic()
        batches = list(_batches(len(targets), self.recipe.batch_size, self.order))
        for rows in batches:
            pixels = augment(images[rows], self.draws, self.policy).to(self.device)
            loss = self._loss(pixels, targets[rows].to(self.device))
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.gradient_clip)
            self.optimiser.step()
            self.schedule.step()
            self._follow()
            losses.append(loss.detach())
            if time.monotonic() - told > PULSE and len(losses) < len(batches):
                self._tell(len(self.history) + len(losses) / len(batches), self._mean(losses))
                told = time.monotonic()
        return self._mean(losses)

    @torch.no_grad()
    def _follow(self) -> None:
        self.follow(self.schedule.last_epoch / self.steps)

    def _mean(self, losses: list[Tensor]) -> float:
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise TrainingError(
                f"the loss of {self.network.label} became {mean} in epoch {len(self.history) + 1} "
                f"(learning rate {self.recipe.learning_rate:g})"
            )
        return mean

    def _loss(self, pixels: Tensor, targets: Tensor) -> Tensor:
        inputs = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.module(inputs)
        terms = {"hard": hard_loss(logits.float(), targets, self.recipe)}
        if self.teacher is not None and self.teacher_network is not None:
            taught = teach(self.teacher, self.teacher_network, pixels)
            terms["soft"] = soft_loss(logits.float(), taught, self.recipe.temperature)
            if self.matcher is not None:
                terms["features"] = self.matcher()
        return weighted(terms, self.recipe)

    def _feature_matcher(self) -> FeatureMatcher | None:
        if self.teacher is None or self.teacher_network is None or self.recipe.feature_weight == 0:
            return None
        sides = (self.network.resolution, self.teacher_network.resolution)
        matcher = FeatureMatcher(self.module, self.teacher, sides).to(self.device)
        if not matcher.strides and self.inference:
            return None
        if not matcher.strides:
            raise TrainingError(
                f"{self.network.label} and its teacher {self.teacher_network.label} share no feature maps (the same "
                "stride in both, known to timm): set feature_weight to 0, or choose another teacher"
            )
        return matcher

    def _state(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "matcher": self.matcher.state_dict() if self.matcher else {},
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "draws": self.draws.get_state(),
            "order": self.order.get_state(),
            "global": torch.get_rng_state(),
            "history": self.history,
        }

    def _checkpoint(self) -> None:
        save(self._state(), self.work / CHECKPOINT)
        if self.parking:
            self.parking.park(self.work)

    def _restore(self) -> None:
        torch.manual_seed(self.order.initial_seed())  # dropout draws from the global generator
        if self.parking:
            self.parking.fetch(self.work)
        state = restore(self.work / CHECKPOINT)
        if state is None:
            return
        self.module.load_state_dict(state["module"])
        if self.matcher:
            self.matcher.load_state_dict(state["matcher"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.draws.set_state(state["draws"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["global"])
        self.history = state["history"]


def normalisers(network: Network, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the pixels as [1, 3, 1, 1]."""
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in normalisation(network))
    return mean, std


@torch.no_grad()
def teach(teacher: nn.Module, network: Network, pixels: Tensor) -> Tensor:
    """Return the teacher's logits for pixels in 0..1 [batch, 3, side, side], brought to its own resolution."""
    side = network.resolution
    if pixels.shape[-1] != side:
        pixels = nn.functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    mean, std = normalisers(network, pixels.device)
    logits: Tensor = teacher((pixels - mean) / std)
    return logits.float()


@torch.no_grad()
def glance(module: nn.Module, split: Split, rule: Preprocessing, mean: Tensor, std: Tensor) -> float:
    """Return top-1 of the torch module on at most 512 validation images: for the progress line only."""
    module.eval()
    rows = split.sample(min(GLANCE, len(split)), seed=0)
    hits = 0
    for part in np.array_split(rows, max(1, len(rows) // 128)):
        pixels = to_float(torch.from_numpy(split.images(rule)[part])).to(mean.device)
        logits = module(((pixels - mean) / std).contiguous(memory_format=torch.channels_last))
        hits += int((logits.argmax(1).cpu().numpy() == split.targets[part]).sum())
    return hits / len(rows)


def _batches(count: int, size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Yield shuffled rows in whole batches; the remainder is dropped so that batch norm never sees a tiny batch."""
    rows = torch.randperm(count, generator=order)
    whole = max(1, count // size)
    yield from torch.split(rows[: whole * size], min(size, count))


def _rate(step: int, steps: int) -> float:
    """Return the share of the learning rate: linear warm-up over 10 % of the steps, then a cosine to zero."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def _groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups: kernels decay, biases and batch-norm scales do not."""
    kernels = [p for p in parameters if p.ndim > 1]
    return [
        {"params": kernels, "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
