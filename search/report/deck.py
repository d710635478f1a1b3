"""The report as six to ten slides: one message each, its title the message, its notes the conditions.

Charts of packages are PowerPoint's own and can be edited. Tells what the HTML and the PDF tell, from the same `Facts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pptx.enum.text import MSO_ANCHOR

from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.choose import Difference, RunnerUp, differences
from coreml_pareto.search.figures import SCALES, figure, interval
from coreml_pareto.search.report import findings, story, words
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.ink import BLUE, ORANGE, shortened
from coreml_pareto.search.report.native import bars, scatter
from coreml_pareto.search.report.pictures import ClassAccuracy, Photograph
from coreml_pareto.search.report.prints import plottable
from coreml_pareto.search.report.scatters import scatter_series, shown_value, span
from coreml_pareto.search.report.slides import BODY, BODY_LEAST, QUIET, Deck, Frame
from coreml_pareto.search.run import Result

LEAST, MOST = 6, 10
"""Slides of every deck."""
_ACCURACY: Final = OBJECTIVES["accuracy"]
_CLASSES: Final = 10
_TOLD: Final = tuple(OBJECTIVES[name] for name in ("accuracy", "size", "latency"))
"""Objectives that a slide has room for."""
_SHOTS: Final = 6
_FORMS: Final = 4
_FINDINGS: Final = 3

Slide = Callable[[Deck, Facts], None]


def write_deck(facts: Facts, path: Path) -> None:
    """Write the slides as PPTX.

    Raises:
        UserError: the file cannot be written.
    """
    deck = Deck(facts.title)
    for slide in slides_of(facts):
        slide(deck, facts)
    deck.save(path)


def slides_of(facts: Facts) -> list[Slide]:
    """Which slides there are something to say on: LEAST to MOST."""
    rows = [row for row in (OBJECTIVES["size"], OBJECTIVES["latency"]) if any(plottable(r, row) for r in facts.scored)]
    shown: list[Slide] = [_cover, _answer if facts.chosen is not None else _refusal]
    shown += [_against(row) for row in rows]
    shown += [_anchors] if facts.anchors else []
    shown += [_alternatives] if facts.runners_up else []
    shown += [_pictures] if facts.pictures is not None and facts.pictures.samples else []
    shown += [_classes] if facts.pictures is not None and len(facts.pictures.by_class) > 1 else []
    shown += [_compression] if facts.inspection is not None else []
    shown += [_diagnosis] if facts.diagnosis.findings else []
    shown += [_limitations]
    if len(shown) > MOST:
        shown.remove(_classes)  # the report has them; a finding is news
    spare: list[Slide] = [_search, _conditions, _next]
    return [*shown[:-1], *spare[: max(0, LEAST - len(shown), min(1, MOST - len(shown)))], shown[-1]]


def _cover(deck: Deck, facts: Facts) -> None:
    page = deck.add(facts.title, notes=_notes(facts), frame=Frame(BODY.left, 110, BODY.width, 120))
    client = [f"for {facts.client}"] if facts.client is not None else []
    page.text([*client, facts.date], Frame(BODY.left, 246, BODY.width, 70), 26)
    page.text([story.verdict(facts)], Frame(BODY.left, 332, BODY.width, 80), 26, bold=True, colour=BLUE)
    page.text([story.about(facts)], Frame(BODY.left, 430, BODY.width, 50), 20, colour=QUIET)


def _answer(deck: Deck, facts: Facts) -> None:
    assert facts.chosen is not None
    told = ", ".join(_named(row, reading) for row, reading in _readings(facts, facts.chosen)[:3])
    notes = [story.verdict(facts), facts.reason, *_notes(facts)]
    page = deck.add(f"Take {words.model_name(facts.chosen)}: {told}", story.estimates(facts), notes)
    tiles = story.tiles(facts)
    for tile, frame in zip(tiles, Frame(BODY.left, BODY.top, BODY.width, 140).columns(len(tiles)), strict=True):
        page.tile(*tile, frame)
    caution = words.cautions(facts.chosen, facts.run.limits)
    below = [facts.reason, story.tested(facts), story.limits(facts), f"It {caution}." if caution else ""]
    page.text([line for line in below if line], Frame(BODY.left, BODY.top + 160, BODY.width, 198), 24)


def _refusal(deck: Deck, facts: Facts) -> None:
    lines = story.refusal(facts)[1:] or story.refusal(facts)
    page = deck.add(story.verdict(facts), story.estimates(facts), [*lines, *_notes(facts)])
    page.text(lines, BODY, 24)


def _against(row: Objective) -> Slide:
    """The front against one objective, as a scatter that can be edited."""

    def slide(deck: Deck, facts: Facts) -> None:
        notes = [*_notes(facts), *(_line(result) for result in facts.front[:20])]
        page = deck.add(_trade(facts, row), story.estimates(facts), notes)
        series = scatter_series(facts, row)
        x = span(row, [x for one in series for x, _ in one.points], [one.x_ends for one in series])
        y = span(_ACCURACY, [y for one in series for _, y in one.points], [one.y_ends for one in series])
        scatter(page, series, x, y, BODY)

    return slide


def _trade(facts: Facts, row: Objective) -> str:
    """What the chart says of the recommended package and the most accurate one."""
    noun = SCALES[row.name].noun
    if facts.chosen is None:
        return f"Top-1 against {noun}: none of {words.many(len(facts.scored), 'package')} keeps the limits"
    if not plottable(facts.chosen, row):
        return f"Top-1 against {noun}: of the recommended package it is not known"
    most = max(
        (result for result in facts.front if plottable(result, row)),
        key=lambda r: (r.score["top1"].value, -r.score[row.reading].value, -r.trial),
    )
    mine = facts.chosen.score
    value = f"{figure('accuracy', mine['top1'])} top-1 at {figure(row.name, mine[row.reading])}"
    gain, cost = differences(most, facts.chosen, [_ACCURACY, row])
    if not gain.change:
        return f"{value}: no package on the front is more accurate"
    more = gain.told.replace(f" {SCALES['accuracy'].difference}", " points")
    more += " (not certain)" if gain.overlap and gain.low is None else ""  # an interval says it by itself
    return f"{value}; most accurate: +{more}{_at_cost(cost)}"


def _at_cost(cost: Difference) -> str:
    """What it takes; estimates whose intervals overlap show no difference."""
    noun = SCALES[cost.objective.name].noun
    if not cost.change:
        return f" at the same {noun}"
    return f", {noun} not told apart" if cost.overlap else f" for {cost.told} {'less' if cost.better else 'more'}"


def _anchors(deck: Deck, facts: Facts) -> None:
    anchors = [(told, anchor.result) for told, anchor in story.anchored(facts)]
    notes = [f"{anchor.name}, trial {anchor.result.trial}: {anchor.reason}" for anchor in facts.anchors]
    page = deck.add(_choice(facts), story.estimates(facts), [*notes, *_notes(facts)])
    heads, names, *plots = _columns([row for row in _shown(facts) if any(row.reading in r.score for _, r in anchors)])
    for (told, result), frame in zip(anchors, names.rows(len(anchors), gap=0.0), strict=True):
        page.text([f"trial {result.trial}: {told}"], frame, 20, anchor=MSO_ANCHOR.MIDDLE)
    strong = next(
        (i for i, (_, r) in enumerate(anchors) if facts.chosen is not None and r.trial == facts.chosen.trial), None
    )
    for (row, frame), head in zip(plots, heads, strict=True):
        page.text([f"{SCALES[row.name].noun}, {SCALES[row.name].unit}"], head, BODY_LEAST, bold=True)
        values = {f"trial {result.trial}": shown_value(result, row) for _, result in anchors}
        bars(
            page,
            values,
            [_with_ends(row, result.score.get(row.reading)) for _, result in anchors],
            frame,
            strong=strong,
        )


def _columns(rows: Sequence[Objective]) -> tuple[list[Frame], Frame, *tuple[tuple[Objective, Frame], ...]]:
    """Heads of the charts, the column of names, and each objective with its chart's frame."""
    top, names = BODY.top + 34, 230.0
    charts = Frame(BODY.left + names + 18, top, BODY.width - names - 18, BODY.height - 34).columns(len(rows))
    heads = [Frame(chart.left, BODY.top, chart.width, 28) for chart in charts]
    return heads, Frame(BODY.left, top, names, BODY.height - 34), *zip(rows, charts, strict=True)


