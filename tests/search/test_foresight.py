"""What is foreseen of a compression against the package that is written under it, and how often a network is converted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Target, find_device
from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.score import static_score
from coreml_pareto.search import foresight
from coreml_pareto.search.data import load_data
from coreml_pareto.search.foresight import Foresight, foresee, foretells
from coreml_pareto.search.outcome import Infeasible
from coreml_pareto.search.stages import package as packaging
from coreml_pareto.search.stages.package import Packager
from coreml_pareto.search.stages.train import Trainer
from coreml_pareto.search.store import Store
from coreml_pareto.search.trial import Laboratory
from coreml_pareto.spaces.candidate import Candidate, Compression, Network, Recipe, Scheme
from coreml_pareto.spaces.compression import parse

NETWORK = Network(family="squeezenet", backbone="squeezenet1_1", width=0.25, resolution=32, classes=10, stem_stride=1)
RECIPE = Recipe(epochs=1, learning_rate=1e-3, weight_decay=0.01, batch_size=32)
FORMS = (
    "fp16", "fp32", "int8/tensor", "int8/channel", "int8/channel/asymmetric", "int8/block-32", "int4/channel",
    "int4/block-32", "palette-8/tensor", "palette-3/tensor", "palette-1/tensor", "palette-4/tensor/uniform",
    "palette-6/group-16", "pruning-50", "pruning-2:4", "pruning-50+palette-4", "mixed-4", "mixed-4/group-16", "w8a8",
)  # fmt: skip
DEVICES = ("iPhone 13", "iPhone 15 Pro", "MacBook Air 13 (M1)")


def packager(folder: Path) -> Packager:
    return Packager(Store(folder), load_data("digits", limit=300), {"seed": 0})


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packager:
    return packager(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def network(packages: Packager) -> Foresight:
    return foresee(packages.probe(NETWORK, Compression()))


def test_every_scheme_is_compared() -> None:
    assert {parse(form).scheme for form in FORMS} == set(get_args(Scheme))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_foreseen_is_what_the_written_package_reads(form: str, packages: Packager, network: Foresight) -> None:
    compression = parse(form)
    program = load(packages.probe(NETWORK, compression))
    for device in DEVICES:
        for units in get_args(ComputeUnits):
            target = Target(find_device(device), 18, units)
            foreseen, read = network.readings(compression, target), static_score(program, target)
            assert ("memory_bytes" in foreseen) == foretells("memory", compression)
            assert {"latency_ms", "fps", "energy_mj"} <= set(foreseen)
            for name, reading in foreseen.items():
                ends = (reading.value, reading.low, reading.high)
                known = (read[name].value, read[name].low, read[name].high)
                assert ends == pytest.approx(known, rel=3e-3), name  # bytes of mixtures are foretold nearly
                assert (reading.unit, reading.how) == (read[name].unit, read[name].how)


def test_a_compression_is_not_mistaken_for_another(network: Foresight) -> None:
    target = Target(find_device("iPhone 15 Pro"), 18)
    forms = ("fp16", "int8/channel", "palette-6/tensor", "palette-4/tensor", "palette-1/tensor")
    scores = [network.readings(parse(form), target) for form in forms]
    for name in ("latency_ms", "memory_bytes", "energy_mj"):
        values = [score[name].value for score in scores]
        assert values == sorted(values, reverse=True) and len(set(values)) == len(forms)


# --- the search -------------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often networks are converted, and read for an estimate."""
    calls: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(module, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, wrapped)

    for module, name in ((packaging, "convert"), (packaging, "convert_w8a8"), (foresight, "load")):
        count(module, name)
    return calls


def laboratory(folder: Path, limits: Mapping[str, float]) -> Laboratory:
    packages = packager(folder)
    return Laboratory(
        store=packages.store, data=packages.data, trainer=Trainer(packages.store, packages.data, "false", "cpu"),
        packager=packages, target=Target(find_device("iPhone 15 Pro"), 18), limits=limits, strict=False,
        teach=_nobody, announce=_nobody,
    )  # fmt: skip


def _nobody(*_: object) -> Any:
    raise AssertionError("no candidate here has a teacher")


def candidate(form: str) -> Candidate:
    return Candidate(network=NETWORK, recipe=RECIPE, compression=parse(form))


def test_estimates_of_every_compression_take_one_conversion_and_one_reading(
    tmp_path: Path, counted: Counter[str]
) -> None:
    first = laboratory(tmp_path, {"latency": 1e3, "energy": 1e3})
    found = {form: first.probe(candidate(form))["latency_ms"].value for form in FORMS}
    assert counted == {"convert": 1, "load": 1}
    assert len(set(found.values())) > len(FORMS) / 2
    again = laboratory(tmp_path, {"memory": 1e12})
    assert all("memory_bytes" in again.probe(candidate(form)) for form in FORMS if foretells("memory", parse(form)))
    assert counted == {"convert": 1, "load": 1}


def _silent(*_: object) -> None:
    pass


NOBODY: Any = SimpleNamespace(note=_silent, stage=_silent, step=_silent, packaged=_silent)
"""A witness that looks away."""


def test_a_package_is_written_only_for_what_must_be_read_from_it(tmp_path: Path, counted: Counter[str]) -> None:
    refused = laboratory(tmp_path, {"latency": 1e-6, "size": 1e9}).evaluate(candidate("w8a8"), NOBODY)
    assert isinstance(refused, Infeasible) and refused.limits == ("latency",)
    assert counted == {"convert": 1, "load": 1}
    sized = laboratory(tmp_path, {"latency": 1e3, "size": 1e9}).probe(candidate("w8a8"))
    assert "size_bytes" in sized and counted == {"convert": 1, "load": 1, "convert_w8a8": 1}
