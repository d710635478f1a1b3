"""Which knob mattered: planted effects are found, noise is not told of, and only scored trials count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coreml_pareto.objectives.reading import exact
from coreml_pareto.search.outcome import Infeasible, Scored
from coreml_pareto.search.report.importance import LEAST, importances
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.candidate import Candidate, Network, Recipe
from coreml_pareto.spaces.compression import parse

Make = Callable[..., Any]
WIDTHS, SIDES = (0.35, 0.5, 0.75, 1.0), (32, 48, 64)


def candidate(width: float, side: int, scheme: str, seed: int, teacher: str | None, temperature: float) -> Candidate:
    network = Network(family="mobilenet", backbone="mobilenetv2", width=width, resolution=side, classes=10)
    taught = {"teacher": teacher, "temperature": temperature, "soft_weight": 1.0} if teacher else {}
    recipe = Recipe(epochs=8, learning_rate=1e-3, weight_decay=0.0, seed=seed, **taught)
    return Candidate(network=network, recipe=recipe, compression=parse(scheme))


def planted(result_at: Make, run_of: Make, count: int, seed: int = 0) -> Run:
    """Size follows the width, top-1 the temperature of those that are taught, latency nothing at all."""
    rng, results = np.random.default_rng(seed), []
    for number in range(count):
        width, side = float(rng.choice(WIDTHS)), int(rng.choice(SIDES))
        teacher, temperature = ("resnet18", float(rng.choice([2.0, 4.0, 8.0]))) if rng.random() < 0.7 else (None, 1.0)
        top1 = 0.5 + (0.3 if temperature == 4.0 else 0.0) + 0.01 * rng.random()
        made = result_at(
            number, (round(top1 * 270) / 270, rng.uniform(1, 2), 1e6 * width + 1e3 * rng.random(), 1e6, 1.0)
        )
        own = candidate(width, side, str(rng.choice(["fp16", "int8/channel"])), number, teacher, temperature)
        results.append(replace(made, candidate=own))
    return run_of(tuple(results))


def test_planted_effects_are_found(result_at: Make, run_of: Make) -> None:
    found = importances(planted(result_at, run_of, 400))
    assert next(iter(found["size"])) == "width" and found["size"]["width"] > 0.9
    assert next(iter(found["accuracy"])) == "temperature" and found["accuracy"]["temperature"] > 0.6
    assert "memory" not in found  # all the same: nothing to explain


def test_noise_is_not_told_of(result_at: Make, run_of: Make) -> None:
    """Five knobs without any effect on latency, ten times: any of five is told of at 5 %, by Holm's p-values."""
    told = [len(importances(planted(result_at, run_of, 200, seed)).get("latency", {})) for seed in range(10)]
    assert sum(told) <= 2  # more have a chance of 1.2 %, were the tests independent


def test_packages_of_the_same_training_are_no_independent_evidence(result_at: Make, run_of: Make) -> None:
    """Ten compressions each of 16 trainings, whose top-1 comes from the training and owes nothing to any knob."""
    forms = (
        "fp16",
        "int8/channel",
        "palette-4/tensor",
        "int4/block-32",
        "pruning-50",
        "w8a8",
        "palette-6/tensor",
        "fp32",
    )
    told = 0
    for seed in range(8):
        rng, results = np.random.default_rng(seed), []
        for training in range(16):
            top1, own = rng.uniform(0.3, 0.9), (WIDTHS[rng.integers(4)], SIDES[rng.integers(3)])
            for form in forms:
                made = result_at(len(results), (round(270 * (top1 + 0.02 * rng.random())) / 270, 1.0, 1e6, 1e6, 1.0))
                results.append(replace(made, candidate=candidate(*own, form, training, None, 1.0)))
        told += sum(knob != "compression" for knob in importances(run_of(tuple(results))).get("accuracy", {}))
    assert told <= 3  # of 16 tests at 5 %; taken as independent packages, most knobs are told of


def test_a_knob_of_packages_without_the_reading_is_not_told_of(result_at: Make, run_of: Make) -> None:
    rng, results = np.random.default_rng(0), []
    for number in range(2 * LEAST):
        taught = number % 2 == 0
        made = result_at(
            number, (0.5, 1.0, 1e6 * rng.random() + 1e5, 1e6, 1.0), lacking=("size_bytes",) if taught else ()
        )
        own = candidate(1.0, 32, "fp16", number, "resnet18" if taught else None, float(rng.choice([2.0, 4.0])))
        results.append(replace(made, candidate=own))
    assert "temperature" not in importances(run_of(tuple(results))).get("size", {})


def test_what_was_never_trained_changes_nothing(result_at: Make, run_of: Make) -> None:
    run = planted(result_at, run_of, 100)
    refused = tuple(
        Result(
            1000 + i, candidate(1.0, 64, "fp16", i, None, 1.0), Infeasible(("size",), {"size_bytes": exact(9e9, "B")})
        )
        for i in range(100)
    )
    assert importances(replace(run, results=(*run.results, *refused))) == importances(run)


def test_few_packages_say_nothing(result_at: Make, run_of: Make) -> None:
    assert importances(planted(result_at, run_of, LEAST - 1)) == {}
    assert importances(run_of(())) == {}


def test_an_axis_without_readings_for_most_is_left_out(result_at: Make, run_of: Make) -> None:
    run = planted(result_at, run_of, 100)

    def without(result: Result) -> Result:
        score = {name: reading for name, reading in result.score.items() if name != "size_bytes"}
        return replace(result, outcome=Scored(score, Path("m.mlpackage")))

    few = replace(run, results=tuple(without(r) if r.trial >= LEAST - 1 else r for r in run.results))
    assert "size" not in importances(few) and "size" in importances(run)
