"""What a package says of its own compression: read back from real packages, and disbelieved where it is wrong."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
from coremltools.proto import Model_pb2

from coreml_pareto.objectives.program import load
from coreml_pareto.objectives.program.constexpr import decode
from coreml_pareto.objectives.program.realised import same_form, spellings
from coreml_pareto.objectives.program.record import LAYERS, Treatment, heavy_weights, is_compressed, read_record
from coreml_pareto.search.stages.compress import compress
from coreml_pareto.spaces.compression import every_compression, minimum_os, parse, spell

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = [c for c in every_compression() if c.scheme not in ("fp32", "fp16", "mixed", "w8a8")]


@pytest.fixture(scope="module")
def compressed(
    convert: Any, small: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Path]]:
    """(package with such a compression, the package that it was made from)."""
    folder = tmp_path_factory.mktemp("recorded")

    def run(text: str) -> tuple[Path, Path]:
        oldest = f"iOS{minimum_os(parse(text))}"
        source = convert(f"small_{oldest}", small, target=getattr(ct.target, oldest))
        path = folder / f"{text.replace('/', ' ').replace(':', ' of ')}.mlpackage"
        if not path.exists():
            compress(source, path, parse(text))
        return path, source

    return run


@pytest.mark.parametrize("text", [spell(compression) for compression in WEIGHTS])
def test_every_compression_is_read_back(text: str, compressed: Any) -> None:
    path, source = compressed(text)
    program, plain = load(path), load(source)
    record, note = read_record(program)
    assert record is not None and note == ""
    assert record.asked == text
    assert list(record.layers) == list(heavy_weights(plain)) and len(record.layers) == 5
    for name, treatment in record.layers.items():
        assert (treatment.applied is None) == (not is_compressed(program, name)) == (treatment.snr_db is None)
        assert bool(treatment.reason) == (treatment.applied != text)
        if treatment.applied is not None:
            assert same_form(treatment.applied, spellings(program, name))
            assert treatment.snr_db == pytest.approx(
                ratio(plain.constants[name].value, decode(program, name)), abs=0.051
            )
    compressible = not text.startswith("palette-8/group")  # whose tables of 256 entries outweigh these layers
    assert any(treatment.applied is not None for treatment in record.layers.values()) == compressible


def ratio(exact: np.ndarray[Any, Any], stored: np.ndarray[Any, Any]) -> float:
    """Signal-to-noise in dB; 999 where there is no noise."""
    signal, noise = (float((x.astype(np.float64) ** 2).sum()) for x in (exact, exact.astype(np.float64) - stored))
    return 10 * math.log10(signal / noise) if noise else 999.0


def test_otherwise_and_why(compressed: Any) -> None:
    record, _ = read_record(load(compressed("int4/block-32")[0]))
    assert record is not None
    stem, depthwise, pointwise, last, head = record.layers.values()
    assert stem.applied == "int4/block-3" and "no multiple of 32" in stem.reason
    assert depthwise.applied in (None, "int4/block-1") and depthwise.reason
    assert pointwise.applied == last.applied == "int4/block-32" and pointwise.reason == last.reason == ""
    assert head.applied == "int4/block-24" and head.snr_db is not None and head.snr_db > 15


def test_packages_without_a_record(convert: Any, small: Any, quiet: Any, tmp_path: Path) -> None:
    source = convert("small_iOS16", small, target=ct.target.iOS16)
    assert read_record(load(source)) == (None, "")
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    with quiet():
        cto.linear_quantize_weights(ct.models.MLModel(str(source), skip_model_load=True), config).save(
            str(tmp_path / "foreign.mlpackage")
        )
    assert read_record(load(tmp_path / "foreign.mlpackage")) == (None, "")


def rewritten(path: Path, target: Path, change: Callable[[dict[str, Any]], Any] | str) -> Path:
    """A copy whose record is another text, or its content changed."""
    copy = Path(shutil.copytree(path, target / "copy.mlpackage"))
    spec = Model_pb2.Model()
    spec.ParseFromString((copy / MODEL).read_bytes())
    metadata = spec.description.metadata.userDefined
    if not isinstance(change, str):
        content = json.loads(metadata[LAYERS])
        change(content)
        change = json.dumps(content)
    metadata[LAYERS] = change
    (copy / MODEL).write_bytes(spec.SerializeToString())
    return copy


def first(content: dict[str, Any]) -> str:
    """The name of a layer that was treated otherwise."""
    return next(iter(content["otherwise"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "damaged"),
        ("null", "damaged"),
        ("{}", "damaged"),
        ('{"asked": 4, "otherwise": {}, "snr_db": ""}', "damaged"),
        ('{"asked": "int4/block-32", "otherwise": [], "snr_db": ""}', "damaged"),
        (lambda content: content.update(snr_db=None), "damaged"),
        (lambda content: content["otherwise"].update({first(content): "int4/block-3"}), "damaged"),
        (lambda content: content["otherwise"].update({first(content): [None]}), "damaged"),
        (lambda content: content["otherwise"].update({first(content): [4, "because"]}), "damaged"),
        (lambda content: content["otherwise"].update({first(content): [None, None]}), "damaged"),
        (lambda content: content["otherwise"].update(nobody=[None, "it is small"]), "speaks of nobody"),
        (lambda content: content.update(snr_db=content["snr_db"] + " 20.0"), "signal-to-noise ratios for"),
        (lambda content: content.update(snr_db=""), "it has 0 signal-to-noise ratios for"),
        (lambda content: content.update(snr_db="many"), "ratios are damaged"),
        (lambda content: content.update(snr_db=content["snr_db"].replace(content["snr_db"].split()[0], "nan")), "ratios"),
        (lambda content: content.update(asked="int8/channel"), "is int4/channel, not int8/channel"),
    ],
    ids=range(19),
)  # fmt: skip
def test_a_damaged_record_is_a_note(
    change: Callable[[dict[str, Any]], Any] | str, said: str, compressed: Any, tmp_path: Path
) -> None:
    record, note = read_record(load(rewritten(compressed("int4/block-32")[0], tmp_path, change)))
    assert record is None
    assert note.startswith("The record of this package's compression is left out: ") and said in note


def test_a_record_of_the_same_names_and_other_forms_is_not_believed(compressed: Any, tmp_path: Path) -> None:
    """As when somebody compresses a package again, or decompresses it, and its metadata are kept."""
    texts = {name: load(compressed(name)[0]).metadata[LAYERS] for name in ("int4/channel", "palette-4/tensor")}
    path = rewritten(compressed("palette-4/group-16")[0], tmp_path, texts["int4/channel"])
    record, note = read_record(load(path))
    assert record is None and "palette-4/group-16, not int4/channel" in note
    shutil.rmtree(path)
    plain = compressed("int4/channel")[1]
    record, note = read_record(load(rewritten(plain, tmp_path, texts["int4/channel"])))
    assert record is None and "is uncompressed, not int4/channel" in note


def test_a_layer_that_was_left_alone_has_no_ratio(compressed: Any, tmp_path: Path) -> None:
    """And keys that a later version adds do no harm."""
    names = list(heavy_weights(load(compressed("int8/tensor")[1])))
    plain = {
        "asked": "int8/tensor", "otherwise": {name: [None, "too small"] for name in names}, "snr_db": "", "version": 2
    }  # fmt: skip
    record, note = read_record(load(rewritten(compressed("int8/tensor")[1], tmp_path, json.dumps(plain))))
    assert record is not None and note == ""
    assert list(record.layers.values()) == [Treatment("int8/tensor", None, "too small", None)] * 5
