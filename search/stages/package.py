"""From trained (or, for a probe, random) weights to a saved, compressed package in the store.

A network is converted once per minimum OS and precision; every compression that works on the Core ML side reads that
conversion, or that of a network which was fine-tuned under the compression. W8A8 reads the trained weights and calibrates
on training images. A probe is the package of the same network with random weights: it has the same bytes (pruning and
mixed precision: nearly), costs no training, and so tells size, latency, memory and energy before the first gradient step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, final

import torch
from numpy.typing import NDArray
from torch import nn

from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.program.record import ASKED, read_record
from coreml_pareto.search.data import DataSet
from coreml_pareto.search.stages import upgrade
from coreml_pareto.search.stages.allocate import Option
from coreml_pareto.search.stages.compress import Plan, Weights, compress, heavy_weights, signal_to_noise
from coreml_pareto.search.stages.convert import Wrapping, convert, save
from coreml_pareto.search.stages.mixed import assumed_options, forms_for, measured_options, write_within
from coreml_pareto.search.stages.recover import (
    Recovered,
    Tuning,
    as_stored,
    folded,
    recover,
    renamed,
    tuner,
    tuning_recipe,
    weights_in_order,
)
from coreml_pareto.search.stages.rewrite import Source as Converted
from coreml_pareto.search.stages.sensitivity import Calibration, sensitivity
from coreml_pareto.search.stages.train import lesson, preprocessing_of
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.stages.w8a8 import convert_w8a8, require_traceable
from coreml_pareto.search.store import Store, stage_key
from coreml_pareto.spaces.candidate import Compression, Network
from coreml_pareto.spaces.compression import describe, minimum_os, parse, spell
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import build

Source = Trained | Recovered
"""What gives a package its weights."""

PROBE_SEED = 20
RECORD = 512
"""Characters of the training's record in a package, or a multiple where a teacher's path is very long."""
SENSITIVITY_IMAGES = 128
"""Training images on which the layers' sensitivity is measured for mixed precision."""
KEPT_DB = 50.0
"""Signal-to-noise ratio above which a weight counts as stored as it was trained: 8-bit integers with offsets move by the
last bit of fp16 (58 dB and more), all other forms not at all."""
PROBE_CALIBRATION = 8
"""Calibration images of a W8A8 probe: ranges differ from the trained network's, bytes do not."""


