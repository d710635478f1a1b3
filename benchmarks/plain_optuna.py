"""The peer of `search_efficiency.py`: what a competent engineer writes in an afternoon with plain Optuna.

Each trial draws a network, a recipe and a compression by Optuna's default sampler, trains from scratch (teachers once in
a process, as anyone would), converts with coremltools, compresses with coremltools, saves, and scores the saved package
on the validation split. Networks, training loop and executor are this project's, so that the two differ in the search
alone; conversion and compression are coremltools' own, used as its guide says.

    python benchmarks/plain_optuna.py STUDY.yaml --out FOLDER --timeout 600 --seed 0
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any, final

import coremltools as ct
import coremltools.optimize.coreml as cto
import optuna
import torch

from coreml_pareto.objectives.accuracy import evaluate
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.score import static_score
from coreml_pareto.search.config import Plan, load_plan
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.search.preparation import limited
from coreml_pareto.search.stages.convert import Classifier
from coreml_pareto.search.stages.train import Trainer, preprocessing_of
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import Store
from coreml_pareto.search.teaching import teacher_network, teacher_recipe
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.compression import spell
from coreml_pareto.spaces.space import Knob

WEIGHTS: dict[str, Any] = {
    "fp16": None,
    "int8/channel": cto.OpLinearQuantizerConfig(mode="linear_symmetric"),
    "palette-8/tensor": cto.OpPalettizerConfig(mode="kmeans", nbits=8),
    "palette-6/tensor": cto.OpPalettizerConfig(mode="kmeans", nbits=6),
    "palette-4/tensor": cto.OpPalettizerConfig(mode="kmeans", nbits=4),
}
"""Compressions as coremltools' guide writes them."""


@final
class Peer:
    """One study: `objective` is what Optuna optimises."""

    def __init__(self, plan: Plan, data: DataSet, out: Path, seed: int) -> None:
        self.plan, self.data, self.out, self.seed = plan, data, out, seed
        self.space, self.classes = plan.space(len(data.classes)), len(data.classes)
        self.teacher = cache(self._teacher)

    def objective(self, trial: optuna.Trial) -> tuple[float, float, float]:
        """Return validation error, bytes and multiply-accumulates of a saved package."""

        def choose(knob: Knob) -> Any:
            return trial.suggest_categorical(knob.name, knob.choices)

        candidate = self.space.decode(choose)
        path = self.out / f"{trial.number:04d}.mlpackage"
        with tempfile.TemporaryDirectory() as folder:  # nothing of a training is kept
            self._save(candidate, self._trained(candidate, Path(folder)), path)
        program = load(path)
        split = self.data.validation
        result = evaluate(program, split.batches(preprocessing_of(candidate.network), 128), split="validation")
        known = static_score(program, self.plan.target.resolve())
        with (self.out / "packages.jsonl").open("a") as file:
            facts = {"at": time.time(), "package": path.name, "resolution": candidate.network.resolution}
            file.write(json.dumps(facts) + "\n")
        return 1 - result.score["top1"].value, known["size_bytes"].value, known["macs"].value

    def _trained(self, candidate: Candidate, folder: Path) -> Trained:
        teacher = self.teacher(candidate.recipe.teacher) if candidate.recipe.teacher else None
        return self._trainer(folder).train(candidate.network, candidate.recipe, lambda step: None, teacher)

    def _trainer(self, folder: Path) -> Trainer:
        return Trainer(Store(folder), self.data, self.plan.networks.pretrained, self.plan.training.device)

    def _teacher(self, name: str) -> Trained:
        network, recipe = teacher_network(self.plan, name, self.classes), teacher_recipe(self.plan, name, self.classes)
        return self._trainer(self.out / "teachers").train(network, recipe, lambda step: None)

    def _save(self, candidate: Candidate, trained: Trained, path: Path) -> None:
        side = candidate.network.resolution
        module = Classifier(trained.module(), candidate.network).eval()
        exported = torch.export.export(module, (torch.zeros(1, 3, side, side),)).run_decompositions({})
        model = ct.convert(
            exported,
            inputs=[ct.ImageType(name="image", shape=(1, 3, side, side), color_layout=ct.colorlayout.RGB)],
            classifier_config=ct.ClassifierConfig(list(self.data.classes)),
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT16,
        )
        name = spell(candidate.compression)
        if WEIGHTS[name] is not None:
            config = cto.OptimizationConfig(global_config=WEIGHTS[name])
            compress = cto.linear_quantize_weights if name.startswith("int") else cto.palettize_weights
            model = compress(model, config)
        model.save(str(path))


def main() -> None:
    """Search until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    plan = load_plan(asked.study, {"training": {"rungs": 1}, "search": {"seed": asked.seed}})
    asked.out.mkdir(parents=True)
    data = limited(load_data(str(plan.data), seed=plan.splits.seed, limit=plan.splits.limit), plan)
    peer = Peer(plan, data, asked.out, asked.seed)
    sampler = optuna.samplers.TPESampler(seed=asked.seed)  # Optuna's default, repeatable
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
    study.optimize(peer.objective, timeout=asked.timeout, catch=(Exception,))


if __name__ == "__main__":
    main()
