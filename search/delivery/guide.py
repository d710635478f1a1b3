"""What does an iOS developer do with the model, step by step?  The implementation guide, from the record and the measures.

Every figure comes from `measures.py` or the record and says whether it was counted, measured or estimated. `guide.typ`
prints the same blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

from coreml_pareto.objectives.devices.schemes import uses_of
from coreml_pareto.objectives.explanation import Explanation
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.delivery import rollout
from coreml_pareto.search.delivery.document import Block, Code, Heading, Listing, Table, items, paragraph
from coreml_pareto.search.delivery.golden import Golden
from coreml_pareto.search.delivery.measures import FALSE_ALARMS, Alarm, Arms, Measures
from coreml_pareto.search.delivery.provenance import CHECK
from coreml_pareto.search.delivery.subject import Subject
from coreml_pareto.search.delivery.swift import MODEL, PACKAGE, systems
from coreml_pareto.search.delivery.thresholds import Row
from coreml_pareto.search.figures import ESTIMATE, figure, interval, number, significant
from coreml_pareto.search.inspection import inspect
from coreml_pareto.search.report.words import model_name, origins

_CALL = """import OptimizedModel

let manager = OptimizedModelManager()                   // one for the whole app
let result = try await manager.predict(image: cgImage)  // the first call loads the model
print(result.label, result.probability, result.top(3))"""
_MORE = """try await manager.load()                                // where no answer may wait
let frame = try await manager.predict(pixelBuffer: buffer, orientation: .right)
let batch = try await manager.predict(images: cgImages) // one call of Core ML
let shown = try await manager.predict(image: Image("photo"))  // SwiftUI
let vision = try await VisionClassifier.load()          // in a Vision pipeline"""
SMALL: Final = 0.01
NOT_BUILT: Final = (
    "The Swift was read by a grammar of Swift and never built or run where it was written: no Mac was there."
)


def guide(subject: Subject, found: Measures, golden: Golden) -> list[Block]:
    """The whole guide."""
    return [
        *_head(subject),
        *_contents(),
        *_xcode(subject),
        *_calls(),
        *_preprocessing(subject),
        *_units(subject, found),
        *_threshold(subject, found),
        *_validation(subject, golden),
        *_rollout(subject, found),
        *_monitoring(subject, found),
    ]


def _head(subject: Subject) -> Iterator[Block]:
    result, target = subject.result, subject.run.target
    ios, macos = systems(subject.oldest)
    yield Heading(1, "Implementation guide")
    about = f"{model_name(result)}: trial {result.trial} of the search {subject.run.study}"
    client = f", for {subject.client}" if subject.client else ""
    yield paragraph(f"{about}{client}. Written on {date.today().isoformat()} by coreml-pareto.")
    yield paragraph(subject.choice.reason)
    rows = [
        ("top-1", *_said("accuracy", subject.top1), f"{subject.top1_split}, {_images(subject.top1)} pictures"),
        ("latency", *_said("latency", result.score["latency_ms"]), " / ".join(target.conditions.values())),
        ("size", *_said("size", result.score["size_bytes"]), "on disk, MB = 10^6 bytes"),
        ("memory", *_said("memory", result.score["memory_bytes"]), "peak, above the runtime's own base"),
        ("energy", *_said("energy", result.score["energy_mj"]), "one inference"),
    ]
    yield Table(("reading", "value", "interval", "how", "of what"), tuple(rows), frozenset({1, 2}))
    yield paragraph(f"Accuracy intervals are 95 %, those of estimates 80 %. {conditions(subject)}")
    yield paragraph(f"It runs on iOS {ios}, macOS {macos} and newer. {NOT_BUILT}")


def conditions(subject: Subject) -> str:
    """Whose figures these are, as sentences."""
    told = [line.removeprefix(f"{ESTIMATE} ") for line in origins(subject.run.target, [subject.result.score])]
    return " ".join(f"{line[0].upper()}{line[1:]}." for line in ["a tilde stands before estimates", *told])


def _contents() -> Iterator[Block]:
    yield Heading(2, "What was delivered")
    yield paragraph(
        f"{MODEL}, the Core ML model (labels, normalisation and pre-processing rule inside); {PACKAGE}/, a Swift package with "
        "the library, tests with sample pictures and a benchmark; this guide. README.md beside it lists every other file of "
        f"the delivery, and {CHECK} says whether all are whole."
    )