@final
@dataclass(frozen=True)
class Packager:
    """Turns networks into packages for one data set; `splits` is how it was split, so that it can be split so again."""

    store: Store
    data: DataSet
    splits: Mapping[str, int | float | None]

    def package(self, trained: Trained, compression: Compression, tuning: Tuning | None = None) -> Path:
        """Return the saved package of a trained network, from the store or made now.

        Args:
            tuning: for compressions that are fine-tuned.

        Raises:
            TrainingError: the loss of the fine-tuning is no number.
            UserError: mixed precision whose target even the smallest forms exceed.
        """
        if not compression.fine_tune_epochs:
            return self._produce(trained.key, trained.network, compression, trained)
        if tuning is None:
            raise ValueError(f"{describe(compression)} is fine-tuned, and nobody says with what.")
        if compression.scheme == "w8a8":
            recipe = tuning_recipe(trained.recipe, compression.fine_tune_epochs)
            read = lesson(recipe, tuning.trainer.data, trained.network, tuning.teacher)
            key = stage_key(source=trained.key, **read)
            return self._produce(key, trained.network, compression, trained, tuning=tuning)
        plan = self._layer_plan(trained, compression) if compression.scheme == "mixed" else None
        recovered = recover(tuning.trainer, trained, compression, tuning.progress, tuning.teacher, plan)
        return self._produce(recovered.key, trained.network, compression, recovered, plan=plan)

    def made(self, trained: Trained, compression: Compression) -> bool:
        """Whether the package of a training is there; of one that is fine-tuned this is not known without tuning it."""
        key = self._key(trained.key, trained.network, compression)
        return not compression.fine_tune_epochs and self.store.find("package", key) is not None

    def probe(self, network: Network, compression: Compression) -> Path:
        """Return the package of the same network with random weights, biases and batch-norm statistics."""
        key = stage_key(probe=network.digest, classes=self.data.classes)
        return self._produce(key, network, compression.model_copy(update={"fine_tune_epochs": 0}), None)

    def require_possible(self, network: Network, compression: Compression) -> None:
        """Refuse, before anything is trained, what this network does not admit whatever its weights are.

        Its structure decides, so backbones are looked at once, at one width and resolution.

        Raises:
            UserError: W8A8 of a network that cannot be traced; fine-tuning where the conversion changes the weights.
        """
        look = self._untraceable if compression.scheme == "w8a8" else self._unkept
        if compression.scheme != "w8a8" and not compression.fine_tune_epochs:
            return
        key = stage_key(possible=look.__name__, family=network.family, backbone=network.backbone, depth=network.depth)

        def make(work: Path) -> None:
            (work / "refusal.txt").write_text(look(network))

        if refusal := (self.store.produce("possible", key, make) / "refusal.txt").read_text():
            raise UserError(refusal)

    def _untraceable(self, network: Network) -> str:
        """Why there is no W8A8 of a network; empty where there is."""
        try:
            require_traceable(randomised(network), network)
        except UserError as refusal:
            return str(refusal)
        return ""

    def _unkept(self, network: Network) -> str:
        """Why the package would not hold the weights that fine-tuning trains; empty where it does."""
        module = as_stored(randomised(network), network.resolution)
        trained = weights_in_order(module, network.resolution)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.mlpackage"
            save(convert(module, self._wrapping(network, None), minimum_os=16, precision="fp16"), path)
            held = heavy_weights(load(path))
        if len(held) != len(trained):
            return _not_kept(network.backbone, f"{len(trained)} weights become {len(held)}")
        pairs = zip(trained.items(), held.values(), strict=True)
        changed = [name for (name, weight), stored in pairs if not _same(weight, stored)]
        if not changed:
            return ""
        return _not_kept(network.backbone, f"{len(changed)} weights are changed, {changed[0]} for one")

    def _layer_plan(self, trained: Trained, mixed: Compression) -> Plan:
        """What mixed precision does to the trained network, by the names of the folded network's layers."""
        program = load(self.package(trained, mixed.model_copy(update={"fine_tune_epochs": 0})))
        record, doubt = read_record(program)
        if record is None:
            raise RuntimeError(doubt or f"{program.path} has no record of its layers.")
        plan = {name: parse(row.applied) for name, row in record.layers.items() if row.applied}
        layers = weights_in_order(folded(trained), trained.network.resolution)
        if len(layers) != len(record.layers):
            raise RuntimeError(_not_kept(trained.network.label, f"{len(layers)} weights become {len(record.layers)}"))
        return renamed(plan, record.layers, layers)

    def _produce(
        self, key: str, network: Network, compression: Compression, source: Source | None,
        *, plan: Plan | None = None, tuning: Tuning | None = None,
    ) -> Path:  # fmt: skip
        def make(work: Path) -> None:
            target = work / "model.mlpackage"
            if compression.scheme == "w8a8":
                save(self._w8a8(network, compression, source, tuning, work), target)
            elif compression.scheme == "mixed":
                self._write_mixed(target, key, network, compression, source, plan)
            else:
                converted = _read(self._converted(key, network, compression, source))
                compress(converted, target, compression, {ASKED: spell(compression)}, probe=source is None)
            if isinstance(source, Recovered):
                _require_kept(target, network)

        stage, about = "package" if source else "probe", f"{network.label}, {describe(compression)}"
        return self.store.produce(stage, self._key(key, network, compression), make, about) / "model.mlpackage"

    def _key(self, source: str, network: Network, compression: Compression) -> str:
        return stage_key(source=source, compression=compression.digest, wrapping=self._identity(network))

    def _write_mixed(
        self, target: Path, key: str, network: Network, compression: Compression, source: Source | None,
        known: Plan | None,
    ) -> None:  # fmt: skip
        """Write a package under the plan that is `known` by the layers' names, or under the best one."""
        path = self._converted(key, network, compression, source)
        converted = _read(path)

        def write(plan: Plan) -> Path:
            compress(converted, target, compression, {ASKED: spell(compression)}, plan=plan, probe=source is None)
            return target

        weights = heavy_weights(converted.program)
        if known is None or source is None:
            options = self._options(weights, path, network, compression, source)
            write_within(compression, weights, options, path, write)
            return
        write(renamed(known, weights_in_order(source.module(), network.resolution), weights))

    def _options(
        self, weights: Weights, converted: Path, network: Network, compression: Compression, source: Source | None
    ) -> dict[str, list[Option]]:
        """What each layer may be under mixed precision, and the harm of it."""
        if source is None:
            return assumed_options(weights, compression)
        found = sensitivity(self.store, converted, self.calibration(network), forms_for(compression))
        return measured_options(weights, found.effects)

    def calibration(self, network: Network) -> Calibration:
        """The training images on which sensitivity is measured; the validation split judges the result."""
        split = self.data.train
        rows = split.sample(min(SENSITIVITY_IMAGES, len(split)), seed=0)
        rule = preprocessing_of(network)
        return Calibration.of(split.images(rule)[rows], split.targets[rows], self.data.digest, rule)

    def _converted(self, key: str, network: Network, compression: Compression, source: Source | None) -> Path:
        """Return the uncompressed package for a compression's minimum OS and precision, converted once for each."""
        precision: Literal["fp16", "fp32"] = "fp32" if compression.scheme == "fp32" else "fp16"
        return self._conversion(key, network, source, minimum_os(compression), precision)

    def _conversion(
        self, key: str, network: Network, source: Source | None, oldest: int, precision: Literal["fp16", "fp32"]
    ) -> Path:
        def make(work: Path) -> None:
            if oldest == upgrade.NEW:
                older = self._conversion(key, network, source, upgrade.OLD, precision)
                if upgrade.upgrade(older, work / "model.mlpackage"):
                    return
            module = source.module() if source else randomised(network)
            model = convert(module, self._wrapping(network, source), minimum_os=oldest, precision=precision)
            save(model, work / "model.mlpackage")

        converted_key = stage_key(source=key, minimum_os=oldest, precision=precision, wrapping=self._identity(network))
        about = f"{network.label}, {precision} for iOS {oldest}" + ("" if source else ", random weights")
        return self.store.produce("convert", converted_key, make, about) / "model.mlpackage"

    def _w8a8(
        self, network: Network, compression: Compression, source: Source | None, tuning: Tuning | None, work: Path
    ) -> Any:
        module = source.module() if source else randomised(network)
        split = self.data.train
        count = min(compression.calibration_images if source else PROBE_CALIBRATION, len(split))
        rows = split.sample(count, seed=0)
        train = None
        if tuning is not None and isinstance(source, Trained):
            epochs = compression.fine_tune_epochs
            train = tuner(tuning.trainer, source, epochs, tuning.progress, tuning.teacher, work)
        model, _ = convert_w8a8(
            module,
            split.images(preprocessing_of(network))[rows],
            self._wrapping(network, source, compression),
            calibration=compression.calibration,
            train=train,
            minimum_os=minimum_os(compression),
            probe=source is None,
        )
        model.user_defined_metadata[ASKED] = spell(compression)
        return model

    def _wrapping(self, network: Network, source: Source | None, compression: Compression | None = None) -> Wrapping:
        names = self.data.classes
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        return Wrapping(
            network=network,
            classes=names,
            preprocessing=preprocessing_of(network),
            metadata={**self._provenance(network), f"{PREFIX}training": training_record(source, compression)},
            description=f"Classifies images into {len(names)} classes ({shown}) with {network.label}",
        )

    def _provenance(self, network: Network) -> Mapping[str, str]:
        return {
            f"{PREFIX}network": json.dumps(network.model_dump(), sort_keys=True),
            f"{PREFIX}data": self.data.digest,
            f"{PREFIX}splits": json.dumps(dict(self.splits), sort_keys=True),
        }

    def _identity(self, network: Network) -> dict[str, object]:
        """What a package holds besides its weights."""
        return {
            "classes": list(self.data.classes),
            "provenance": dict(self._provenance(network)),
            "preprocessing": preprocessing_of(network).model_dump(),
        }


