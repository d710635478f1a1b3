"""What is the model, for whom, and how far is it known?  A model card from the record alone.

The headings are those of M. Mitchell et al., "Model cards for model reporting", FAT* 2019, section 4. What no record tells
is said to be missing, and left to whoever ships the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, final

import numpy as np

from coreml_pareto.objectives.accuracy import wilson
from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.search.delivery.document import Block, Code, Heading, Table, items, paragraph
from coreml_pareto.search.delivery.guide import NOT_BUILT, conditions
from coreml_pareto.search.delivery.licences import Origin
from coreml_pareto.search.delivery.subject import Subject
from coreml_pareto.search.delivery.swift import systems
from coreml_pareto.search.figures import figure, interval, number, significant
from coreml_pareto.search.inspection import Inspection, inspect
from coreml_pareto.search.inspection import Row as Weight
from coreml_pareto.search.report.doubts import tested
from coreml_pareto.search.report.words import many
from coreml_pareto.spaces.compression import describe

NOT_ON_RECORD: Final = "Not on record; to be filled in by whoever ships the model."
SHOWN: Final = 40
"""So many classes are listed; of more, the least accurate ones."""


@final
@dataclass(frozen=True)
class ClassAccuracy:
    """Share of a class's validation pictures that are answered right, with Wilson's 95 % interval."""

    label: str
    images: int
    right: int

    @property
    def ends(self) -> tuple[float, float]:
        """Low and high."""
        return wilson(self.right, self.images)


def model_card(subject: Subject, weights_from: Sequence[Origin]) -> list[Block]:
    """The whole card."""
    return [
        Heading(1, "Model card"),
        *_details(subject, weights_from),
        *_use(subject),
        *_factors(),
        *_metrics(subject),
        *_evaluation_data(subject),
        *_training_data(subject),
        *_quantitative(subject),
        Heading(2, "Ethical considerations"),
        paragraph(f"Who is in the pictures, how they were collected and under which terms: {_lower(NOT_ON_RECORD)}"),
        *_caveats(subject),
    ]


def by_class(subject: Subject) -> tuple[ClassAccuracy, ...]:
    """Each class that has validation pictures, the least accurate first."""
    found = subject.answers
    images = np.bincount(found.targets, minlength=len(subject.labels))
    right = np.bincount(found.targets[found.right], minlength=len(subject.labels))
    rows = [
        ClassAccuracy(label, int(count), int(hits))
        for label, count, hits in zip(subject.labels, images, right, strict=True)
        if count
    ]
    return tuple(sorted(rows, key=lambda row: row.right / row.images))


def _details(subject: Subject, weights_from: Sequence[Origin]) -> Iterator[Block]:
    result, network = subject.result, subject.result.candidate.network
    ios, macos = systems(subject.oldest)
    made = subject.scored.provenance
    yield Heading(2, "Model details")
    rows = [
        ("network", network.label),
        ("input", f"RGB, {subject.rule.resolution} x {subject.rule.resolution} pixels. {subject.rule.describe()}"),
        ("output", f"a probability for each of {len(subject.labels)} labels"),
        ("compression", describe(result.candidate.compression)),
        ("training", result.candidate.recipe.label),
        ("begins with", "; ".join(f"{origin.weights} ({origin.network})" for origin in weights_from)),
        ("trained in", f"{made.get('training_seconds', '?')} s on {made.get('training_device', '?')}"),
        ("runs on", f"iOS {ios}, macOS {macos} and newer"),
        (
            "made by",
            f"coreml-pareto, search {subject.run.study}, trial {result.trial}; card of {date.today().isoformat()}",
        ),
        ("content", subject.digest),
        ("for", subject.client or "nobody named"),
    ]
    yield Table(("what", "which"), tuple(rows))
    yield paragraph(
        "Licences stand in ", Code("LICENSES.md"), ", versions and commands in ", Code("provenance.json"), "."
    )


def _use(subject: Subject) -> Iterator[Block]:
    yield Heading(2, "Intended use")
    shown = ", ".join(subject.labels[:12]) + (" and so on" if len(subject.labels) > 12 else "")
    yield items(
        f"Primary use: to say which of {len(subject.labels)} classes ({shown}) a picture shows, on the device.",
        f"Primary users: {_lower(NOT_ON_RECORD)}",
        "Out of scope: pictures of nothing in this list (the model knows no answer for them and gives one of its labels), "
        "several things in one picture, places of things, decisions about people.",
    )


def _factors() -> Iterator[Block]:
    yield Heading(2, "Factors")
    yield paragraph(
        "Accuracy is told apart by class, below. By camera, light, place or group of people: the data have no such labels, so "
        "nothing is known."
    )


def _metrics(subject: Subject) -> Iterator[Block]:
    yield Heading(2, "Metrics")
    yield paragraph(
        "Top-1: share of pictures whose most probable label is the right one, with Wilson's 95 % interval, which covers the "
        "choice of pictures and nothing else. It is computed on the saved package, compressed as it is delivered, by an "
        f"executor of Core ML programs in single precision, not by Core ML on a device. {conditions(subject)}"
    )


def _evaluation_data(subject: Subject) -> Iterator[Block]:
    yield Heading(2, "Evaluation data")
    validation, test = len(subject.data.validation), subject.result.test_top1
    rows = [
        f"Validation: {validation} pictures of {subject.data.name}. The model was chosen by them, which flatters it.",
        "Test: not read for this package."
        if test is None
        else f"Test: {test.conditions.get('images', '?')} pictures, read at the end; the search chose nothing by them.",
    ]
    seen = tested(subject.run)
    yield items(*rows, *([seen] if seen else []))


def _training_data(subject: Subject) -> Iterator[Block]:
    data = subject.data
    given = subject.program.metadata.get(f"{PREFIX}data", "")
    most = subject.plan.training.images
    used = len(data.train) if most is None else min(most, len(data.train))
    yield Heading(2, "Training data")
    counts = data.report.images["train"]
    yield items(
        f"{used} of {len(data.train)} training pictures of {data.name}, {min(counts.values())} to {max(counts.values())} "
        f"per class; digest {given}.",
        *data.report.notes,
        *(f"Warning: {warning}" for warning in data.report.warnings),
        f"Origin, consent, terms: {_lower(NOT_ON_RECORD)}",
    )


def _quantitative(subject: Subject) -> Iterator[Block]:
    yield Heading(2, "Quantitative analyses")
    yield Table(("reading", "value", "interval", "how", "pictures"), tuple(_readings(subject)), frozenset({1, 2, 4}))
    rows = by_class(subject)
    shown = rows[:SHOWN]
    what = "Every class" if len(shown) == len(rows) else f"The {len(shown)} least accurate of {len(rows)} classes"
    yield paragraph(f"{what}, on the validation pictures, the least accurate first:")
    yield Table(("class", "right", "95 %", "pictures"), tuple(map(_class_row, shown)), frozenset({1, 2, 3}))
    yield from _compression(inspect(subject.program))


def _readings(subject: Subject) -> Iterator[tuple[str, ...]]:
    score = subject.result.score
    tops = {
        "validation top-1": score["top1"],
        "test top-1": subject.result.test_top1,
        "mean top-1 of other seeds": subject.result.mean_top1,
    }
    for name, reading in tops.items():
        if reading is not None:
            yield (
                name,
                figure("accuracy", reading),
                interval("accuracy", reading),
                reading.how,
                reading.conditions.get("images", ""),
            )
    for name, key in (
        ("latency", "latency_ms"),
        ("size", "size_bytes"),
        ("memory", "memory_bytes"),
        ("energy", "energy_mj"),
    ):
        yield name, figure(name, score[key]), interval(name, score[key]), score[key].how, ""


def _class_row(row: ClassAccuracy) -> tuple[str, ...]:
    low, high = row.ends
    share = f"{number('accuracy', row.right / row.images)} %"
    return row.label, share, f"{number('accuracy', low)}–{number('accuracy', high)}", str(row.images)


def _compression(found: Inspection) -> Iterator[Block]:
    """What was asked of the weights and what they are, form by form."""
    layers = [row for row in found.rows if row.layer]
    forms = Counter(row.applied for row in layers)
    bits = (
        ""
        if found.bits_per_weight is None
        else f" {significant(found.bits_per_weight)} bits per weight, tables and scales counted;"
    )
    yield paragraph(
        f"Compression, read from the package itself:{bits} {found.warning or f'every layer is as asked: {found.asked}'}."
    )
    rows = tuple(_form_row(form, [row for row in layers if row.applied == form]) for form, _ in forms.most_common())
    yield Table(("stored as", "layers", "weights", "bytes", "lowest signal-to-noise"), rows, frozenset({1, 2, 3, 4}))


def _form_row(form: str, layers: Sequence[Weight]) -> tuple[str, ...]:
    known = [row.snr_db for row in layers if row.snr_db is not None]
    worst = "not recorded" if not known else "no loss" if min(known) >= 999 else f"{min(known):.1f} dB"
    elements, stored = sum(row.elements for row in layers), sum(row.stored_bytes for row in layers)
    return form, str(len(layers)), f"{elements:,}", f"{stored:,}", worst


def _caveats(subject: Subject) -> Iterator[Block]:
    yield Heading(2, "Caveats and recommendations")
    yield items(
        "Not run by Core ML or on a device before delivery: do the checklist of the guide first.",
        NOT_BUILT,
        "Latency, memory and energy that are marked as estimated rank models; they do not replace a stopwatch.",
        "Probabilities are the softmax's. How often answers of a given probability are right stands in the guide, chapter "
        "Threshold, for pictures like those of validation.",
        f"One training with seed {subject.result.candidate.recipe.seed}; "
        + (
            f"repeated with {many(len(subject.result.repeated), 'other seed')}."
            if subject.result.repeated
            else "not repeated with other seeds, so the luck of the draw is part of its accuracy."
        ),
    )


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