def _choice(facts: Facts) -> str:
    """What the choice is about: the most accurate against the smallest of the anchors."""
    most, least = (
        next((a.result for a in facts.anchors if a.name == name), None) for name in ("most accurate", "smallest")
    )
    count = len(story.anchored(facts))
    if most is None or least is None or most.trial == least.trial:
        told = "One package is best" if count == 1 else f"{count} packages are best"
        return f"{told} by {words.many(len(facts.anchors), 'priority').replace('prioritys', 'priorities')}"
    small, large = (
        f"{figure('size', r.score['size_bytes'])} with {figure('accuracy', r.score['top1'])}" for r in (least, most)
    )
    return f"From {small} to {large}: {count} packages to choose from"


def _alternatives(deck: Deck, facts: Facts) -> None:
    assert facts.chosen is not None
    notes = [f"Trial {one.result.trial}, {words.model_name(one.result)}: {one.sentence}" for one in facts.runners_up]
    page = deck.add(_instead(facts.runners_up[0]), story.estimates(facts), [*notes, *_notes(facts)])
    results = [facts.chosen, *(one.result for one in facts.runners_up)]
    head = ["", *(f"{'★ ' if place == 0 else ''}trial {r.trial}" for place, r in enumerate(results))]
    rows = [
        [SCALES[row.name].noun, *(" ".join(_with_ends(row, result.score.get(row.reading))) for result in results)]
        for row in facts.objectives
    ]
    page.table([head, *rows], Frame(BODY.left, BODY.top, BODY.width, 38.0 * (1 + len(rows))), 120)
    below = BODY.top + 38.0 * (1 + len(rows)) + 14
    told = [f"trial {result.trial}: {words.model_name(result)}" for result in results]
    page.text(told, Frame(BODY.left, below, BODY.width, BODY.top + BODY.height - below), 20)


