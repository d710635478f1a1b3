"""How much does a network's answer suffer when one layer alone is compressed?  Measured, layer by layer and form by form.

Each weight of a convolution or linear layer is replaced by what the compressed package would hold, everything else left
as it is, and the package is run on calibration images. Two measures, both against the unchanged package's logits:
the signal-to-noise ratio of the logits (each image's centred, because a softmax does not see their mean), and the
divergence KL(unchanged ‖ changed) of the probabilities in nats, which grows with the square of small disturbances and
adds up over layers that disturb independently (that is what mixed precision relies on); and top-1 on the same images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax

from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.program import Executor, Program, content_digest, load
from coreml_pareto.objectives.program.record import LOSSLESS
from coreml_pareto.search.stages.compress import Layer, decided, forms_of, heavy_weights, stored_bits, with_noise
from coreml_pareto.search.stages.forms import Form
from coreml_pareto.search.store import Store, stage_key
from coreml_pareto.spaces.candidate import Compression, Network
from coreml_pareto.spaces.compression import every_compression, minimum_os, parse, spell
from coreml_pareto.spaces.errors import UserError

Array = NDArray[Any]

KEPT = 1 << 28
"""Bytes of values that are kept of the unchanged package, at most: images are taken in portions of that size."""

NO_FORM = frozenset({"fp32", "fp16", "mixed", "w8a8"})
"""Schemes that are no form of one weight."""


@final
@dataclass(frozen=True)
class Effect:
    """One layer alone in one form.

    Attributes:
        layer: the weight's name in the program.
        compression: asked for, as a study writes it.
        applied: in blocks or groups that divide the layer's channels.
        bits: per weight, tables, scales and masks counted.
        weight_db: signal-to-noise ratio of the weight, dB.
        logits_db: signal-to-noise ratio of the logits, dB.
        divergence: KL of the probabilities, nats per image.
        top1: share of the calibration images that are right.
    """

    layer: str
    compression: str
    applied: str
    bits: float
    weight_db: float
    logits_db: float
    divergence: float
    top1: float


@final
@dataclass(frozen=True)
class Sensitivity:
    """Effects on a package, its own top-1 on the same images, and how many these were."""

    effects: tuple[Effect, ...]
    top1: float
    images: int

    @property
    def compressions(self) -> list[str]:
        """What was measured, by the bits that it takes on the average, the most first."""
        bits: dict[str, list[float]] = {}
        for effect in self.effects:
            bits.setdefault(effect.compression, []).append(effect.bits)
        return sorted(bits, key=lambda name: -sum(bits[name]) / len(bits[name]))

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Sensitivity:
        """Read what `dump` wrote."""
        content = json.loads(text)
        return cls(tuple(Effect(**row) for row in content["effects"]), content["top1"], content["images"])


@final
@dataclass(frozen=True)
class Calibration:
    """Images that a package is run on: its inputs, the index of the right class for each, and what names them."""

    inputs: Array
    targets: NDArray[np.int64]
    identity: str

    @classmethod
    def of(cls, inputs: Array, targets: NDArray[np.int64], data: str, rule: object) -> Calibration:
        """Name training images by the digest of their data set, how many they are, and the pre-processing rule."""
        return cls(inputs, targets, f"{data} {len(targets)} of train {rule}")


@final
@dataclass(frozen=True)
class Variant:
    """One weight in one form; the layer says what was asked and what the form does to the weight."""

    layer: Layer
    form: Form

    @property
    def bits(self) -> float:
        """Bits of everything that is stored."""
        return stored_bits(self.layer.shape, parse(str(self.layer.applied)))


def legal_forms(oldest: int, *, block: int = 32, group: int = 16) -> tuple[Compression, ...]:
    """What a single weight can be stored as on iOS `oldest`; evenly spaced tables are left out: k-means loses less."""
    rows = every_compression(block=block, group=group)
    return tuple(
        row for row in rows if row.scheme not in NO_FORM and row.mode != "uniform" and minimum_os(row) <= oldest
    )


def sensitivity(
    store: Store,
    package: Path,
    calibration: Calibration,
    compressions: Sequence[Compression],
    tell: Callable[[Compression], None] = lambda compression: None,
) -> Sensitivity:
    """Return the effects of all compressions on a saved package, from the store or measured now; each is kept by itself.

    Args:
        store: where what was measured is kept, by the package's content, the images and the compression.
        package: an image classifier, its weights in fp16 (what is compressed already is left as it is).
        compressions: forms of one weight.
        tell: told of each compression before it is measured.

    Raises:
        UserError: no scores for classes, or an operation that the executor does not know.
    """
    program = load(package)
    weights, content = heavy_weights(program), content_digest(program)

    def one(compression: Compression) -> Sensitivity:
        tell(compression)

        def make(work: Path) -> None:
            found = measure(program, calibration, variants(weights, compression))
            (work / "sensitivity.json").write_text(found.dump())

        key = stage_key(package=content, images=calibration.identity, compression=compression.digest)
        kept = store.produce("sensitivity", key, make, f"{_network(program)}, {spell(compression)}")
        return Sensitivity.load((kept / "sensitivity.json").read_text())

    found = [one(compression) for compression in compressions]
    order = {name: place for place, name in enumerate(weights)}
    effects = sorted((effect for part in found for effect in part.effects), key=lambda effect: order[effect.layer])
    return Sensitivity(tuple(effects), found[0].top1, found[0].images)


def _network(program: Program) -> str:
    """The label of a network of ours, the file's name of another."""
    known = program.metadata.get(f"{PREFIX}network")
    return Network.model_validate_json(known).label if known else program.path.name


