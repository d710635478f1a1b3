"""Studies are read, checked and refused before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from coreml_pareto.search.config import RESOLUTIONS, USUAL, Plan, dump_plan, load_plan, presets
from coreml_pareto.spaces.compression import every_compression, minimum_os, parse, spell
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
        ("networks: {resolution: [16]}", "from 32 to 384"),
        ("networks: {stem_stride: [3]}", "stride is 1 or 2"),
        ("networks: {width: [0]}", "networks.width: one or more multipliers from 0.1 to 4"),
        ("compression: [int9]", "No compression is called 'int9'"),
        ("compression: [int4/channel]", "needs iOS 18, the study asks for iOS 17"),
        ("distillation: {teachers: [resnet1]}", "No backbone is called 'resnet1'"),
        ("distillation: {temperature: [20]}", "from 1 to 10"),
        ("distillation: {soft_weight: [-1]}", "weights of the loss, 0 or more"),
        ("limits: {size: ten}", "size"),
        ("limits: {weight: 10MB}", "weight"),
        ("objectives: [speed]", "speed"),
        ("target: {device: iPhone 99}", "iPhone"),
        ("target: {os: 12}", "12"),
        ("search: {timeout: soon}", "30m, 8h or 1h30m"),
        ("search: {patience: never}", "30m, 8h or 1h30m"),
        ("search: {workers: 0}", "search.workers: a whole number from 1 on; got 0."),
        ("search: {trials: 0}", "search.trials: a whole number from 1 on; got 0."),
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


def _keys(model: type[BaseModel] = Plan, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield every key of a study with its field; those of sections after the section's own."""
    for name, field in model.model_fields.items():
        yield (*path, name), field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, (*path, name))


KEYS = dict(_keys())
LISTS = [path for path, field in KEYS.items() if isinstance(field.default, tuple)] + [
    ("networks", "resolution"), ("networks", "stem_stride"), ("training", "epochs")
]  # fmt: skip


def _nested(path: tuple[str, ...], value: object) -> Any:
    return {path[0]: _nested(path[1:], value)} if path else value


def _refusal(path: tuple[str, ...], value: object, tmp_path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_plan(_study(tmp_path, yaml.safe_dump(_nested(path, value))))
    return str(caught.value)


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_a_value_of_the_wrong_kind_is_told_in_one_sentence_in_plain_words(
    path: tuple[str, ...], tmp_path: Path
) -> None:
    said = _refusal(path, {"surprise": ["!"]} if KEYS[path].description else "surprise", tmp_path)
    legal = KEYS[path].description or "a section with keys such as "
    assert f"study.yaml: {'.'.join(path)}: {legal}" in said
    assert "surprise" in said.split("; got ")[-1] and len(said.splitlines()) == 1
    for word in ("tuple", "constrained", "Input", " valid ", "literal", "function", "type="):
        assert word not in said


def test_there_are_thirteen_lists_besides_those_that_may_be_auto() -> None:
    assert len(LISTS) == 16


@pytest.mark.parametrize("path", LISTS, ids=".".join)
def test_an_empty_list_is_refused(path: tuple[str, ...], tmp_path: Path) -> None:
    said = _refusal(path, [], tmp_path)
    assert said.endswith(f"{'.'.join(path)}: {KEYS[path].description}; got [].")


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("training: {epochs: 12}", ("training", "epochs"), (12,)),
        ("networks: {width: 0.5}", ("networks", "width"), (0.5,)),
        ("networks: {depth: 1}", ("networks", "depth"), (1.0,)),
        ("networks: {resolution: 64}", ("networks", "resolution"), (64,)),
        ("networks: {resolution: auto}", ("networks", "resolution"), "auto"),
        ("networks: {stem_stride: 1}", ("networks", "stem_stride"), (1,)),
        ("networks: {backbones: mobilenetv2}", ("networks", "backbones"), ("mobilenetv2",)),
        ("compression: fp16", ("compression",), ("fp16",)),
        ("compression: [int8, int8/channel]", ("compression",), ("int8/channel",)),
        ("objectives: size", ("objectives",), ("size",)),
        ("distillation: {teachers: none}", ("distillation", "teachers"), ("none",)),
        ("distillation: {temperature: 4}", ("distillation", "temperature"), (4.0,)),
        ("search: {timeout: 600}", ("search", "seconds"), 600.0),
        ("search: {patience: 600}", ("search", "patience_seconds"), 600.0),
        ("search: {timeout: 90.5}", ("search", "seconds"), 90.5),
        ("name: 2024", ("name",), "2024"),
        ("networks:\nlimits:\nsearch: {trials: 3}", ("search", "trials"), 3),
    ],
)
def test_studies_are_read_as_people_write_them(text: str, path: tuple[str, ...], value: object, tmp_path: Path) -> None:
    plan = load_plan(_study(tmp_path, text))
    got: Any = plan
    for key in path:
        got = getattr(got, key)
    assert got == value
    assert load_plan(_study(tmp_path, dump_plan(plan))) == plan