def _instead(other: RunnerUp) -> str:
    """What another package would gain and cost on the three objectives that a slide has room for."""
    told = [
        d
        for d in other.differences
        if d.change and d.objective in _TOLD and (d.objective is _ACCURACY or not d.overlap)
    ]
    parts = [
        f"{verb} {', '.join(d.told + ' (not certain)' * d.overlap for d in told if d.better is better)}"
        for verb, better in (("gains", True), ("costs", False))
        if any(d.better is better for d in told)
    ]
    name = f"Trial {other.result.trial} instead"
    known = [row for row in _TOLD if any(d.objective == row for d in other.differences)]
    return f"{name} {' and '.join(parts)}" if parts else f"{name} is not told apart in {_nouns(known)}"


def _nouns(rows: Sequence[Objective]) -> str:
    return ", ".join(SCALES[row.name].noun for row in rows)


def _pictures(deck: Deck, facts: Facts) -> None:
    pictures = facts.pictures
    assert pictures is not None
    title = f"Right on {story.right(pictures)}"
    pairs = [f"{pair.truth} taken for {pair.predicted}: {pair.count:,} pictures" for pair in pictures.mixups(5)]
    page = deck.add(
        title,
        "Drawn at random; percentages: how sure the package is of its answer",
        [pictures.why, *pairs, *_notes(facts)],
    )
    for right, frame in zip((True, False), BODY.rows(2), strict=True):
        shots = [shot for shot in pictures.samples if shot.right is right][:_SHOTS]
        head = Frame(frame.left, frame.top, 76, frame.height)
        page.text(
            ["right" if right else "wrong"],
            head,
            22,
            bold=True,
            colour=BLUE if right else ORANGE,
            anchor=MSO_ANCHOR.MIDDLE,
        )
        places = Frame(frame.left + 84, frame.top, frame.width - 84, frame.height).columns(_SHOTS, gap=8.0)
        for shot, place in zip(shots, places, strict=False):
            page.picture(shot.pixels, place, *_caption(shot))


