"""The report as Markdown (GitHub's dialect: CommonMark and tables), its pictures beside it as PNG."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from coreml_pareto.search.report import findings, sections, story
from coreml_pareto.search.report.drawings import drawings, write_drawings, write_photographs
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.ink import printable
from coreml_pareto.search.report.pictures import Photograph
from coreml_pareto.search.report.sections import Cell
from coreml_pareto.search.report.words import ended, limits, model_name

ACROSS: Final = 4
"""Photographs in a row."""
PAIRS: Final = 10
_SPECIAL: Final = re.compile(r"([\\`*_\[\]|~$#])")
_CODE: Final = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def write_markdown(facts: Facts, path: Path) -> None:
    """Write the report, and its charts and photographs into the same folder.

    Raises:
        OSError: a file cannot be written.
    """
    write_drawings(facts, path.parent)
    photographs = write_photographs(facts, path.parent)
    path.write_text("\n".join(_lines(facts, photographs)) + "\n", encoding="utf-8")


def plain(text: str) -> str:
    """A text that Markdown shows as it is: on one line, nothing in it is markup or HTML."""
    marked = _SPECIAL.sub(r"\\\1", printable(text))
    return "".join(_ENTITIES.get(character, character) for character in marked)


def _lines(facts: Facts, photographs: Sequence[str]) -> Iterator[str]:
    yield from _head(facts)
    yield from _recommendation(facts)
    yield "\n## What may not be concluded\n"
    yield from (f"- **{plain(one.claim)}** {_sentence(one.because)}" for one in facts.limitations)
    yield from _charts(facts)
    yield from _anchors(facts)
    yield from _photographs(facts, photographs)
    yield from _compression(facts)
    yield from _diagnosis(facts)
    yield "\n## Conditions\n"
    said = [*facts.conditions, ended(facts.run), *sections.doubts_of(facts), *facts.missing]
    yield from (f"- {_sentence(line)}" for line in said)


def _head(facts: Facts) -> Iterator[str]:
    yield f"# {plain(facts.title)}\n"
    whom = f"For {plain(facts.client)}. " if facts.client else ""
    place = " / ".join(facts.run.target.conditions.values())
    yield f"{whom}{facts.date}. Study {plain(facts.run.study)} for {plain(place)}, {plain(limits(facts.run.limits))}."


def _recommendation(facts: Facts) -> Iterator[str]:
    yield "\n## Recommendation\n"
    if facts.chosen is None:
        yield from (f"{_sentence(line)}\n" for line in story.refusal(facts))
        return
    yield f"**{plain(model_name(facts.chosen))}** (trial {facts.chosen.trial}). {plain(facts.reason)}\n"
    rows = [
        [line.label, line.cells[0].text, line.cells[0].ends, line.cells[0].how]
        for line in sections.key_figures(facts.chosen)
    ]
    if facts.chosen.test_top1 is not None:
        test = sections.test_cell(facts.chosen)
        rows.append(["top-1 on test", test.text, test.ends, test.how])
    yield from _table(["", "value", "interval", "how"], rows)
    for result, name, sentence in sections.instead(facts):
        yield f"\nInstead, trial {result.trial}, {plain(name)}: {plain(sentence)}."


def _charts(facts: Facts) -> Iterator[str]:
    shown = list(drawings(facts))
    if shown:
        yield "\n## Charts\n"
        yield from (f"![{drawing.caption}]({drawing.name})\n" for drawing in shown)
    if facts.importances:
        yield plain(sections.importance_note(facts))


def _anchors(facts: Facts) -> Iterator[str]:
    if facts.anchors:
        yield "\n## Anchors side by side\n"
        lines = sections.side_by_side([anchor.result for anchor in facts.anchors], facts)
        rows = [[line.label, *(_cell(cell) for cell in line.cells)] for line in lines]
        yield from _table(["", *(anchor.name for anchor in facts.anchors)], rows)


def _photographs(facts: Facts, paths: Sequence[str]) -> Iterator[str]:
    found = facts.pictures
    if found is None:
        return
    yield "\n## Photographs, right and wrong\n"
    yield (
        f"{found.right:,} of {found.images:,} {found.split} pictures are answered right. Shown: {found.split} pictures, "
        f"because {plain(found.why)}; drawn at random.\n"
    )
    told = list(zip(found.samples, paths, strict=True))
    for right in (True, False):
        some = [(sample, path) for sample, path in told if sample.right is right]
        if some:
            yield f"\n### {'Right' if right else 'Wrong'}\n"
            yield from _gallery(some)
    if pairs := found.mixups(PAIRS):
        yield "\n### What is taken for what\n"
        rows = [[one.truth, one.predicted, f"{one.count:,}", f"{100 * one.share:.1f} %"] for one in pairs]
        yield from _table(["class", "taken for", "pictures", "of the class"], rows)


def _gallery(some: Sequence[tuple[Photograph, str]]) -> Iterator[str]:
    """Photographs in rows of `ACROSS`, the answer below each."""
    yield _row([""] * ACROSS)
    yield _row(["---"] * ACROSS)
    for start in range(0, len(some), ACROSS):
        part = some[start : start + ACROSS]
        yield _row([f"![{plain(sample.truth)}]({path})<br>{_answer(sample)}" for sample, path in part])


def _answer(sample: Photograph) -> str:
    sure = "" if sample.probability is None else f" {100 * sample.probability:.0f} %"
    truth = "" if sample.right else f", is {plain(sample.truth)}"
    return f"{plain(sample.predicted)}{sure}{truth}"


def _compression(facts: Facts) -> Iterator[str]:
    found = facts.inspection
    if found is None:
        return
    yield "\n## What the compression really did\n"
    asked = f"Asked: {plain(found.asked)}. " if found.asked else ""
    stored = "" if found.bits_per_weight is None else f"Stored: {found.bits_per_weight:.2f} bits per weight. "
    yield f"{asked}{stored}{plain(found.warning)}\n"
    rows = [
        [one.applied, str(one.layers), f"{100 * part:.1f} %", f"{one.bits_per_weight:.2f}", one.noise()]
        for one, part in sections.forms(found)
    ]
    yield from _table(
        ["stored as", "layers", "of the layers' weights", "bits per weight", "worst signal-to-noise ratio"], rows
    )
    if left := sections.exceptions(found):
        yield "\n### Not as asked\n"
        yield from _table(
            ["layers", "asked", "applied", "why", "of the layers' weights"],
            [
                [f"{one.layers}: {one.names}", one.asked, one.applied, one.reason, f"{100 * one.elements:.1f} %"]
                for one in left
            ],
        )


def _diagnosis(facts: Facts) -> Iterator[str]:
    yield f"\n## Diagnosis\n\n{plain(findings.headline(facts.diagnosis))}\n"
    for one in facts.diagnosis.findings:
        evidence = "; ".join(findings.figure(part) for part in one.evidence)
        command = printable(one.command).replace("`", "'")
        yield f"- **{one.severity}, {one.failure}:** {plain(one.what)} {plain(evidence)}. {plain(one.remedy)} `{command}`"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row([plain(head) for head in heads])
    yield _row(["---"] * len(heads))
    yield from (_row([plain(cell) for cell in row]) for row in rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    return cell.text + (f" ({cell.ends})" if cell.ends else "")


def _sentence(text: str) -> str:
    """Our own sentences name commands between backticks, which stay code; longer runs and a line's end would end it."""
    parts = _CODE.split(printable(text))
    return "".join(f"`{part}`" if place % 2 else _spaced(part) for place, part in enumerate(parts))


def _spaced(text: str) -> str:
    """`plain`, with the blanks at either end, beside which code stands."""
    return f"{' ' * text.startswith(' ')}{plain(text)}{' ' * (text.endswith(' ') and text != ' ')}"
