"""How much training fits into the time: epochs, input sizes and networks planned from the timeout.

Measured, not guessed: one training step of each backbone at its smallest and largest setting is timed on this
machine; networks in between lie on the power law through the two. The plan aims at five to forty trained networks,
none of which takes more than twice its share: fast backbones get more epochs. What is dropped is said.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from coreml_pareto.search.config import AUTO, RESOLUTIONS, Plan
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.stages.train import pick_device
from coreml_pareto.search.teaching import own_teachers, teacher_network, teacher_networks
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.distillation import NONE
from coreml_pareto.spaces.families import build, check_input, family_of
from coreml_pareto.spaces.space import Space, Value

DEFAULT_EPOCHS = 15
LEAST_EPOCHS, MOST_EPOCHS = 4, 40
TRAINING_SHARE, TEACHER_SHARE, UNTAUGHT_SHARE = 0.6, 0.15, 0.75
"""Of the timeout that goes to training students, to training all teachers, and to students where there are none; the
rest is for conversion and evaluation."""

Say = Callable[[str], None]


@final
@dataclass(frozen=True)
class PowerLaw:
    """Seconds per training image of one backbone: scale · size^exponent, size = (resolution / stem)²·width^1.5."""

    scale: float
    exponent: float

    def seconds(self, network: Network) -> float:
        """Return seconds to train on one image once."""
        return float(self.scale * size(network) ** self.exponent)


def resolve(plan: Plan, data: DataSet, say: Say) -> Plan:
    """Return the plan with every `auto` decided, and said."""
    plan = _with_resolutions(plan, data)
    classes = len(data.classes)
    for network in (*plan.space(classes).networks(), *teacher_networks(plan, classes)):
        check_input(network)
    seconds = plan.search.seconds
    if plan.training.epochs != AUTO:
        return plan
    if seconds is None:
        return _updated(plan, "training", epochs=(DEFAULT_EPOCHS,))
    laws = _measure(plan.space(classes), plan.training.batch_size, pick_device(plan.training.device))
    return _fit(plan, data, laws, seconds, say)


def cheapest(networks: tuple[Network, ...]) -> Network:
    """Return the network that trains fastest, by size alone."""
    return min(networks, key=size)


def _with_resolutions(plan: Plan, data: DataSet) -> Plan:
    """Return input sizes that suit the pictures: up to their own size, at least 64 so that small ones are enlarged."""
    if plan.networks.resolution != AUTO:
        return plan
    native = data.native_resolution
    low, high = min(96, max(32, native // 2)), max(64, min(224, native))
    return _updated(plan, "networks", resolution=tuple(side for side in RESOLUTIONS if low <= side <= high))


def _fit(plan: Plan, data: DataSet, laws: dict[str, PowerLaw], seconds: float, say: Say) -> Plan:
    """Return the plan with epochs, networks and images that the time allows."""
    trainings = min(40, max(5, round(seconds / 300)))
    share = (TRAINING_SHARE if own_teachers(plan) else UNTAUGHT_SHARE) * seconds / trainings
    available = min(len(data.train), plan.training.images or len(data.train))
    images = available

    def cost(network: Network) -> float:
        return laws[network.backbone].seconds(network)

    least = min(cost(network) for network in plan.space(len(data.classes)).networks())
    affordable = int(min(share, seconds / 8) / (LEAST_EPOCHS * least))
    if affordable < images:
        images = min(available, max(8 * len(data.classes), affordable))
        say(f"The time allows {images} of {len(data.train)} training images per epoch.")
        plan = _updated(plan, "training", images=images)
    before = plan.networks
    plan = _trimmed(plan, len(data.classes), lambda network: cost(network) * LEAST_EPOCHS * images <= 2 * share)
    for name in ("backbones", "width", "resolution"):
        gone = [str(v) for v in getattr(before, name) if v not in getattr(plan.networks, name)]
        if gone:
            say(f"Too slow for this timeout, left out of {name}: {', '.join(gone)}.")
    costs = _by_backbone(plan.space(len(data.classes)), lambda network: cost(network) * images)
    epochs = {name: _epochs(own, share) for name, own in costs.items()}
    minutes = statistics.median(epochs[name] * each for name, own in costs.items() for each in own) / 60
    low, high = min(epochs.values()), max(epochs.values())
    say(
        f"Planned for the timeout: {low if low == high else f'{low} to {high}'} epochs, by backbone, "
        f"about {minutes:.1f} min per training (estimated)."
    )
    return _with_teachers(_updated(plan, "training", epochs=epochs), len(data.classes), images, seconds, say)


def _with_teachers(plan: Plan, classes: int, images: int, seconds: float, say: Say) -> Plan:
    """Return the plan with the teachers' epochs; teachers that the time does not allow are left out, and said."""
    teachers = own_teachers(plan)
    if not teachers or plan.distillation.teacher_epochs is not None:
        return plan
    share, device = TEACHER_SHARE * seconds / len(teachers), pick_device(plan.training.device)
    costs = {
        name: images * _seconds_per_image(teacher_network(plan, name, classes), plan.training.batch_size, device)
        for name in teachers
    }
    slow = [name for name in teachers if costs[name] * LEAST_EPOCHS > 2 * share]
    if slow:
        say(f"Too slow for this timeout, left out of teachers: {', '.join(slow)}.")
        left = tuple(name for name in plan.distillation.teachers if name not in slow)
        plan = _updated(plan, "distillation", teachers=left or (NONE,))
    if len(slow) == len(teachers):
        return plan
    slowest = max(cost for name, cost in costs.items() if name not in slow)
    epochs = min(MOST_EPOCHS, max(LEAST_EPOCHS, int(share / slowest)))
    say(f"Teachers: {epochs} epochs, about {epochs * slowest / 60:.1f} min each (estimated).")
    return _updated(plan, "distillation", teacher_epochs=epochs)