@lru_cache(maxsize=1)
def _read(converted: Path) -> Converted:
    """A conversion in the store, read once for all compressions of a network that follow each other.

    One is kept, about a megabyte of text: its weights stay on disk, and a store never changes what it holds.
    """
    return Converted.read(converted)


def _require_kept(package: Path, network: Network) -> None:
    """Refuse a package that does not hold the weights which were trained: they were stored once more, with a loss."""
    record, _ = read_record(load(package))
    lost = (
        [name for name, row in record.layers.items() if row.snr_db is not None and row.snr_db < KEPT_DB]
        if record
        else []
    )
    if lost:
        raise RuntimeError(_not_kept(network.label, f"{len(lost)} weights are changed, {lost[0]} for one"))


def _same(weight: torch.Tensor, stored: NDArray[Any]) -> bool:
    """Whether a weight is stored as it is; a linear layer's may be in another shape."""
    same_size = weight.numel() == stored.size
    return same_size and signal_to_noise(weight.numpy().reshape(stored.shape), stored) > KEPT_DB


def _not_kept(network: str, what: str) -> str:
    return (
        f"the conversion of {network} changes the weights that fine-tuning trained ({what}: scales are merged into "
        "them, or equal ones are stored once); take 0 fine_tune_epochs for this network"
    )


