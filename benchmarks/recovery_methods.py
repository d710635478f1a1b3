"""Which training under a compression regains most?  Our projections against coremltools' and coreai-opt's own.

One training on digits for each network and seed, its folded form trained on for some epochs by each method, with the same
batches, loss and schedule, at several learning rates; then stored with `compress`'s own arithmetic. Ours is once trained
as it is in `recover`, once with the weights' absolute values. coreai-opt is measured where it can be imported (e.g.
`pip install --no-deps --target FOLDER coreai-opt torchao`, then PYTHONPATH=FOLDER).

Prints top-1 on the validation images and seconds of the processor per epoch, and stores them with their conditions in
`benchmarks/results/recovery_methods.json`; rows that were not measured this time stay.

    python benchmarks/recovery_methods.py [--threads 2] [--epochs 2] [--seeds 1] [--only mobilenetv3_small] [--store FOLDER]
        [--compressions palette-2 ...] [--methods own ...] [--rates 0.3 1]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, store
from torch import nn
from torch.nn.utils import parametrize

from coreml_pareto.objectives.program.quiet import coremltools as ct
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.budget import DEFAULT_EPOCHS
from coreml_pareto.search.data import load_data
from coreml_pareto.search.stages import recover
from coreml_pareto.search.stages.compress import Plan
from coreml_pareto.search.stages.train import Follow, Trainer, Training, glance, normalisers, preprocessing_of
from coreml_pareto.search.stages.trained import Trained
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Compression, Network, Recipe
from coreml_pareto.spaces.compression import parse, spell
from coreml_pareto.spaces.families import training_defaults

NETWORKS = (
    Network(family="mobilenet", backbone="mobilenetv3_small", width=0.5, resolution=48, stem_stride=1, classes=10),
    Network(family="squeezenet", backbone="squeezenet1_1", resolution=48, stem_stride=1, classes=10),
)
COMPRESSIONS = ("palette-2", "pruning-50", "palette-4")
RATES = (0.3, 1.0)
"""Learning rates as multiples of the recipe's."""

Prepared = tuple[nn.Module, Follow, AbstractContextManager[Any], Callable[[], nn.Module]]
"""The module to train, what follows each step, what surrounds the training, and what gives plain weights back."""


def ours(module: nn.Module, plan: Plan, steps: int) -> Prepared:
    """Projections on relative weights."""
    return module, recover.put_under(module, plan), nullcontext(), lambda: module


def absolute(module: nn.Module, plan: Plan, steps: int) -> Prepared:
    """Projections on the weights themselves."""
    follow = recover.put_under(module, plan)
    with torch.no_grad():
        for part in module.modules():
            if parametrize.is_parametrized(part, "weight"):
                slots = part.parametrizations["weight"]
                slots.original.mul_(slots[0].scale)
                slots[0].scale.fill_(1.0)
    return module, follow, nullcontext(), lambda: module


def coremltools(module: nn.Module, plan: Plan, steps: int) -> Prepared:
    """coremltools.optimize.torch: DKM for palettes, magnitudes for pruning; layers of the plan, none left out."""
    torch_side = ct.optimize.torch
    palettes, pruning = torch_side.palettization, torch_side.pruning
    if next(iter(plan.values())).scheme == "palette":
        kind, config = palettes.DKMPalettizer, palettes.DKMPalettizerConfig
        parts = {
            name: palettes.ModuleDKMPalettizerConfig(n_bits=form.bits, weight_threshold=0)
            for name, form in plan.items()
        }
    else:
        kind, config = pruning.MagnitudePruner, pruning.MagnitudePrunerConfig
        ramp = pruning.PolynomialDecayScheduler(update_steps=f"range(0, {steps // 2}, 1)")
        parts = {
            name: pruning.ModuleMagnitudePrunerConfig(scheduler=ramp, target_sparsity=form.sparsity)
            for name, form in plan.items()
        }
    with quiet():
        optimiser = kind(module, config(module_name_configs=parts))
        prepared = optimiser.prepare(inplace=True)
    return prepared, lambda done: optimiser.step(), nullcontext(), lambda: optimiser.finalize(inplace=True)