def _caption(shot: Photograph) -> tuple[str, str]:
    sure = "" if shot.probability is None else f"{100 * shot.probability:.0f} %"
    return (shot.truth, sure) if shot.right else (shot.truth, f"→ {shot.predicted}")


def _classes(deck: Deck, facts: Facts) -> None:
    assert facts.pictures is not None
    ranked = sorted(facts.pictures.by_class, key=lambda one: (one.value, -one.images, one.label))
    every = list(enumerate(ranked, start=1))
    shown = every if len(every) <= _CLASSES else [*every[: _CLASSES // 2], *every[-_CLASSES // 2 :]]
    left = f"; {_CLASSES // 2} worst and best of {len(ranked):,} classes" if len(shown) < len(ranked) else ""
    title = f"Worst class: {_share(ranked[0])}; best: {_share(ranked[-1])}"
    foot = f"95 % intervals (Wilson), {facts.pictures.split} pictures{left}"
    page = deck.add(title, foot, [f"{one.label}: {_share(one)}" for _, one in shown] + _notes(facts))
    values = {f"{place}. {one.label}": 100 * one.value for place, one in shown}
    labels = [[f"{100 * one.value:.0f} % ({100 * one.low:.0f}–{100 * one.high:.0f})"] for _, one in shown]
    bars(page, values, labels, BODY, names=280)


def _share(one: ClassAccuracy) -> str:
    return f"{shortened(one.label, 22)}, {100 * one.value:.0f} % of {one.images:,}"


def _compression(deck: Deck, facts: Facts) -> None:
    inspection = facts.inspection
    assert inspection is not None
    told = [f"Stored as {use.name}: {use.guide.speed}" for use in facts.uses]
    reports = [f"Open report {r.reference}: {r.what}" for use in facts.uses for r in use.reports]
    layers = [row for row in inspection.rows if row.layer]
    bits = "" if inspection.bits_per_weight is None else f": {inspection.bits_per_weight:.1f} bits per weight"
    title = f"{sum(row.compressed for row in layers)} of {words.many(len(layers), 'layer')} compressed{bits}"
    page = deck.add(title, notes=[*inspection.notes, *told, *reports, *_notes(facts)])
    left, right = (
        Frame(BODY.left, BODY.top, 520, BODY.height),
        Frame(BODY.left + 548, BODY.top, BODY.width - 548, BODY.height),
    )
    forms = story.stored(inspection.rows)
    values = {f"{one.applied} ({one.weights:,})": one.stored_bytes / 1e3 for one in forms[:_FORMS]}
    if others := forms[_FORMS:]:
        name = f"{len(others)} more ({sum(one.weights for one in others):,})"
        values[name] = sum(one.stored_bytes for one in others) / 1e3
    rest = inspection.sizes.total - inspection.sizes.weights - inspection.sizes.inline
    values["program, headers, rest"] = rest / 1e3
    page.text(
        [f"Where {inspection.sizes.total:,} bytes go: kB, weights in brackets"],
        Frame(left.left, left.top, left.width, 28),
        20,
        bold=True,
    )
    plot = Frame(left.left, left.top + 36, left.width, min(left.height - 36, 62.0 * len(values)))
    bars(page, values, [[f"{value:,.1f}"] for value in values.values()], plot, names=250)
    systems = (
        [f"Runs from {' / '.join(words.systems(max(use.minimum_os for use in facts.uses)))} on."] if facts.uses else []
    )
    page.text([story.compressed(inspection), *systems, *dict.fromkeys(told), *dict.fromkeys(reports)], right, 20)


def _diagnosis(deck: Deck, facts: Facts) -> None:
    """The playbook's three failures: what was found, the worst first, and what would mend it."""
    found, more = facts.diagnosis.findings[:_FINDINGS], len(facts.diagnosis.findings) - _FINDINGS
    notes = [findings.headline(facts.diagnosis)]
    for one in facts.diagnosis.findings:
        notes += [f"{one.failure}, {one.subject}: {one.what}", *findings.lines(one), one.command]
    notes += [line for _, line in findings.checked(facts.diagnosis.checks)]
    page = deck.add(_worst(facts), story.estimates(facts), [*notes, *_notes(facts)])
    lines = [f"• {one.severity.capitalize()}: {one.what} {one.remedy}" for one in found]
    lines += [f"And {words.many(more, 'more finding')}, in the report."] if more > 0 else []
    page.text(lines, BODY, 24)


def _worst(facts: Facts) -> str:
    """The most severe finding, as a slide's title."""
    worst = facts.diagnosis.findings[0]
    told = f"{worst.failure.capitalize()}: {worst.cause}"
    more = len(facts.diagnosis.findings) - 1
    return f"{told}; {words.many(more, 'other finding')}" if more else told


def _search(deck: Deck, facts: Facts) -> None:
    title = f"{words.many(len(facts.run.results), 'trial')}: {words.ended(facts.run).removesuffix('.')}"
    page = deck.add(title, notes=_notes(facts))
    counts = {story.KINDS[name]: float(count) for name, count in facts.counts.items()}
    page.text(["Trials by how they ended"], Frame(BODY.left, BODY.top, BODY.width, 30), 22, bold=True)
    plot = Frame(BODY.left, BODY.top + 44, BODY.width, 250)
    bars(page, counts, [[f"{count:,.0f}"] for count in counts.values()], plot, names=280)


def _conditions(deck: Deck, facts: Facts) -> None:
    page = deck.add("These conditions hold for every figure", notes=_notes(facts))
    page.text([*facts.conditions, story.limits(facts)], BODY, 22)


def _next(deck: Deck, facts: Facts) -> None:
    """What a person can do about a run with little to show; lines with flags are `words.refusal`'s."""
    flags = [line for line in story.refusal(facts) if line.startswith("--")]
    failed = ["coreml-pareto status RUN tells what failed, and where."] if facts.counts["failed"] else []
    again = "coreml-pareto search --resume RUN goes on from here, with more trials or other limits: nothing trained is lost."
    title = "What to do next: search on" + (", or give way on a limit" if facts.run.limits else "")
    page = deck.add(title, story.estimates(facts), _notes(facts))
    page.text([*flags, again, *failed], BODY, 24)


def _limitations(deck: Deck, facts: Facts) -> None:
    count = len(facts.limitations)
    title = (
        f"What may not be concluded: {words.many(count, 'caution')}"
        if count
        else "Nothing beyond the figures may be concluded"
    )
    full = [f"{one.claim} {one.because}" for one in facts.limitations]
    page = deck.add(title, story.estimates(facts), [*full, *facts.missing, *_notes(facts)])
    points = [f"• {one.claim}" for one in facts.limitations] + [
        f"• Not shown: {sentence}" for sentence in facts.missing
    ]
    if facts.diagnosis.checks and not facts.diagnosis.findings:
        points.append(f"• Diagnosis: {findings.headline(facts.diagnosis)}")
    page.text(points, BODY, 24)


def _notes(facts: Facts) -> list[str]:
    """The conditions of all figures, for the speaker."""
    return [f"Study {facts.run.study}; {facts.date}.", "Conditions:", *facts.conditions]


def _shown(facts: Facts) -> list[Objective]:
    return [row for row in _TOLD if row in facts.objectives]


def _readings(facts: Facts, result: Result) -> list[tuple[Objective, Reading]]:
    """In the order of importance on a slide."""
    rows = dict.fromkeys([*_shown(facts), *facts.objectives])
    return [(row, result.score[row.reading]) for row in rows if row.reading in result.score]


def _named(row: Objective, reading: Reading) -> str:
    noun = {"accuracy": " top-1", "memory": " of memory"}.get(row.name, "")
    return f"{figure(row.name, reading)}{noun}"


def _with_ends(row: Objective, reading: Reading | None) -> list[str]:
    """A value and, unless it is exact, its interval in brackets."""
    if reading is None:
        return ["not known"]
    ends = interval(row.name, reading, 2)
    return [figure(row.name, reading), *([f"({ends})"] if ends else [])]


def _line(result: Result) -> str:
    told = ", ".join(
        f"{SCALES[name].noun} {' '.join(_with_ends(row, result.score.get(row.reading)))}"
        for name, row in OBJECTIVES.items()
    )
    return f"trial {result.trial}, {words.model_name(result)}: {told}"
