"""The table of published latencies: complete, cited, and in the words that the fit knows."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files

import pytest

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.published import (
    STOPWATCHES,
    name_of,
    networks_on,
    published,
    rows,
    stopwatch_of,
    w8a8,
)

CITATIONS = (files("coreml_pareto.objectives.devices") / "CITATIONS.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("tag", sorted({row["source"].split()[0] for row in rows("latencies.csv")}))
def test_every_source_is_cited(tag: str) -> None:
    assert re.search(rf"^- `{tag}` \S+", CITATIONS, re.MULTILINE)


def test_rows_speak_the_words_of_the_fit() -> None:
    for row in rows("latencies.csv"):
        assert row["stopwatch"] in STOPWATCHES and row["chip"] in priors.GENERATIONS
        assert 0 < float(row["ms"]) < 100 and row["part"] in ("classifier", "features")


def test_no_figure_stands_there_twice() -> None:
    counts = Counter(
        (name_of(row), row["device"], row["os"], row["form"], row["source"], row["ms"]) for row in rows("latencies.csv")
    )
    assert max(counts.values()) == 1


def test_three_tables_carry_the_evidence() -> None:
    tables = Counter((figure.chip, figure.source.split()[0]) for figure in published())
    assert tables["A15", "IF"] >= 50 and tables["A15", "MN4"] >= 15 and tables["A14", "RV"] >= 13


def test_known_counts_of_networks_that_papers_print() -> None:
    """MACs of the packages against the papers': MobileNetV2 300 M (arXiv:1801.04381), ResNet-50 4.1 G (torchvision)."""
    asked = {row["network"]: {term: float(row[term]) for term in priors.TERMS} for row in rows("networks.csv")}
    for network, macs, parameters in (("mobilenetv2_100@224", 0.300, 3.50), ("resnet50@224", 4.09, 25.6)):
        terms = asked[network]
        assert terms["spatial"] + terms["depthwise"] + terms["pointwise"] == pytest.approx(macs, rel=0.01)
        assert terms["weights"] / 2 == pytest.approx(parameters, rel=0.01)


def test_coverage_and_stopwatch_of_a_chip() -> None:
    assert stopwatch_of("A15") == "iFormer paper" and stopwatch_of("A16") == stopwatch_of("A19") == "Xcode"
    assert networks_on("A16") == 4 and networks_on("A19") == 0


def test_w8a8_scales_what_has_weights() -> None:
    ones = w8a8(tuple(1.0 for _ in priors.TERMS))
    told = dict(zip(priors.TERMS, ones, strict=True))
    assert told["pointwise"] == told["weights"] == priors.W8A8_TIME.value
    assert told["arranged"] == 1