def _by_backbone(space: Space, cost: Callable[[Network], float]) -> dict[str, list[float]]:
    """Return the costs of the networks of each backbone."""
    costs: dict[str, list[float]] = {name: [] for name in space.backbones}
    for network in space.networks():
        costs[network.backbone].append(cost(network))
    return costs


def _epochs(seconds: list[float], share: float) -> int:
    """Return how many epochs the networks of a backbone get: the share for their median, twice that for the slowest."""
    return min(MOST_EPOCHS, max(LEAST_EPOCHS, int(min(share / statistics.median(seconds), 2 * share / max(seconds)))))


def _trimmed(plan: Plan, classes: int, fits: Callable[[Network], bool]) -> Plan:
    """Drop input sizes, widths and backbones until every network of the space fits.

    Dropped is always the value whose networks are too slow most often; of equals the largest. The last backbone of a
    family goes only when nothing else can.
    """
    while True:
        space = plan.space(classes)
        networks = tuple(space.networks())
        slow = frozenset(network for network in networks if not fits(network))
        options = _droppable(space, keep_families=True) or _droppable(space, keep_families=False)
        if not slow or not options:
            return plan

        section, _, value = max(options, key=lambda option: _share(slow, networks, *option[1:]))
        left = tuple(other for other in getattr(space, section) if other != value)
        plan = _updated(plan, "networks", **{section: left})


def _share(slow: frozenset[Network], networks: tuple[Network, ...], field: str, value: Value) -> float:
    """Return the share of slow ones among the networks with this value."""
    own = [network for network in networks if getattr(network, field) == value]
    return len(slow.intersection(own)) / max(1, len(own))


def _droppable(space: Space, *, keep_families: bool) -> list[tuple[str, str, Value]]:
    """Return (key of the plan, field of a Network, value) of what may be left out, the largest first."""
    sides = [("resolution", "resolution", side) for side in sorted(space.resolution, reverse=True)]
    widths = [("width", "width", width) for width in sorted(space.width, reverse=True)]
    backbones = [
        ("backbones", "backbone", name)
        for name in space.backbones
        if len(space.backbones_of(family_of(name)) if keep_families else space.backbones) > 1
    ]
    return [*(sides if len(sides) > 1 else []), *(widths if len(widths) > 1 else []), *backbones]


def _measure(space: Space, batch: int, device: torch.device) -> dict[str, PowerLaw]:
    """Time a training step of each backbone at its smallest and largest setting."""
    laws = {}
    for backbone in space.backbones:
        own = sorted((n for n in space.networks() if n.backbone == backbone), key=size)
        low, high = (_seconds_per_image(network, batch, device) for network in (own[0], own[-1]))
        ratio = math.log(size(own[-1]) / size(own[0])) if len(own) > 1 else 0.0
        exponent = min(1.5, max(0.3, math.log(high / low) / ratio)) if ratio > 0 else 1.0
        laws[backbone] = PowerLaw(high / size(own[-1]) ** exponent, exponent)
    return laws


def _seconds_per_image(network: Network, batch: int, device: torch.device) -> float:
    """Return the time of a training step (the better of two after one to warm up), per image."""
    batch = min(batch, 64)
    module = build(network).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    side = network.resolution
    images = torch.rand(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(batch, dtype=torch.long, device=device)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        nn.functional.cross_entropy(module(images), targets).backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:]) * 1.15 / batch  # 1.15: augmentation, optimiser and the glance at validation images


def size(network: Network) -> float:
    """Return the relative cost of an image: (resolution / stem)²·width^1.5·depth."""
    return float((network.resolution / network.stem_stride) ** 2 * network.width**1.5 * network.depth)


def _updated(plan: Plan, section: str, **changes: object) -> Plan:
    """Return the plan with keys of one section changed, validated again."""
    content = plan.model_dump()
    content[section] |= changes
    return Plan.model_validate(content)
