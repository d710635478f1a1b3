"""The report on paper: what to take and why, the front, the anchors, the pictures, the conditions, as A4 pages.

Tells what the HTML report tells, from the same `Facts`; `paper` sets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective
from coreml_pareto.search.diagnosis.finding import Finding
from coreml_pareto.search.figures import SCALES, interval, mark, number, signed
from coreml_pareto.search.report import findings, story, words
from coreml_pareto.search.report.class_prints import MATRIX, class_print, confusion_print, extremes
from coreml_pareto.search.report.doubts import doubts
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.ink import shortened, svg
from coreml_pareto.search.report.paper import (
    Bullets,
    Chart,
    Grid,
    Paper,
    Part,
    Section,
    Shots,
    Tiles,
    Words,
    write_paper,
)
from coreml_pareto.search.report.pictures import Photograph, Pictures
from coreml_pareto.search.report.prints import anchors_print, growth_print, importance_print, pareto_print, plottable
from coreml_pareto.search.run import Result
from coreml_pareto.spaces.compression import describe

KIND: Final = "Performance report"
ROWS: Final = 40
"""Packages of a front that its table holds at most."""
_ACCURACY: Final = OBJECTIVES["accuracy"]
_LABEL: Final = 40


def write_pdf(facts: Facts, path: Path) -> None:
    """Write the report as PDF.

    Raises:
        UserError: typst is missing, or the file cannot be written.
    """
    write_paper(paper_of(facts), path)


def paper_of(facts: Facts) -> Paper:
    """The report as the parts of a document."""
    return Paper(
        kind=KIND,
        title=facts.title,
        client=facts.client,
        date=facts.date,
        about=story.about(facts),
        cover=tuple(_cover(facts)),
        sections=tuple(section for section in _sections(facts) if section.parts),
    )


def _sections(facts: Facts) -> Iterator[Section]:
    front = f"The front: {words.many(len(facts.front), 'package')} that nothing beats"
    yield Section(front, tuple(_front(facts)), fresh=True)
    yield Section("Accuracy against what it costs", tuple(_charts(facts)))
    yield Section("Five ways to choose", tuple(_anchors(facts)))
    yield Section("How the search went", tuple(_search(facts)))
    if facts.pictures is not None:
        yield Section("What it gets right and wrong", tuple(_photographs(facts.pictures)))
        yield Section("Class by class", tuple(_classes(facts.pictures)))
    yield Section("What the compression did", tuple(_compression(facts)))
    yield Section("Diagnosis", tuple(_diagnosis(facts)))
    yield Section("What may not be concluded", tuple(_limitations(facts)))
    yield Section("Conditions", (Bullets(tuple(("", sentence) for sentence in facts.conditions)),))


def _diagnosis(facts: Facts) -> Iterator[Part]:
    told = [
        (f"{one.failure} ({one.severity}):", " ".join([one.what, *_evidence(one), one.remedy, f"`{one.command}`"]))
        for one in facts.diagnosis.findings
    ]
    yield Words(findings.headline(facts.diagnosis), "label" if told else "plain")
    if told:
        yield Bullets(tuple(told))


def _evidence(one: Finding) -> Iterator[str]:
    if one.evidence:
        yield f"Evidence: {'; '.join(map(findings.figure, one.evidence))}."


def _cover(facts: Facts) -> Iterator[Part]:
    yield Words(story.verdict(facts), "lead")
    if facts.reason:
        yield Words(facts.reason)
    for line in story.refusal(facts)[1:]:
        yield Words(line)
    if shown := story.tiles(facts):
        yield Tiles(shown)
    if facts.chosen is not None and (caution := words.cautions(facts.chosen, facts.run.limits)):
        yield Words(f"This package {caution}: its value keeps the limit, its interval does not.", "warning")
    if line := story.tested(facts):
        yield Words(line)
    if facts.runners_up:
        told = tuple(
            (f"Trial {one.result.trial}, {words.model_name(one.result)}:", one.sentence) for one in facts.runners_up
        )
        yield Words("What else could be taken, and what it would change:")
        yield Bullets(told)
    yield Words(f"{story.limits(facts)} {words.ended(facts.run)}")
    if (first := _drawable(facts)[:1]) and facts.front:
        yield _chart(facts, first[0], 3.5)
    elif estimates := story.estimates(facts):
        yield Words(estimates, "note")


def _front(facts: Facts) -> Iterator[Part]:
    if not facts.front:
        return
    shown = front_rows(facts)
    if len(shown) < len(facts.front):
        yield Words(
            f"{len(shown)} of {len(facts.front)} packages are shown: the anchors, and those that are most often on drawn "
            "fronts or else most accurate. `coreml-pareto front RUN --csv FILE` writes all of them.", "note",
        )  # fmt: skip
    yield _front_table(facts, shown)
    for line in doubts(facts.run, facts.front, facts.shares, "On drawn fronts"):
        yield Words(line, "note")


def front_rows(facts: Facts) -> list[Result]:
    """The front, most accurate first; of a long one ROWS packages, the anchors and the recommended one among them."""
    kept = {anchor.result.trial for anchor in facts.anchors}
    ranked = sorted(
        facts.front, key=lambda r: (r.trial not in kept, -facts.shares.get(r.trial, 0.0), -_top1(r), r.trial)
    )
    return sorted(ranked[:ROWS], key=lambda result: (-_top1(result), result.trial))


def _top1(result: Result) -> float:
    return result.score["top1"].value if "top1" in result.score else 0.0


def _front_table(facts: Facts, shown: list[Result]) -> Grid:
    tested = any(result.test_top1 is not None for result in shown)
    heads = ["trial", "network, training, compression"]
    for row in facts.objectives:
        heads.append(f"{SCALES[row.name].noun}\n{SCALES[row.name].unit}")
        heads += ["test\n%"] if row is _ACCURACY and tested else []
    heads += ["on drawn\nfronts, %"] if facts.shares else []
    strong = tuple(place for place, r in enumerate(shown) if facts.chosen is not None and r.trial == facts.chosen.trial)
    rows = tuple(tuple(_front_row(facts, result, tested)) for result in shown)
    return Grid(tuple(heads), rows, wide=1, strong=strong)


def _front_row(facts: Facts, result: Result, tested: bool) -> Iterator[str]:
    yield str(result.trial)
    caution = words.cautions(result, facts.run.limits)
    yield (
        f"{result.candidate.network.label}\n{result.candidate.recipe.label} · {describe(result.candidate.compression)}"
        + (f"\n{caution}" if caution else "")
    )
    for row in facts.objectives:
        yield _bare(row, result)
        if row is _ACCURACY and tested:
            yield "–" if result.test_top1 is None else number("accuracy", result.test_top1.value)
    if facts.shares:
        yield f"{100 * facts.shares[result.trial]:.0f}" if result.trial in facts.shares else "–"


def _bare(row: Objective, result: Result) -> str:
    """A value without its unit, which the column has, and its interval below."""
    reading = result.score.get(row.reading)
    if reading is None:
        return "–"
    ends = interval(row.name, reading, digits=2)
    return f"{mark(reading)}{number(row.name, reading.value)}" + (f"\n{ends}" if ends else "")


def _charts(facts: Facts) -> Iterator[Part]:
    """One for each objective; of the first the cover has it where there is a front."""
    for row in _drawable(facts)[1 if facts.front else 0 :]:
        yield _chart(facts, row, 2.5)


def _drawable(facts: Facts) -> list[Objective]:
    """What top-1 can be drawn against, size first: it is exact."""
    rows = [row for row in facts.objectives if row is not _ACCURACY]
    known = [row for row in rows if any(plottable(result, row) for result in facts.scored)]
    return sorted(known, key=lambda row: row.name != "size")


def _chart(facts: Facts, row: Objective, height: float) -> Chart:
    alt = f"Top-1 against {SCALES[row.name].noun} of every package"
    return Chart(svg(pareto_print(facts, row, height)), _chart_caption(facts, row), alt)


def _chart_caption(facts: Facts, row: Objective) -> str:
    shown = sum(plottable(result, row) for result in facts.scored)
    on = sum(plottable(result, row) for result in facts.front)
    told = f"Top-1 against {SCALES[row.name].noun}: {words.many(shown, 'package')}, {on} on the front"
    chosen = facts.chosen
    ring = f"; ringed: trial {chosen.trial}" if chosen is not None and plottable(chosen, row) else ""
    return f"{told}{ring}. Lines through points: intervals. {story.estimates(facts)}"


def _anchors(facts: Facts) -> Iterator[Part]:
    if not facts.anchors:
        return
    yield Chart(
        svg(anchors_print(facts)),
        "The packages that are best in one respect, and the balanced one. Dots: values; lines: intervals.",
        "Readings of the anchors side by side",
    )
    yield Bullets(
        tuple((f"{names.capitalize()}, trial {trial}:", reason) for (trial, reason), names in _reasons(facts).items())
    )


def _reasons(facts: Facts) -> dict[tuple[int, str], str]:
    """The anchors' names by trial and reason: one package alone has the same one for all."""
    found: dict[tuple[int, str], str] = {}
    for anchor in facts.anchors:
        key = anchor.result.trial, anchor.reason
        found[key] = f"{found[key]}, {anchor.name}" if key in found else anchor.name
    return found