def _xcode(subject: Subject) -> Iterator[Block]:
    ios, macos = systems(subject.oldest)
    yield Heading(2, "Into Xcode")
    yield items(
        (
            "Xcode 16 or newer. ",
            Code("File › Add Package Dependencies › Add Local…"),
            f", choose the folder {PACKAGE}.",
        ),
        (
            f"Add the library {PACKAGE} to the app's target. The target's own minimum is iOS {ios} (macOS {macos}) or later."
        ),
        (
            "Make one ",
            Code("OptimizedModelManager"),
            ", where the app keeps what lives as long as itself, and share it.",
        ),
        (
            "Run the tests, first on the Mac: ",
            Code("swift test"),
            f" in {PACKAGE}. Xcode runs tests on a phone inside an app only: add the folder ",
            Code("Tests/OptimizedModelTests"),
            " to the app's own unit test target, whose host application is the app, choose the phone, and ",
            Code("Product › Test"),
            ". A simulator has no Neural Engine.",
        ),
        (
            "The package compiles the model on the device at the first load and keeps the result in Application Support. "
            "To do that while the app is built, run ",
            Code(f"xcrun coremlcompiler compile {MODEL} {PACKAGE}/Sources/{PACKAGE}/Model"),
            ": what lies there compiled is taken first.",
        ),
        style="numbered",
    )


def _calls() -> Iterator[Block]:
    yield Heading(2, "Ask it")
    yield Listing(_CALL, "swift")
    yield paragraph(
        "A model that is loaded for every prediction costs each of them the load. This manager is an object over one actor: "
        "it loads once, whoever asks first, and everybody else waits for that one load. Errors are cases of ",
        Code("OptimizedModelError"),
        ", with a sentence for people in ",
        Code("localizedDescription"),
        ".",
    )
    yield Listing(_MORE, "swift")


def _preprocessing(subject: Subject) -> Iterator[Block]:
    rule = subject.rule
    option = ".scaleFill" if rule.resize == "squash" else ".centerCrop"
    why = (
        "the training changed the aspect ratio of whole pictures, and so does it"
        if rule.resize == "squash"
        else "the training kept the aspect ratio and took the centre, and so does it; .scaleFit would add bars that no "
        "training picture had"
    )
    yield Heading(2, "Pre-processing")
    yield paragraph(rule.describe())
    yield items(
        "Orientation: upright first. A CGImage and a CVPixelBuffer do not know theirs: hand it over.",
        "Colour: 8-bit RGB; transparency is laid on white, profiles of RGB pictures are ignored, as in the training. The "
        "package lets Core Graphics convert pictures that are not RGB (grey, CMYK, palettes), Vision handles colours itself: "
        "their numbers can differ from the training's.",
        "Normalisation: none in the app. The model takes pixels 0 to 255 and normalises them itself.",
        ("Vision: ", Code(option), f", for {why}."),
        "What stays different: the training reduced large pictures by Pillow's filters, Core Graphics and Vision have their "
        "own. The checklist below measures what that does to the accuracy.",
    )


def _units(subject: Subject, found: Measures) -> Iterator[Block]:
    explained, target = found.explanation, subject.run.target
    yield Heading(2, "Compute units")
    yield paragraph("Take ", Code(found.chosen_units), f" on {target.device.name}. {found.units_reason}")
    rows = []
    for row in found.units:
        latency, energy = row.score["latency_ms"], row.score["energy_mj"]
        rows.append((
            row.units, row.unit, figure("latency", latency), interval("latency", latency), latency.how,
            figure("energy", energy), interval("energy", energy),
        ))  # fmt: skip
    head = ("compute units", "taken to run on", "latency", "interval", "how", "energy", "interval")
    yield Table(head, tuple(rows), frozenset({2, 3, 5, 6}))
    yield paragraph(
        f"Where the estimate of {ESTIMATE}{significant(explained.ms)} ms on the {explained.unit} goes, by kind of operation:"
    )
    yield Table(("kind", "operations", "estimated", "share"), tuple(_parts(explained)), frozenset({1, 2, 3}))
    yield from _off_the_engine(found)
    yield from _published(subject)
    yield paragraph(
        "In the app: ",
        Code("OptimizedModelManager(computeUnits: .all)"),
        " and so on; without it the choice above is taken.",
    )


def _parts(explained: Explanation) -> Iterator[tuple[str, ...]]:
    """The kinds that take a hundredth of the time or more, and all others together."""
    large = [part for part in explained.parts if part.share >= SMALL]
    rest = [part for part in explained.parts if part.share < SMALL]
    for part in large:
        count = str(part.operations) if part.operations else ""
        yield part.kind, count, f"{significant(part.ms)} ms", f"{100 * part.share:.1f} %"
    if rest:
        ms, share, count = (sum(getattr(part, name) for part in rest) for name in ("ms", "share", "operations"))
        yield "everything else", str(count), f"{significant(ms)} ms", f"{100 * share:.1f} %"


