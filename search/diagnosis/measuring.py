"""What is run for a diagnosis: networks on their own training images, teachers at the temperature that they teach at, and
the layers of what was compressed too much, one by one.  Everything is on a fixed sample of training images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coreml_pareto.objectives.accuracy import Z95
from coreml_pareto.objectives.unpaired import Count
from coreml_pareto.search.data import DataSet, Split
from coreml_pareto.search.data.augment import to_float
from coreml_pareto.search.diagnosis import quantization
from coreml_pareto.search.diagnosis.case import Case, Measured, Past, Softness, uncompressed
from coreml_pareto.search.diagnosis.finding import Finding
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.record import STORE
from coreml_pareto.search.run import Result
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.sensitivity import NO_FORM, sensitivity
from coreml_pareto.search.stages.train import preprocessing_of, teach
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.compression import spell

IMAGES: Final = 512
"""Training images that are looked at, drawn per class."""
BATCH: Final = 128
MOST: Final = 3
"""Findings of quantization whose layers are measured."""

Tell = Callable[[str], None]


def measure(case: Case, data: DataSet, tell: Tell = lambda doing: None) -> Measured:
    """Run what the checks ask for, as far as trainings are in the run's store and were made on these training images."""
    sample = data.train.subset(data.train.sample(min(IMAGES, len(data.train)), seed=0))
    fits: dict[str, Count] = {}
    softness: dict[str, Softness] = {}
    for result in _of_front(case):
        past = case.past_of(result)
        if past is None or past.data != data.digest or past.key in fits or not _there(case, past):
            continue
        tell(f"trial {result.trial} on its training images")
        fits[past.key] = fit(_opened(case, past), sample)
        teacher = case.teacher_of(result)
        if teacher is not None and _there(case, teacher):
            tell(f"the teacher of trial {result.trial} at its temperature")
            side = past.network.resolution
            softness[past.key] = soften(_opened(case, teacher), sample, side, past.recipe.temperature)
    layers = dict(_layers(case, data, tell))
    return replace(case.measured, fits=fits, softness=softness, layers=layers, training_images=len(data.train))


def _of_front(case: Case) -> Iterable[Result]:
    on_front = {result.trial for result in case.front}
    return (group[0] for group in case.by_training if any(result.trial in on_front for result in group))


def _there(case: Case, past: Past) -> bool:
    return (case.run.folder / STORE / "train" / past.key / "weights.pt").is_file()


def _opened(case: Case, past: Past) -> Trained:
    return Trained.of(case.run.folder / STORE / "train" / past.key)


@torch.no_grad()
def fit(trained: Trained, sample: Split) -> Count:
    """How many of its training images, as they are, a torch network has right."""
    module, right = trained.module(), 0
    for pixels, targets in _portions(sample, trained.network.resolution, trained):
        logits = teach(module, trained.network, pixels)
        right += int((logits.argmax(1) == torch.from_numpy(targets)).sum())
    return Count(right, len(sample))


@torch.no_grad()
def soften(teacher: Trained, sample: Split, side: int, temperature: float) -> Softness:
    """A teacher's answers at a temperature, to pictures of the student's input size `side` in pixels, as in training."""
    module = teacher.module()
    parts = [teach(module, teacher.network, pixels) / temperature for pixels, _ in _portions(sample, side, teacher)]
    soft = torch.log_softmax(torch.cat(parts).double(), dim=1)
    probabilities = soft.exp()
    entropy = -(probabilities * soft).sum(1) / math.log(soft.shape[1])
    beside = 1 - probabilities.max(dim=1).values
    return Softness(_mean(entropy), _mean(beside), len(sample))


def _portions(sample: Split, side: int, trained: Trained) -> Iterable[tuple[Tensor, NDArray[np.int64]]]:
    """Pixels in 0..1 [batch, 3, side, side] and targets."""
    rule = preprocessing_of(trained.network.model_copy(update={"resolution": side}))
    for images, targets in sample.batches(rule, BATCH):
        yield to_float(torch.from_numpy(images)), targets


def _mean(values: Tensor) -> tuple[float, float, float]:
    """Mean and its 95 % interval by the central limit theorem: the sample has hundreds of images."""
    mean = float(values.mean())
    half = Z95 * float(values.std(correction=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return mean, mean - half, mean + half


def _layers(case: Case, data: DataSet, tell: Tell) -> Iterable[tuple[int, tuple[str, ...]]]:
    """The layers that cost most, of the worst trial of each scheme that was found excessive."""
    findings = [one for one in quantization.check(case) if isinstance(one, Finding)]
    by_trial = {result.trial: result for result in case.packages}
    for finding in findings[:MOST]:
        result = by_trial[finding.trials[0]]
        plain = uncompressed(tuple(r for r in case.packages if r.candidate.training == result.candidate.training))
        compression = result.candidate.compression
        if plain is None or not isinstance(plain.outcome, Scored) or not plain.outcome.package.is_dir():
            continue
        if compression.scheme in NO_FORM or plain.candidate.compression.scheme != "fp16":
            continue
        tell(f"each layer of trial {plain.trial} alone as {spell(compression)}")
        store = Store(case.run.folder / STORE)
        calibration = Packager(store, data, {}).calibration(result.candidate.network)
        found = sensitivity(store, plain.outcome.package, calibration, [compression])
        worst = sorted(found.effects, key=lambda effect: -effect.divergence)[: quantization.NAMED]
        yield (
            result.trial,
            tuple(
                f"{effect.layer}: alone {_lost(found.top1 - effect.top1)} on {found.images} training images, logits at "
                f"{effect.logits_db:.0f} dB"
                for effect in worst
            ),
        )


def _lost(share: float) -> str:
    """`4.7 points lost`, `0.8 points gained`."""
    return f"{100 * abs(share):.1f} points {'gained' if share < 0 else 'lost'}"
