"""How much training fits into the time: epochs, input sizes and networks planned from the timeout.

Measured, not guessed: one training step of each backbone at its smallest and largest setting is timed on this
machine; networks in between lie on the power law through the two. What is planned is the time that is left after
reading the pictures and measuring. The plan aims at five to forty trained networks, none of which takes more than twice
its share: fast backbones get more epochs. What is dropped is said.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import torch
from torch import nn

from coreml_pareto.search.config import AUTO, RESOLUTIONS, Plan
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.effort import EXPONENT
from coreml_pareto.search.stages.device import pick_device
from coreml_pareto.search.teaching import own_teachers, teacher_network, teacher_networks
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.counts import count
from coreml_pareto.spaces.distillation import NONE
from coreml_pareto.spaces.families import build, check_input, family_of
from coreml_pareto.spaces.space import Space, Value

DEFAULT_EPOCHS = 15
LEAST_EPOCHS, MOST_EPOCHS = 4, 40
TRAINING_SHARE, TEACHER_SHARE, UNTAUGHT_SHARE = 0.6, 0.15, 0.75
"""Of the timeout that goes to training students, to training all teachers, and to students where there are none; the
rest is for conversion and evaluation."""
FIRST_SHARE = 1 / 8
"""Of the timeout, by when the first training ends: its package is to be saved within a fifth."""
MANY_IMAGES = 20_000
"""Training images from which on batches have 128 images instead of 64: a fifth faster for small networks on a CPU."""
TIMED_IMAGES, TIMED_PIXELS = 128, 64 * 64**2
"""In a timed step at most; the second on a CPU only, where large inputs would take memory and minutes."""

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


@final
@dataclass
class Paces:
    """What was timed of training steps on this machine; empty where nothing was.

    `backbones` are the laws of the students, `teachers` each teacher's seconds per training image.
    """

    backbones: dict[str, PowerLaw] = field(default_factory=dict)
    teachers: dict[str, float] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Allowance:
    """Seconds of training: what is `left` of the timeout, the share of `each` training, and what the `first` may take."""

    left: float
    each: float
    first: float

    @classmethod
    def of(cls, plan: Plan, timeout: float, spent: float) -> Allowance:
        """Return what a plan may spend; where next to nothing is left, the least that a training needs is tried."""
        left = max(timeout - spent, timeout / 10)
        trainings = min(40, max(5, round(left / 300)))
        share = TRAINING_SHARE if own_teachers(plan) else UNTAUGHT_SHARE
        return cls(left, share * left / trainings, max(FIRST_SHARE * timeout - spent, left / 20))

    def images(self, least: float, available: int, classes: int) -> int:
        """Return how many images an epoch has where the fastest network takes `least` seconds for each."""
        affordable = int(min(self.each, self.first) / (LEAST_EPOCHS * least))
        return min(available, max(8 * classes, affordable))

    def fits(self, seconds_per_epoch: float) -> bool:
        """Return whether a network can be trained at all."""
        return LEAST_EPOCHS * seconds_per_epoch <= 2 * self.each


def resolve(
    plan: Plan, data: DataSet, say: Say, spent: Callable[[], float] = lambda: 0.0, paces: Paces | None = None
) -> Plan:
    """Return the plan with every `auto` decided, and said, and the backbones sorted by how soon a baseline is trained.

    Args:
        plan: what was asked.
        data: its pictures.
        say: told what is decided.
        spent: gives the seconds of the timeout that are gone.
        paces: takes up what is timed.
    """
    plan, paces = suited(plan, data), paces or Paces()
    classes = len(data.classes)
    for network in (*plan.space(classes).networks(), *teacher_networks(plan, classes)):
        check_input(network)
    timeout = plan.search.seconds
    if plan.training.epochs == AUTO and timeout is not None:
        paces.backbones |= _measure(plan, data, Allowance.of(plan, timeout, spent()))
        return _fit(plan, data, paces, Allowance.of(plan, timeout, spent()), say)
    if plan.training.epochs == AUTO:
        plan = _updated(plan, "training", epochs=(DEFAULT_EPOCHS,))
    return _quickest_first(plan, classes, lambda network: count(network).macs ** EXPONENT)


def suited(plan: Plan, data: DataSet) -> Plan:
    """Return the plan with what follows from the pictures alone decided: input sizes and the batch."""
    return _with_batch(_with_resolutions(plan, data), data)


def seconds_per_epoch(network: Network, plan: Plan, data: DataSet) -> float:
    """Return for how long a network is trained for one epoch on this machine, without a teacher, measured now."""
    return _seconds_per_image(network, plan.training.batch, pick_device(plan.training.device)) * images_of(plan, data)


def fine_tuning(plan: Plan) -> float:
    """Return how many epochs the packages of one training are fine-tuned, on the average."""
    asked, further = plan.training.fine_tune_epochs, plan.packages_per_training - 1
    return statistics.mean(asked) + further * min(asked)  # further packages are fine-tuned as little as may be


def baselines(space: Space) -> tuple[Network, ...]:
    """Return the smallest network of each family's first backbone: in a resolved plan the quickest, in their order."""
    own = _by_backbone(space)
    return tuple(own[space.backbones_of(family)[0]][0] for family in space.families)


def _quickest_first(plan: Plan, classes: int, cost: Callable[[Network], float]) -> Plan:
    """Return the plan with its backbones in the order in which their smallest networks are trained to the end.

    Where nothing was timed the cost follows from the multiply-accumulates (`effort.py`).
    """
    space = plan.space(classes)
    whole = {name: cost(own[0]) * max(space.epochs_of(name)) for name, own in _by_backbone(space).items()}
    return _updated(plan, "networks", backbones=tuple(sorted(whole, key=whole.__getitem__)))