def coreai(module: nn.Module, plan: Plan, steps: int) -> Prepared:
    """coreai-opt: k-means palettes, magnitudes for pruning."""
    import coreai_opt.palettization as palettes
    import coreai_opt.pruning as pruning
    from coreai_opt import ExportBackend
    from coreai_opt.pruning.config.sparsity_schedule import PolynomialDecaySchedule

    form = next(iter(plan.values()))
    if form.scheme == "palette":
        spec: Any = palettes.PalettizationSpec(n_bits=form.bits)
        part: Any = palettes.ModuleKMeansPalettizerConfig(op_state_spec={"weight": spec})
        config = palettes.KMeansPalettizerConfig(global_config=None, module_name_configs=dict.fromkeys(plan, part))
        optimiser: Any = palettes.KMeansPalettizer(module, config)
    else:
        spec = pruning.PruningSpec(target_sparsity=form.sparsity)
        ramp = PolynomialDecaySchedule(total_iters=max(1, steps // 2))
        part = pruning.ModuleMagnitudePrunerConfig(op_state_spec={"weight": spec}, sparsity_schedule=ramp)
        config = pruning.MagnitudePrunerConfig(global_config=None, module_name_configs=dict.fromkeys(plan, part))
        optimiser = pruning.MagnitudePruner(module, config)
    prepared = optimiser.prepare((torch.zeros(1, 3, NETWORKS[0].resolution, NETWORKS[0].resolution),))
    surrounding = optimiser.training_mode() if form.scheme == "palette" else nullcontext()
    return prepared, lambda done: optimiser.step(), surrounding, lambda: optimiser.finalize(backend=ExportBackend.Torch)


METHODS: dict[str, Callable[[nn.Module, Plan, int], Prepared]] = {
    "own": ours,
    "own, absolute": absolute,
    "coremltools": coremltools,
    **({"coreai-opt": coreai} if importlib.util.find_spec("coreai_opt") else {}),
}


def main() -> None:
    """Train, recover by every method, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", choices=[network.backbone for network in NETWORKS])
    parser.add_argument("--compressions", nargs="+", default=COMPRESSIONS)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--store", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Store(asked.store or Path(folder)), load_data("digits"), "false", "cpu")
        for network in (network for network in NETWORKS if asked.only in (None, network.backbone)):
            for seed in range(asked.seeds):
                recipe = Recipe(epochs=DEFAULT_EPOCHS, seed=seed, **vars(training_defaults(network.family)))
                trained = trainer.train(network, recipe, lambda step: None)
                for compression in map(parse, asked.compressions):
                    ways = list(product(asked.methods, asked.rates))
                    rows = compared(trainer, trained, compression, asked.epochs, ways)
                    keep(rows, data="digits", validation_images=len(trainer.data.validation))


def keep(rows: list[dict[str, object]], **conditions: object) -> None:
    """Store rows in the place of those of the same network, seed and compression."""
    path = RESULTS / "recovery_methods.json"
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    same = ("network", "seed", "compression")
    others = [row for row in before if any(row[key] != rows[0][key] for key in same)]
    store("recovery_methods", [*others, *rows], **conditions)


def compared(
    trainer: Trainer, trained: Trained, compression: Compression, epochs: int, ways: Sequence[tuple[str, float]]
) -> list[dict[str, object]]:
    """Rows of one compression: stored without training, and after each method at each learning rate."""
    shared = {"network": trained.network.label, "seed": trained.recipe.seed, "compression": spell(compression)}
    shared |= {"trained_top1": trained.record["glance_top1"]}
    module = recover.folded(trained)
    plan = recover.plan_for(module, trained.network.resolution, compression)
    rows: list[dict[str, object]] = [{**shared, "method": "none", "top1": stored_top1(trainer, trained, module, plan)}]
    print(*rows[0].values(), flush=True)
    for method, rate in ways:
        try:
            found = regained(trainer, trained, plan, method, rate, epochs)
        except Exception as error:  # a tool that cannot is a finding, too
            found = {"failed": f"{type(error).__name__}: {error}"}
        rows.append({**shared, "method": method, "rate": rate, **found})
        print(*rows[-1].values(), flush=True)
    return rows


def regained(
    trainer: Trainer, trained: Trained, plan: Plan, method: str, rate: float, epochs: int
) -> dict[str, object]:
    """Top-1 of what is stored after a training, and its seconds per epoch."""
    module = recover.folded(trained)
    changes = {"epochs": epochs, "learning_rate": rate * trained.recipe.learning_rate, "weight_decay": 0.0}
    recipe = trained.recipe.model_copy(update=changes)
    steps = len(trainer.data.train) // recipe.batch_size * epochs
    began = time.process_time()
    prepared, follow, surrounding, finish = METHODS[method](module, plan, steps)
    preparing = time.process_time() - began
    with tempfile.TemporaryDirectory() as work, surrounding:
        training = Training(
            trainer, trained.network, recipe, prepared, None, Path(work), trainer.seed(trained.network, recipe),
            lambda step: None, inference=method.startswith("own"), follow=follow,
        )  # fmt: skip
        began = time.process_time()
        training.run()
        seconds = (time.process_time() - began) / epochs
    top1 = stored_top1(trainer, trained, plain(trained, finish()), plan)
    return {
        "epochs": epochs,
        "top1": top1,
        "seconds_per_epoch": round(seconds, 2),
        "seconds_to_prepare": round(preparing, 2),
    }


def plain(trained: Trained, module: nn.Module) -> nn.Module:
    """The folded network with the weights of a module that was trained in its place."""
    fresh = recover.folded(trained)
    recover.settle(module, {})
    fresh.load_state_dict({name: value for name, value in module.state_dict().items() if name in fresh.state_dict()})
    return fresh


def stored_top1(trainer: Trainer, trained: Trained, module: nn.Module, plan: Plan) -> float:
    """Top-1 on the validation images after storing every weight of the plan."""
    recover.settle(module, plan)
    network = trained.network
    rule, norms = preprocessing_of(network), normalisers(network, torch.device("cpu"))
    return glance(module, trainer.data.validation, rule, *norms)


if __name__ == "__main__":
    main()
