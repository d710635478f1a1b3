"""Mixed precision keeps its budget, and harms less than any uniform scheme of as many bits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.program.record import LAYERS, read_record
from coreml_pareto.search.inspection import inspect
from coreml_pareto.search.stages.compress import compress, heavy_weights
from coreml_pareto.search.stages.mixed import CLOSE, assumed_options, forms_for, measured_options, write_within
from coreml_pareto.search.stages.rewrite import Source, rewrite
from coreml_pareto.spaces.compression import minimum_os, parse, spell
from coreml_pareto.spaces.errors import UserError

NAMES = ("mobilenetv3_small", "efficientnet_lite0", "squeezenet1_1")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["mixed-3/tensor", "mixed-4/group-16", "mixed-6.5/tensor"])
def test_average_bits_are_spent_and_not_exceeded(packages: Any, name: str, text: str) -> None:
    mixed = parse(text)
    program = load(packages.compressed(name, mixed).model)
    layers = {layer.name: layer for layer in packages.compressed(name, mixed).layers}
    rows = [weight for weight in program.weights if weight.name in layers]
    bits = 8 * sum(row.stored_bytes for row in rows) / sum(row.elements for row in rows)
    assert bits <= mixed.average_bits * 1.001
    assert bits >= mixed.average_bits * 0.9
    legal = {spell(form) for form in forms_for(mixed)}
    assert all(minimum_os(parse(form)) <= minimum_os(mixed) for form in legal)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("uniform", ["palette-4/tensor", "palette-2/tensor", "int8/channel"])
def test_no_uniform_scheme_of_as_many_bits_harms_less(packages: Any, name: str, uniform: str) -> None:
    source = packages.saved(packages.converted(name, 16))
    weights = heavy_weights(load(source))
    forms = forms_for(parse("mixed-4"))
    options = measured_options(weights, packages.sensitivity(name, source, forms).effects)
    same = {
        layer: next((o for o in own if o.form == uniform), own[0]) for layer, own in options.items()
    }  # what is left alone stays so
    elements = sum(weight.size for weight in weights.values())
    spent = sum(option.bits for option in same.values())
    plans: list[Any] = []

    def write(plan: Any) -> Path:
        plans.append(plan)
        return source

    mixed = parse("mixed-4").model_copy(update={"average_bits": spent / elements})
    write_within(mixed, weights, options, source, write)
    chosen = [
        next(o for o in own if o.form == (spell(plans[0][layer]) if layer in plans[0] else None))
        for layer, own in options.items()
    ]
    assert sum(option.bits for option in chosen) <= spent * (1 + 1e-6)
    assert sum(option.harm for option in chosen) <= sum(option.harm for option in same.values()) * (1 + 1e-3)


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize(("name", "share"), [("mobilenetv3_small", 0.4), ("squeezenet1_1", 0.3)])
def test_a_target_of_bytes_is_met_from_below(packages: Any, name: str, share: float, probe: bool) -> None:
    whole = packages.package_bytes(packages.saved(packages.converted(name, 18)))
    target = int(share * whole)
    mixed = parse("mixed-4/group-16").model_copy(update={"average_bits": 0.0, "target_bytes": target})
    size = packages.package_bytes(packages.compressed(name, mixed, probe=probe).model)
    assert CLOSE * 0.99 * target <= size <= target


def test_a_target_above_the_plain_package_leaves_it_plain(packages: Any, tmp_path: Path) -> None:
    source = packages.saved(packages.converted("squeezenet1_1", 16))
    weights, mixed = heavy_weights(load(source)), parse("mixed-50MB")
    written: list[Path] = []

    def write(plan: Any) -> Path:
        assert plan == {}
        written.append(source)
        return source

    write_within(mixed, weights, assumed_options(weights, mixed), source, write)
    assert len(written) <= 2


def test_the_least_target_is_met_and_what_is_below_it_is_refused(packages: Any, tmp_path: Path) -> None:
    """The size that a refusal names is one that can be reached."""
    source = packages.saved(packages.converted("squeezenet1_1", 16))
    weights = heavy_weights(load(source))

    def attempt(text: str) -> int:
        mixed = parse(text)

        def write(plan: Any) -> Path:
            compress(source, tmp_path / "x.mlpackage", mixed, plan=plan, probe=True)
            return tmp_path / "x.mlpackage"

        write_within(mixed, weights, assumed_options(weights, mixed), source, write)
        return int(packages.package_bytes(tmp_path / "x.mlpackage"))

    with pytest.raises(UserError) as refused:
        attempt("mixed-10KB")
    told = re.match(r"mixed-10KB must leave room for .* they make ([\d,]+) bytes: raise the target", str(refused.value))
    assert told is not None
    least = int(told[1].replace(",", ""))
    assert attempt(f"mixed-{(least + 64) / 1000}KB") <= least + 64  # the package tells its target
    with pytest.raises(UserError, match="must leave room"):
        attempt(f"mixed-{(least - 64) / 1000}KB")


def test_too_few_bits_are_refused_in_bits(packages: Any) -> None:
    source = packages.saved(packages.converted("squeezenet1_1", 16))
    weights, mixed = heavy_weights(load(source)), parse("mixed-1")
    with pytest.raises(UserError, match=r"they make 1\.\d\d bits per weight: raise the target"):
        write_within(mixed, weights, assumed_options(weights, mixed), source, lambda plan: source)


def test_a_plan_goes_with_mixed_precision_only(packages: Any, tmp_path: Path) -> None:
    source = packages.saved(packages.converted("squeezenet1_1", 16))
    for text, plan in (("mixed-4", None), ("int8/channel", {})):
        with pytest.raises(ValueError, match="has a plan"):
            compress(source, tmp_path / "x.mlpackage", parse(text), plan=plan)


@pytest.mark.parametrize("name", NAMES)
def test_the_record_tells_each_layers_form(packages: Any, name: str) -> None:
    made = packages.compressed(name, parse("mixed-4/group-16"))
    record, note = read_record(load(made.model))
    assert record is not None and note == "" and record.asked == "mixed-4/group-16"
    assert {layer.name: (layer.asked, layer.applied, layer.reason) for layer in made.layers} == {
        weight: (row.asked, row.applied, row.reason) for weight, row in record.layers.items()
    }
    assert len({row.applied for row in record.layers.values()}) > 1
    found = inspect(load(made.model))
    assert found.asked == "mixed-4/group-16" and found.warning == ""
    assert all(row.reason == "" for row in found.rows)


@pytest.mark.parametrize("forms", ['"x"', '{"int8/channel": "900"}', '{"int8/channel": 1}', '{"int8/channel": "a"}'])
def test_damaged_forms_are_not_believed(packages: Any, tmp_path: Path, forms: str) -> None:
    made = packages.compressed("squeezenet1_1", parse("mixed-4/group-16"))
    content = json.loads(load(made.model).metadata[LAYERS]) | {"forms": json.loads(forms)}
    rewrite(Source.read(made.model), tmp_path / "x.mlpackage", {}, {LAYERS: json.dumps(content)})
    record, note = read_record(load(tmp_path / "x.mlpackage"))
    assert record is None and "its forms are damaged" in note
