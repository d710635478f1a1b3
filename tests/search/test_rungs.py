"""Who decides the rung: never the sampler, for every sampler that a study may choose."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.samplers import SAMPLERS
from coreml_pareto.search.study import Study


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_what_is_drawn_begins_where_its_backbone_begins(sampler: str, tmp_path: Path) -> None:
    plan = load_plan(None, {
        "name": "rungs", "data": "digits", "networks": {"backbones": ["mobilenetv2", "squeezenet1_1"], "resolution": [32, 48]},
        "training": {"epochs": [12], "rungs": 3}, "search": {"sampler": sampler}, "objectives": ["accuracy", "size"],
    })  # fmt: skip
    space = plan.space(10)
    study = Study(tmp_path, plan, space)
    drawn = set()
    for number in range(14):
        asked = study.ask({"mobilenetv2": 2, "squeezenet1_1": 0}.__getitem__)
        backbone = asked.candidate.network.backbone
        drawn.add((backbone, asked.candidate.recipe.epochs))
        score: dict[str, Reading] = {"top1": exact(0.5 + number / 100, "share"), "size_bytes": exact(1e6 + number, "B")}
        study.tell(asked, Scored(score, tmp_path), 1.0)
    assert drawn == {("mobilenetv2", 12), ("squeezenet1_1", 2)}
    study.enqueue(space.on_rung(asked.candidate, 1))
    assert study.ask(lambda backbone: 0).candidate.recipe.epochs == 4
    (record,) = [s for s in optuna.get_all_study_names(f"sqlite:///{tmp_path / 'study.db'}")]
    assert record == "rungs"