def _off_the_engine(found: Measures) -> Iterator[Block]:
    if not found.explanation.handed_over:
        yield paragraph("No operation of the model is reported not to run on the Neural Engine.")
        return
    unit = found.explanation.unit
    what = (
        "each hands the work over and back"
        if unit == "Neural Engine"
        else f"the whole model is taken to run on the {unit}"
    )
    yield paragraph(f"Reported not to run on the Neural Engine; {what}:")
    yield items(*found.explanation.handed_over)


def _published(subject: Subject) -> Iterator[Block]:
    """What Apple and others say of the forms that its weights are stored in, and where."""
    forms = {row.applied for row in inspect(subject.program).rows if row.layer}
    uses = uses_of(forms, subject.oldest)
    if not uses:
        return
    yield paragraph("What is published of the forms that its weights are stored in:")
    lines = [f"{use.name}: {use.guide.speed} {_tags(use.guide.sources)}" for use in uses]
    reports = dict.fromkeys(report for use in uses for report in use.reports)
    yield items(*lines, *(f"Reported and open: {report.what} ({report.reference})." for report in reports))
    yield paragraph("Sources (pages that end in .html are of Apple's guide to Core ML Tools):")
    sources = {tag: text for use in uses for tag, text in use.sources.items()}
    yield items(*(f"[{tag}] {text}" for tag, text in sources.items()))


def _tags(sources: Sequence[str]) -> str:
    return f"[{', '.join(sources)}]" if sources else "(no source)"


def _threshold(subject: Subject, found: Measures) -> Iterator[Block]:
    rows = found.thresholds
    yield Heading(2, "Threshold")
    yield paragraph(
        "An answer with a low probability is wrong more often. ",
        Code("result.label(atLeast: threshold)"),
        f" is nil below a threshold: ask a person, or for another picture. On the {rows[0].images} validation pictures:",
    )
    shown = tuple(_threshold_row(row) for row in rows if row.answered)
    head = ("threshold", "answered", "share", "of these right", "95 %", "surely at least")
    yield Table(head, shown, frozenset(range(6)))
    yield paragraph(
        "The interval is that of one row (Wilson). The last column holds for all rows together (95 %, exact, one-sided, "
        "Bonferroni): use it when the row is chosen from this table. It holds for pictures like those of validation; where "
        "the search chose the model by these same pictures, that flatters every row, which no interval counts."
        + ("" if rows[-1].answered else f" No picture is answered with {_first_empty(rows):g} or more.")
    )
    yield items(*_goals(found))


def _threshold_row(row: Row) -> tuple[str, ...]:
    ends = f"{number('accuracy', row.low)}–{number('accuracy', row.high)}"
    answered = f"{row.answered:,}", _percent(row.coverage)
    return f"{row.threshold:g}", *answered, _percent(row.right / row.answered), ends, _percent(row.floor)


def _first_empty(rows: Sequence[Row]) -> float:
    return next(row.threshold for row in rows if not row.answered)


def _goals(found: Measures) -> Iterator[str]:
    """Which threshold reaches which accuracy, and which accuracies none is shown to reach."""
    for goal, row in found.goals:
        if row is not None:
            gives = f"threshold {row.threshold:g}, which answers {_percent(row.coverage)} of the pictures"
            yield f"At least {100 * goal:g} % of the answers right: {gives}."
    missed = [f"{100 * goal:g}" for goal, row in found.goals if row is None]
    if missed:
        yield f"At least {', '.join(missed)} %: no threshold of the table is shown to reach it by these pictures."


def _validation(subject: Subject, golden: Golden) -> Iterator[Block]:
    allowed = golden.tolerance
    yield Heading(2, "On-device validation")
    yield items(
        (Code(CHECK), ": all files are whole."),
        f"The tests of the package pass, inside the app, on the oldest and the newest phone that it supports: {golden.samples} "
        "sample pictures one by one on every choice of compute units, and as a batch, as frames, as files and through Vision.",
        (Code(f"coreml-pareto verify {MODEL} --data DATA"), " on a Mac: logits and top-1 of Core ML against the executor."),
        (Code(f"coreml-pareto measure {MODEL}"), " on a Mac: latency, loads, memory, the unit of each operation."),
        (Code("coreml-pareto device-kit RUN --out kit"), ", run it on the phone, then ",
         Code("coreml-pareto import-measurements FILE --run RUN"), ": measured latencies replace the estimates. RUN is the "
         f"folder of the search, {subject.run.folder.name}."),
        "The first load and the first answer after an update of the app or of the system, with a stopwatch.",
        "Thirty minutes of use: thermal state, memory, battery.",
        "A few hundred labelled pictures taken by the app itself: top-1 against the figures above.",
        style="boxes",
    )  # fmt: skip
    yield paragraph(
        f"The tests let every logit lie up to {significant(allowed.tau)} off: three standard deviations of noise 30 dB below "
        f"the logits ({significant(3 * allowed.noise)}), the rule of verify, or twice what rounding every value to half "
        f"precision does to the samples ({significant(2 * allowed.rounding)}), whichever is more. The ranges of the "
        f"probabilities in golden.json follow from it exactly. The label is held for {golden.decided} of the {golden.samples} "
        "samples; of the others two labels are within that distance."
    )


