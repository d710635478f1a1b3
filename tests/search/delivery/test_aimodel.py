"""The `.aimodel` of a hand-over: refusals before anything is made, what the converter is given, and, with the extra, the file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from coreml_pareto.objectives.program import Executor
from coreml_pareto.search.delivery import aimodel, handover
from coreml_pareto.search.delivery.answers import run
from coreml_pareto.search.delivery.handover import hand_over
from coreml_pareto.search.delivery.subject import Subject, choose, open_subject
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Run
from coreml_pareto.spaces.errors import UserError


class Metadata:
    """Stands for coreai's AIModelAssetMetadata."""

    author = ""
    model_description = ""

    def __init__(self) -> None:
        self.custom_metadata: dict[str, Any] = {}

    def set_custom(self, name: str, value: Any) -> None:
        self.custom_metadata[name] = value


class Converter:
    """Stands for coreai-torch's TorchConverter: keeps what it is given, writes a file."""

    seen: dict[str, Any]
    Mode = type("Mode", (), {"RELEASE": "release"})
    fails: Exception | None = None

    def __init__(self, *, mode: str) -> None:
        assert mode == "release"

    def add_exported_program(
        self, program: torch.export.ExportedProgram, *, input_names: Sequence[str], output_names: Sequence[str]
    ) -> Converter:
        type(self).seen = {"program": program, "inputs": list(input_names), "outputs": list(output_names)}
        return self

    def to_coreai(self) -> Converter:
        if self.fails is not None:
            raise self.fails
        return self

    def save_asset(self, path: Path, metadata: Metadata) -> None:
        type(self).seen["metadata"] = metadata
        path.mkdir()
        (path / "main.mlirb").write_bytes(b"program")


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> type[Converter]:
    """coreai-torch as far as it is used, whether it is installed or not."""
    module = ModuleType("coreai_torch")
    fresh: type[Converter] = type("Fresh", (Converter,), {})
    module.TorchConverter, module.get_decomp_table = fresh, dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "coreai_torch", module)
    runtime = ModuleType("coreai.runtime")
    runtime.AIModelAssetMetadata = Metadata  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "coreai", ModuleType("coreai"))
    monkeypatch.setitem(sys.modules, "coreai.runtime", runtime)
    monkeypatch.setattr(aimodel, "find_spec", lambda name: object())
    monkeypatch.setattr(handover, "_report", lambda *_: iter(()))  # tested where a whole hand-over is
    return fresh


def test_without_the_extra_it_is_refused(searched: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aimodel, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"coreml-pareto\[aimodel\]"):
        aimodel.require(searched, searched.results[0])


def test_without_the_training_it_is_refused(
    searched: Run, converter: type[Converter], draw_run: Callable[..., Run]
) -> None:
    scored = searched.results[0].outcome
    assert isinstance(scored, Scored)
    gone = replace(searched.results[0], outcome=replace(scored, provenance={"training": "0" * 16}))
    for result in (gone, draw_run(1).results[0]):
        with pytest.raises(UserError, match="is not in"):
            aimodel.require(searched, result)


def test_what_is_converted_answers_as_the_package(searched: Run, converter: type[Converter], tmp_path: Path) -> None:
    subject = open_subject(searched, choose(searched, 0))  # type: ignore[arg-type]
    found = hand_over(subject, tmp_path / "out", aimodel=True)
    seen: Mapping[str, Any] = converter.seen
    assert (seen["inputs"], seen["outputs"]) == (["image"], ["probabilities"])
    images = np.asarray(subject.data.validation.images(subject.rule)[:8])
    expected, _ = run(Executor(subject.program), images)
    module = seen["program"].module()
    with torch.inference_mode():
        answers = [module(torch.from_numpy(image[None]).permute(0, 3, 1, 2).float()) for image in images]
    np.testing.assert_allclose(torch.cat(answers).numpy(), expected, atol=2e-3)
    assert (found.folder / "optimized_model.aimodel/main.mlirb").is_file()
    told = seen["metadata"].custom_metadata
    assert told["com.coreml-pareto.labels"] == list(subject.labels)
    assert told["com.coreml-pareto.preprocessing"] == subject.rule.model_dump()
    assert subject.rule.describe() in seen["metadata"].model_description
    assert any("beta" in note and "not run" in note for note in found.notes)
    assert "optimized_model.aimodel/main.mlirb" in (found.folder / "SHA256SUMS").read_text("utf-8")


def test_a_compressed_package_has_an_uncompressed_twin_and_says_so(
    searched: Run, converter: type[Converter], tmp_path: Path
) -> None:
    subject = open_subject(searched, choose(searched, 1))  # type: ignore[arg-type]
    assert "not compressed" in aimodel.write_aimodel(subject, tmp_path / "a.aimodel")


def test_what_coreai_torch_cannot_convert_leaves_nothing(
    subject: Subject, converter: type[Converter], tmp_path: Path
) -> None:
    converter.fails = NotImplementedError("aten.strange\n is not lowered")
    with pytest.raises(UserError, match=r"does not convert .*\(aten.strange is not lowered\)"):
        hand_over(subject, tmp_path / "out", aimodel=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("coreai_torch") is None, reason="needs the extra `aimodel`")
def test_coreai_torch_itself_writes_the_file(subject: Subject, tmp_path: Path) -> None:
    from coreai.authoring import AIModelAsset

    aimodel.write_aimodel(subject, tmp_path / "model.aimodel")
    found = AIModelAsset.load(tmp_path / "model.aimodel")
    assert found.metadata.creator_defined_metadata["com.coreml-pareto.labels"] == list(subject.labels)
    summary = found.summary()
    side, classes = subject.rule.resolution, len(subject.labels)
    assert summary.function_names == ["main"]
    assert [name for name, _ in summary.function_inputs("main")] == ["image"]
    (name, kind), *others = summary.function_outputs("main")
    assert name == "probabilities" and not others and str(classes) in kind
    assert str(side) in summary.function_inputs("main")[0][1]