@pytest.mark.parametrize("os", [15, 16, 17, 18])
def test_all_and_auto_mean_what_the_target_loads(os: int, tmp_path: Path) -> None:
    target = {"target": {"device": "iPhone 13", "os": os}}
    loaded = {spell(row) for row in every_compression() if minimum_os(row) <= os and row.mode != "uniform"}
    assert {spell(row) for row in load_plan(None, target | {"compression": "all"}).compressions} == loaded
    usual = tuple(name for name in USUAL if minimum_os(parse(name)) <= os)
    assert load_plan(None, target).compression == usual == load_plan(None, target | {"compression": "auto"}).compression
    assert usual == (USUAL if os >= 16 else ("fp16",))
    more = load_plan(None, target | {"compression": ["auto", "fp32"]}).compression
    assert more == (*usual, "fp32")


def test_a_compression_by_name_is_refused_where_the_target_does_not_load_it() -> None:
    target = {"device": "iPhone 13", "os": 16}
    with pytest.raises(UserError, match="w8a8 needs iOS 17, the study asks for iOS 16"):
        load_plan(None, {"compression": ["all", "w8a8"], "target": target})


def test_the_default_device_and_an_older_system_name_both_ways_out() -> None:
    with pytest.raises(UserError, match=r"name a release in that range, or another device \(--device"):
        load_plan(None, {"target": {"os": 16}})


def test_a_loss_of_nothing_is_refused(tmp_path: Path) -> None:
    said = _refusal(("distillation",), {"hard_weight": [0, 1], "soft_weight": 0}, tmp_path)
    assert "study.yaml: distillation: a loss whose hard_weight" in said and "take the 0 out" in said


def test_two_wrong_keys_are_told_in_a_line_each(tmp_path: Path) -> None:
    said = _refusal(("training",), {"batch_size": 1, "images": "lots", "epochs": -1}, tmp_path).splitlines()
    assert [line.split(": ")[1] for line in said] == ["training.epochs", "training.batch_size"]


def test_what_came_is_cut_short(tmp_path: Path) -> None:
    assert len(_refusal(("networks", "resolution"), list(range(1000)), tmp_path)) < 300 + len(str(tmp_path))


def test_a_study_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes("name: größe".encode("utf-16"))
    with pytest.raises(UserError, match=r"A study is text in UTF-8; .*study\.yaml is not \(byte 0\): save it as UTF-8"):
        load_plan(str(path))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("birds.yaml", "birds"),
        ("my birds (2).yml", "my-birds-2"),
        ("..birds.v2.yaml", "birds.v2"),
        ("_größe_.yaml", "groe"),
        ("鳥.yaml", "search"),
        ("birds", "birds"),
    ],
)
def test_a_study_without_a_name_is_called_by_its_file(file: str, name: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("data: digits")
    plan = load_plan(str(tmp_path / file))
    assert plan.name == name
    (tmp_path / file).write_text(dump_plan(plan))
    assert load_plan(str(tmp_path / file)) == plan
    (tmp_path / file).write_text("name: own")
    assert load_plan(str(tmp_path / file)).name == "own"


def test_a_search_without_a_study_has_a_name_too() -> None:
    assert load_plan(None).name == "search"


@pytest.mark.parametrize("name", ["photos", "photos.yaml"])
def test_a_folder_is_no_study(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"{name} is a folder: pictures are given with --data"):
        load_plan(str(tmp_path / name))


def test_a_folder_does_not_hide_the_preset_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    assert load_plan("quickstart").data == "digits"


def test_an_unreadable_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, read = _study(tmp_path, "name: mine"), Path.read_text

    def denied(path: Path, encoding: str) -> str:
        if str(path) == study:
            raise PermissionError(13, "Permission denied")
        return read(path, encoding)

    monkeypatch.setattr(Path, "read_text", denied)  # permissions do not bind root
    with pytest.raises(UserError, match=r"must be readable; .*study\.yaml is not \(Permission denied\)"):
        load_plan(study)


def test_a_date_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not YAML: month must be in"):
        load_plan(_study(tmp_path, "name: 2024-13-45"))


def test_epochs_by_backbone_name_exactly_the_backbones() -> None:
    networks = {"backbones": ["mobilenetv2", "squeezenet1_1"]}
    plan = load_plan(None, {"networks": networks, "training": {"epochs": {"mobilenetv2": 4, "squeezenet1_1": 9}}})
    assert plan.space(2).lengths == (4, 9)
    assert "epochs" not in {knob.name for knob in plan.space(2).knobs()}
    with pytest.raises(UserError, match="lacks squeezenet1_1"):
        load_plan(None, {"networks": networks, "training": {"epochs": {"mobilenetv2": 4}}})
    with pytest.raises(UserError, match=r"names mobilenetv1, which networks\.backbones does not"):
        load_plan(
            None,
            {
                "networks": networks,
                "training": {"epochs": {n: 4 for n in ("mobilenetv1", "mobilenetv2", "squeezenet1_1")}},
            },
        )