def _search(facts: Facts) -> Iterator[Part]:
    yield Words(f"{words.many(len(facts.run.results), 'trial')}: {words.ended(facts.run)}", "label")
    if facts.correlations is not None:  # a table fills what is left of a page, a chart may begin the next one
        yield _correlations(facts)
    if facts.growth is not None and facts.front and len(facts.growth.points) > 1:
        caption = (
            "Hypervolume of the front as a share of a box around the run's first package: it shows how this run went and "
            "does not compare runs."
        )
        yield Chart(svg(growth_print(facts.growth)), caption, "Hypervolume over the run")
    if facts.importances:
        caption = (
            "How much each choice mattered for each objective, over the scored packages (PED-ANOVA, Watanabe, Bansal and "
            "Hutter 2023); what is missing to 1 is not told from chance."
        )
        yield Chart(svg(importance_print(facts.importances)), caption, "Importance of the choices by objective")


def _correlations(facts: Facts) -> Grid:
    nouns = [SCALES[row.name].noun for row in facts.run.objectives]
    rows = tuple(
        (noun, *("–" if rho != rho else signed(rho, 2) for rho in line))
        for noun, line in zip(nouns, facts.correlations or (), strict=True)
    )
    caption = "Do the axes say the same? Spearman's rank correlation (+1: better on one is better on the other)"
    return Grid(("", *nouns), rows, caption=caption)