def variants(weights: Mapping[str, Array], compression: Compression) -> list[Variant]:
    """Every weight that a compression makes smaller, in the form that it gets."""
    layers = {layer.name: layer for layer in decided(weights, compression) if layer.applied}
    forms = forms_of(weights, layers.values())
    return [Variant(with_noise(layers[name], weights[name], form), form) for name, form in forms.items()]


def measure(program: Program, calibration: Calibration, chosen: Sequence[Variant]) -> Sensitivity:
    """Run a package with each variant alone."""
    executor, name = Executor(program), program.logits or program.scores
    if name is None:
        raise UserError(f"sensitivity needs one score per class; {program.path.name} gives none: convert a classifier.")
    noise, divergence, hits = (np.zeros(len(chosen)) for _ in range(3))
    signal, own, images = 0.0, 0, len(calibration.targets)
    for inputs, targets in _portions(program, calibration):
        exact, labels = _rows(executor.run(inputs, [name])[name]), torch.as_tensor(targets)
        changes = ((variant.layer.name, variant.form.decoded()) for variant in chosen)
        for place, output in enumerate(executor.vary(inputs, changes, name)):
            rows = _rows(output)
            noise[place] += float((rows - exact).square().sum())
            divergence[place] += _divergence(exact, rows)
            hits[place] += int((rows.argmax(1) == labels).sum())
        signal += float(exact.square().sum())
        own += int((exact.argmax(1) == labels).sum())
    effects = (
        _effect(variant, signal / max(noise[place], 1e-30), divergence[place] / images, hits[place] / images)
        for place, variant in enumerate(chosen)
    )
    return Sensitivity(tuple(effects), own / images, images)


def _effect(variant: Variant, ratio: float, divergence: float, top1: float) -> Effect:
    layer = variant.layer
    return Effect(
        layer=layer.name,
        compression=layer.asked,
        applied=str(layer.applied),
        bits=variant.bits / math.prod(layer.shape),
        weight_db=min(layer.snr_db, LOSSLESS),
        logits_db=min(10 * math.log10(max(ratio, 1e-30)), LOSSLESS),
        divergence=divergence,
        top1=top1,
    )


def _portions(program: Program, calibration: Calibration) -> Iterator[tuple[Array, Array]]:
    """The images in portions whose values all fit into `KEPT` bytes."""
    each = sum(4 * kind.elements for kind in program.types.values())
    size = max(1, KEPT // max(1, each))
    for start in range(0, len(calibration.targets), size):
        yield calibration.inputs[start : start + size], calibration.targets[start : start + size]


def _rows(logits: Tensor) -> Tensor:
    """[images, classes], each image's mean taken off: a softmax does not see it."""
    rows = logits.reshape(len(logits), -1).double()
    return rows - rows.mean(1, keepdim=True)


def _divergence(exact: Tensor, changed: Tensor) -> float:
    """Sum over images of KL(exact ‖ changed) of the probabilities."""
    known, other = log_softmax(exact, 1), log_softmax(changed, 1)
    return float((known.exp() * (known - other)).sum())