def _rollout(subject: Subject, found: Measures) -> Iterator[Block]:
    share = subject.top1.value
    yield Heading(2, "Rollout and A/B test")
    yield items(
        "Shadow: the new model answers beside the old one, nobody sees it; compare answers and latency.",
        "1 % of the users, then 10 %, 50 %, all; a day at least at each step, back at the first alarm (next chapter).",
        "Fix before the first user: the measure, the difference that matters, the size below, one look at the end.",
        style="numbered",
    )
    yield paragraph(
        f"Answers needed to show a difference from {_percent(share)} ({subject.top1_split} top-1), two-sided at "
        f"{rollout.SIGNIFICANCE:g}, with a chance of {100 * rollout.POWER:g} % to see it if it is there:"
    )
    head: tuple[str, ...] = ("difference", "per arm, if worse", "per arm, if better", "same pictures for both")
    yield Table(head, tuple(_arms_row(arms) for arms in found.arms), frozenset(range(4)))
    yield paragraph(_paired_words(found))
    yield paragraph(
        "Two arms: Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions, 3rd edition 2003, chapter 4, "
        "without continuity correction. Same pictures: Connor, Biometrics 43, 1987. Count users rather than answers where "
        "one user gives many: answers of one user are alike, and the sizes above are then too small."
    )


def _arms_row(arms: Arms) -> tuple[str, ...]:
    sizes = ("–" if size is None else f"{size:,}" for size in (arms.drop, arms.rise, arms.paired))
    return (f"{100 * arms.difference:g} point{'s' if arms.difference > 0.01 else ''}", *sizes)


def _paired_words(found: Measures) -> str:
    if found.discordant is None:
        return "No other package of the run tells which pictures it got right: the last column stays empty."
    other, share = found.discordant
    return (
        f"The last column: both models on the same labelled pictures, against the runner-up (trial {other.result.trial}, "
        f"{model_name(other.result)}), with which it disagrees on {_percent(share)} of the validation pictures; a dash where "
        "two that disagree so rarely cannot differ by so much."
    )


def _monitoring(subject: Subject, found: Measures) -> Iterator[Block]:
    mean, low, middle, high = found.confidence
    unsure = 1 - found.watched.coverage
    yield Heading(2, "Monitoring")
    yield paragraph(
        "Labels are not there in the field; confidence and the mix of answers are. Log, without pictures: the answer, its "
        "probability, the latency, the thermal state, the versions of app and system. On the validation pictures:"
    )
    yield items(
        f"Probability of the answer: mean {mean:.3f}; 10, 50 and 90 % quantiles {low:.3f}, {middle:.3f}, {high:.3f}.",
        f"Answers below {found.watched.threshold:g}: {_percent(unsure)}.",
        f"Most frequent answers: {', '.join(f'{label} {_percent(share)}' for label, share in found.answers[:5])}.",
    )
    rows = tuple(_alarm_row(alarm) for alarm in found.alarms)
    yield Table(
        ("predictions looked at", f"below {found.watched.threshold:g}: fewest", "most"), rows, frozenset({0, 1, 2})
    )
    yield paragraph(
        f"Outside of these counts something has probably changed: at most one look in {1 / FALSE_ALARMS:,.0f} is a false "
        "alarm, if pictures are independent and like those of validation, and their share of unsure answers lies in the 95 % "
        "interval that validation gives. After an alarm: look at pictures (with consent), run the tests of the package on "
        "that system, and compare with the checklist. Run the tests again with every new iOS."
    )


def _alarm_row(alarm: Alarm) -> tuple[str, ...]:
    return (f"{alarm.predictions:,}", f"{alarm.low:,}", f"{alarm.high:,}")


def _said(objective: str, reading: Reading) -> tuple[str, str, str]:
    return figure(objective, reading), interval(objective, reading), reading.how


def _images(reading: Reading) -> str:
    return reading.conditions.get("images", "an unknown number of")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