def _photographs(pictures: Pictures) -> Iterator[Part]:
    yield Words(f"Right: {story.right(pictures)}; {pictures.why}.")
    for right, told in (
        (True, "Answered right, and how sure the package is"),
        (False, "Wrong: the picture's class → the answer"),
    ):
        if shown := [shot for shot in pictures.samples if shot.right is right]:
            yield Words(f"{told}; drawn at random", "label")
            yield Shots(tuple((shot.pixels, *_below(shot)) for shot in shown))


def _below(shot: Photograph) -> tuple[str, str]:
    sure = "" if shot.probability is None else f"{100 * shot.probability:.0f} %"
    if shot.right:
        return shortened(shot.truth, _LABEL), sure
    return f"{shortened(shot.truth, _LABEL)} →", f"{shortened(shot.predicted, _LABEL)} {sure}"


def _classes(pictures: Pictures) -> Iterator[Part]:
    if not pictures.by_class:
        return
    matrix = len(pictures.classes) <= MATRIX
    caption = (
        f"Answers in percent of each class's {pictures.split} pictures: the class in the row, the answer in the column."
        if matrix
        else f"The pairs that are confused most often, out of {len(pictures.classes):,} classes."
    )
    yield Chart(svg(confusion_print(pictures)), caption, "Which classes are taken for which")
    worst, best = extremes(pictures.by_class)
    shown = f" The {len(worst)} worst and the {len(best)} best of {len(pictures.by_class):,} classes." if best else ""
    caption = f"Accuracy by class with 95 % intervals (Wilson), the worst on top.{shown}"
    yield Chart(svg(class_print(pictures)), caption, "Accuracy by class")


def _compression(facts: Facts) -> Iterator[Part]:
    if facts.inspection is None:
        return
    yield Words(story.compressed(facts.inspection))
    rows = tuple(
        (one.applied, f"{one.weights:,}", f"{one.layers:,}", f"{one.elements:,}", f"{one.bits_per_weight:.2f}",
         f"{one.stored_bytes:,}", one.noise(0))
        for one in story.stored(facts.inspection.rows)
    )  # fmt: skip
    heads = ("stored as", "weights", "of them\nlayers", "elements", "bits per\nweight", "bytes", "least\nSNR")
    yield Grid(heads, rows, caption="The recommended package's weights")
    sizes = facts.inspection.sizes
    parts = (
        ("weights", sizes.weights), ("constants", sizes.constants), ("headers and padding", sizes.framing),
        ("program text", sizes.program), ("manifest and other", sizes.other), ("all", sizes.total),
    )  # fmt: skip
    yield Grid(
        ("part", "bytes"), tuple((name, f"{size:,}") for name, size in parts), strong=(5,), caption="Where the bytes go"
    )
    for note in facts.inspection.notes:
        yield Words(note, "note")
    yield from _uses(facts)


def _uses(facts: Facts) -> Iterator[Part]:
    if not facts.uses:
        return
    heads = ("stored as", "minimum OS", "units that\nprofit", "time,\nfp16 = 1", "what Apple says")
    rows = tuple(
        (use.name, " / ".join(words.systems(use.minimum_os)), ", ".join(use.guide.units) or "–",
         "–" if use.relative is None else "–".join(dict.fromkeys(f"{share:.2f}" for share in use.relative)), use.guide.speed)
        for use in facts.uses
    )  # fmt: skip
    yield Grid(heads, rows, wide=4, caption="What is published of these forms on devices")
    for report in dict.fromkeys(report for use in facts.uses for report in use.reports):
        yield Words(f"Open since {report.since}: {report.what} ({report.reference})", "warning")
    sources = {tag: text for use in facts.uses for tag, text in use.sources.items()}
    for tag, text in sources.items():
        yield Words(f"{tag}: {text}", "note")


def _limitations(facts: Facts) -> Iterator[Part]:
    points = tuple((one.claim, one.because) for one in facts.limitations)
    points += tuple(("Not shown.", sentence) for sentence in facts.missing)
    if points:
        yield Bullets(points)
