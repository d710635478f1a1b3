"""Studies are read, checked and refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from coreml_pareto.search.config import RESOLUTIONS, Plan, dump_plan, load_plan, presets
from coreml_pareto.spaces.errors import UserError


def _study(tmp_path: Path, text: str) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_is_a_legal_study_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    plan = load_plan(name)
    assert plan.name == name
    assert plan.space(10).count() > 100
    assert load_plan(_study(tmp_path, dump_plan(plan))) == plan


def test_the_four_presets_travel_with_the_package() -> None:
    assert set(presets()) == {"quickstart", "under_10mb", "overnight", "consulting"}


def test_options_are_laid_over_a_study_section_by_section(tmp_path: Path) -> None:
    plan = load_plan("under_10mb", {"limits": {"latency": "5ms"}, "search": {"trials": 7}})
    assert plan.bounds == {"size": 10e6, "latency": 5.0}
    assert (plan.search.trials, plan.search.timeout) == (7, "2h")


def test_a_family_stands_for_its_backbones() -> None:
    assert load_plan("overnight").networks.backbones[-2:] == ("squeezenet1_0", "squeezenet1_1")


def test_what_is_auto_takes_the_widest_choice() -> None:
    assert Plan().space(3).resolution == RESOLUTIONS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("widht: 3", "unknown key 'widht'; legal here: name, data"),
        ("networks: {backbone: [mobilenetv2]}", "unknown key 'networks.backbone'; legal here: backbones, width"),
        ("networks: {backbones: [mobilnetv2]}", "No backbone is called 'mobilnetv2'; near: mobilenetv2"),
        ("networks: {resolution: [16]}", "between 32 and 384"),
        ("networks: {stem_stride: [3]}", "stride is 1 or 2"),
        ("networks: {width: [0]}", "multipliers lie between"),
        ("compression: [int9]", "No compression is called 'int9'"),
        ("compression: [int4/channel]", "needs iOS 18, the study asks for iOS 17"),
        ("distillation: {teachers: [resnet1]}", "No backbone is called 'resnet1'"),
        ("distillation: {temperature: [20]}", "between 1 and 10"),
        ("distillation: {soft_weight: [-1]}", "not negative"),
        ("limits: {size: ten}", "size"),
        ("limits: {weight: 10MB}", "weight"),
        ("objectives: [speed]", "speed"),
        ("target: {device: iPhone 99}", "iPhone"),
        ("target: {os: 12}", "12"),
        ("search: {timeout: soon}", "30m, 8h or 1h30m"),
        ("search: {trials: 0}", "greater than or equal to 1"),
        ("search: {sampler: grid}", "tpe"),
        ("[1, 2]", "must be a mapping"),
        ("a: b: c", "is not YAML"),
    ],
)
def test_bad_studies_are_refused_with_the_place_and_the_way_out(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_plan(_study(tmp_path, text))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_unknown_studies_name_the_presets() -> None:
    with pytest.raises(UserError, match="neither a file nor a preset; presets are: consulting, overnight"):
        load_plan("quikstart")
    with pytest.raises(UserError, match=r"no study file missing\.yaml"):
        load_plan("missing.yaml")