def _with_resolutions(plan: Plan, data: DataSet) -> Plan:
    """Return input sizes that suit the pictures: up to their own size, at least 64 so that small ones are enlarged."""
    if plan.networks.resolution != AUTO:
        return plan
    native = data.native_resolution
    low, high = min(96, max(32, native // 2)), max(64, min(224, native))
    return _updated(plan, "networks", resolution=tuple(side for side in RESOLUTIONS if low <= side <= high))


def _with_batch(plan: Plan, data: DataSet) -> Plan:
    """Return the batch size that suits the number of images: large ones are faster, small data sets need the steps."""
    if plan.training.batch_size != AUTO:
        return plan
    return _updated(plan, "training", batch_size=128 if images_of(plan, data) >= MANY_IMAGES else 64)


def _fit(plan: Plan, data: DataSet, paces: Paces, allowance: Allowance, say: Say) -> Plan:
    """Return the plan with epochs, networks and images that the time allows."""
    classes, available, laws = len(data.classes), images_of(plan, data), paces.backbones
    least = min(laws[network.backbone].seconds(network) for network in plan.space(classes).networks())
    images = allowance.images(least, available, classes)
    if images < available:
        say(f"The time allows {images} of {len(data.train)} training images per epoch.")
        plan = _updated(plan, "training", images=images)

    def cost(network: Network) -> float:
        return laws[network.backbone].seconds(network) * images

    before = plan.networks
    plan = _trimmed(plan, classes, lambda network: allowance.fits(cost(network)))
    for name in ("backbones", "width", "resolution"):
        gone = [str(v) for v in getattr(before, name) if v not in getattr(plan.networks, name)]
        if gone:
            say(f"Too slow for this timeout, left out of {name}: {', '.join(gone)}.")
    costs = {name: [cost(network) for network in own] for name, own in _by_backbone(plan.space(classes)).items()}
    epochs = _lengths(costs, allowance, fine_tuning(plan))
    low, high = min(epochs.values()), max(epochs.values())
    say(f"Planned for the timeout: {low if low == high else f'{low} to {high}'} epochs, by backbone.")
    plan = _quickest_first(_updated(plan, "training", epochs=epochs), classes, cost)
    return _with_teachers(plan, classes, images, allowance.left, paces, say)


def images_of(plan: Plan, data: DataSet) -> int:
    """Return how many images an epoch has."""
    return min(len(data.train), plan.training.images or len(data.train))


def _with_teachers(plan: Plan, classes: int, images: int, seconds: float, paces: Paces, say: Say) -> Plan:
    """Return the plan with the teachers' epochs; teachers that the time does not allow are left out, and said."""
    teachers = own_teachers(plan)
    if not teachers or plan.distillation.teacher_epochs is not None:
        return plan
    share, device = TEACHER_SHARE * seconds / len(teachers), pick_device(plan.training.device)
    batch = plan.training.batch
    paces.teachers |= {n: _seconds_per_image(teacher_network(plan, n, classes), batch, device) for n in teachers}
    costs = {name: images * paces.teachers[name] for name in teachers}
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


def _by_backbone(space: Space) -> dict[str, list[Network]]:
    """Return the networks of each backbone, the smallest first."""
    found: dict[str, list[Network]] = {name: [] for name in space.backbones}
    for network in sorted(space.networks(), key=size):
        found[network.backbone].append(network)
    return found


def _lengths(costs: dict[str, list[float]], allowance: Allowance, fine_tuning: float) -> dict[str, int]:
    """Return the epochs of each backbone; those of the fastest are few enough for a first package in time."""
    epochs = {name: _epochs(own, allowance.each, fine_tuning) for name, own in costs.items()}
    fastest = min(costs, key=lambda name: min(costs[name]))
    epochs[fastest] = min(epochs[fastest], max(LEAST_EPOCHS, int(allowance.first / min(costs[fastest]))))
    return epochs


def _epochs(seconds: list[float], share: float, fine_tuning: float) -> int:
    """Return how many epochs the networks of a backbone get: the share for their median, twice that for the slowest.

    What their packages are fine-tuned comes out of the same share.
    """
    whole = min(share / statistics.median(seconds), 2 * share / max(seconds))
    return min(MOST_EPOCHS, max(LEAST_EPOCHS, int(whole - fine_tuning)))


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


def _measure(plan: Plan, data: DataSet, allowance: Allowance) -> dict[str, PowerLaw]:
    """Time a training step of each backbone at its smallest setting, and at its largest where there is time for either."""
    batch, device = plan.training.batch, pick_device(plan.training.device)
    own = _by_backbone(plan.space(len(data.classes)))
    low = {name: _seconds_per_image(networks[0], batch, device) for name, networks in own.items()}
    images = allowance.images(min(low.values()), images_of(plan, data), len(data.classes))
    laws = {}
    for name, networks in own.items():
        small, large = networks[0], networks[-1]
        if size(small) < size(large) and allowance.fits(low[name] * images):
            laws[name] = _law(small, low[name], large, _seconds_per_image(large, batch, device))
        else:
            laws[name] = PowerLaw(low[name] / size(small), 1.0)
    return laws


def _law(small: Network, low: float, large: Network, high: float) -> PowerLaw:
    exponent = math.log(high / low) / math.log(size(large) / size(small))
    exponent = min(1.5, max(0.3, exponent))
    return PowerLaw(high / size(large) ** exponent, exponent)


def _seconds_per_image(network: Network, batch: int, device: torch.device) -> float:
    """Return the time of a training step (the better of two after one to warm up), per image."""
    batch = min(batch, TIMED_IMAGES)
    if device.type == "cpu":
        batch = min(batch, max(2, TIMED_PIXELS // (2 * network.resolution // network.stem_stride) ** 2))
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
