"""What the surrogate foretells: what it was shown, more doubt further away, and drops by closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coreml_pareto.search.surrogate import MOST, PRIOR, SPREAD, Drops, Surrogate, Training, logit, usual_drop
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe
from coreml_pareto.spaces.compression import parse

IMAGES = 2000


def candidate(width: float = 0.5, backbone: str = "mobilenetv2", epochs: int = 4) -> Candidate:
    network = Network(family="mobilenet", backbone=backbone, width=width, resolution=32, stem_stride=1, classes=10)
    return Candidate(
        network=network, recipe=Recipe(epochs=epochs, learning_rate=1e-3, weight_decay=0.01), compression=Compression()
    )


def shown(*rows: tuple[Candidate, float]) -> list[Training]:
    return [Training(one, top1, one.recipe.epochs) for one, top1 in rows]


def share(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_logit_keeps_half_an_image_away_from_all_and_none() -> None:
    assert logit(0.5, 10) == 0.0
    assert logit(1.0, 10) == pytest.approx(math.log(19))
    assert logit(0.0, 10) == pytest.approx(-math.log(19))


def test_what_was_shown_is_foretold_and_what_is_far_is_doubted() -> None:
    rows = [(candidate(w), top1) for w, top1 in ((0.35, 0.7), (0.5, 0.8), (0.75, 0.88), (1.0, 0.92))]
    surrogate = Surrogate(shown(*rows), IMAGES)
    means, near = surrogate.top1([(one, 4) for one, _ in rows])
    for mean, (_, top1) in zip(means, rows, strict=True):
        assert share(mean) == pytest.approx(top1, abs=0.03)
    _, far = surrogate.top1([(candidate(0.5, "mobilenetv3_small"), 4)])
    assert far[0] > 2 * near.max()


def test_between_two_widths_lies_what_is_between_them() -> None:
    surrogate = Surrogate(shown((candidate(0.35), 0.6), (candidate(1.0), 0.95)), IMAGES)
    mean, _ = surrogate.top1([(candidate(0.6), 4)])
    assert 0.6 < share(mean[0]) < 0.95


def test_epochs_behind_the_weights_are_learned_from() -> None:
    rows = [
        Training(candidate(w), top1, epochs) for w in (0.35, 0.5, 1.0) for epochs, top1 in ((4.0, 0.6), (16.0, 0.9))
    ]
    surrogate = Surrogate(rows, IMAGES)
    (short, long), _ = surrogate.top1([(candidate(0.75), 4.0), (candidate(0.75), 16.0)])
    assert long > short + 1


def test_a_handful_of_like_results_does_not_make_it_sure() -> None:
    surrogate = Surrogate(shown((candidate(0.35), 0.9), (candidate(0.5), 0.9)), IMAGES)
    _, deviations = surrogate.top1([(candidate(1.0, "mobilenetv3_small"), 4)])
    assert deviations[0] > SPREAD / 2


def test_of_very_many_trainings_some_are_drawn_and_always_the_same() -> None:
    rows = shown(*((candidate(round(0.1 + n / 200, 4)), 0.5) for n in range(MOST + 40)))
    first, second = Surrogate(rows, IMAGES), Surrogate(rows, IMAGES)
    assert len(first.trainings) == MOST
    assert first.trainings == second.trainings


def test_usual_drops_grow_with_what_is_taken_away() -> None:
    drops = [usual_drop(parse(name)) for name in ("fp16", "int8/channel", "palette-6/tensor", "palette-4/tensor")]
    assert drops[0] == 0.0
    assert drops == sorted(drops)
    assert drops[-1] < 0.05


def test_drops_are_shrunk_to_the_usual_one_and_then_to_all_families() -> None:
    four = parse("palette-4/tensor")
    own = candidate().model_copy(update={"compression": four})
    assert Drops([]).of("mobilenet", four) == pytest.approx(usual_drop(four))
    general = (PRIOR * usual_drop(four) + 0.1 + 0.2) / (PRIOR + 2)
    drops = Drops([(own, 0.1), (own, 0.2)])
    assert drops.of("squeezenet", four) == pytest.approx(general)
    assert drops.of("mobilenet", four) == pytest.approx((PRIOR * general + 0.3) / (PRIOR + 2))
    assert np.isclose(drops.of("mobilenet", Compression()), 0.0)
