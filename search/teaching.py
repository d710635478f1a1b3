"""Which network a study's teacher is, and how it is trained: the study's largest input size and longest training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from coreml_pareto.search.config import Plan
from coreml_pareto.spaces.candidate import Network, Recipe
from coreml_pareto.spaces.distillation import NONE, is_checkpoint
from coreml_pareto.spaces.families import check_network, family_of, training_defaults
from coreml_pareto.spaces.space import auto_stem


def own_teachers(plan: Plan) -> tuple[str, ...]:
    """Return the teachers that the study trains itself: neither "none" nor checkpoints."""
    return tuple(name for name in plan.distillation.teachers if name != NONE and not is_checkpoint(name))


def teacher_network(plan: Plan, name: str, classes: int) -> Network:
    """Return a teacher's network.

    Raises:
        UserError: it has no such width.
    """
    loss, family = plan.distillation, family_of(name)
    resolution = loss.teacher_resolution or max(plan.space(classes).resolution)
    network = Network(
        family=family, backbone=name, width=loss.teacher_width, resolution=resolution,
        stem_stride=auto_stem(family, resolution), classes=classes,
    )  # fmt: skip
    return check_network(network)


def teacher_recipe(plan: Plan, name: str, classes: int) -> Recipe:
    """Return a teacher's training."""
    epochs = plan.distillation.teacher_epochs or max(plan.space(classes).lengths)
    defaults = dataclasses.asdict(training_defaults(family_of(name)))
    return Recipe(epochs=epochs, batch_size=plan.training.batch, seed=plan.search.seed, **defaults)


def teacher_networks(plan: Plan, classes: int) -> Iterator[Network]:
    """Yield the network of each teacher that the study trains itself."""
    yield from (teacher_network(plan, name, classes) for name in own_teachers(plan))