def training_record(source: Source | None, integers: Compression | None = None) -> str:
    """Return as JSON how a network was trained: key, recipe, initial weights, and what its compression trained or saw.

    Padded with spaces to the same length for (nearly) every training, so that a probe's package has the same bytes.

    Args:
        integers: the W8A8 whose package this is, which is calibrated, and fine-tuned without a training of its own.
    """
    facts: dict[str, object] = {}
    if source is not None:
        recipe, weights = source.recipe.model_dump(), source.record["initial_weights"]
        facts = {"key": source.key, "initial_weights": weights, "recipe": recipe}
    if isinstance(source, Recovered):
        facts["fine_tune_epochs"] = len(source.record["history"])
    if source is not None and integers is not None:
        names = ("fine_tune_epochs", "calibration", "calibration_images")
        facts |= {name: getattr(integers, name) for name in names}
    text = json.dumps(facts, sort_keys=True)
    return text.ljust(RECORD * math.ceil(len(text) / RECORD))


def randomised(network: Network) -> nn.Module:
    """Build a network with random weights, biases and batch-norm statistics.

    Zeros and ones would be merged or folded away by the converter, and the package would come out smaller than the
    trained one.
    """
    torch.manual_seed(PROBE_SEED)
    module = build(network)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
                part.running_mean.uniform_(-0.5, 0.5)
                if part.running_var is not None:
                    part.running_var.uniform_(0.5, 1.5)
        for parameter in module.parameters():
            constant = bool((parameter == parameter.reshape(-1)[0]).all())  # such as gains [outputs, 1, 1, 1]
            if parameter.ndim <= 1 or constant:
                parameter.uniform_(0.1, 0.9)
            else:  # layers of one shape begin in one range: their tables would be equal, and be stored once
                parameter.mul_(torch.empty(()).uniform_(0.5, 1.5))
    return module.eval()
