"""How does a chosen package leave the house?  Model, Swift, guide, report, card, terms and checksums in one folder.

The folder appears whole or not at all. What cannot be written because an extra is missing is said in a sentence; what was
asked for by name and cannot be written is refused before anything is made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from coreml_pareto.search.choose import Recommendation
from coreml_pareto.search.delivery.document import Block, Heading, Table, markdown, paragraph
from coreml_pareto.search.delivery.guide import NOT_BUILT, guide
from coreml_pareto.search.delivery.licences import Origin, origins
from coreml_pareto.search.delivery.measures import measure
from coreml_pareto.search.delivery.model_card import model_card
from coreml_pareto.search.delivery.printing import INSTALL, can_print, print_pdf
from coreml_pareto.search.delivery.provenance import CHECK, STUDY, SUMS, licences, provenance, study, write_sums
from coreml_pareto.search.delivery.publishing import check_new, published
from coreml_pareto.search.delivery.subject import Choice, Subject
from coreml_pareto.search.delivery.swift import MODEL, PACKAGE, write_swift
from coreml_pareto.search.lineage import TRAINING
from coreml_pareto.search.report.words import model_name
from coreml_pareto.search.run import Run

AIMODEL: Final = "optimized_model.aimodel"
REPORTS: Final = ("html", "pdf")


@final
@dataclass(frozen=True)
class Written:
    """A hand-over on disk: each file or folder in it and what it is, and what could not be written and why."""

    folder: Path
    contents: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def check(run: Run, choice: Choice, out: Path, *, aimodel: bool) -> None:
    """Refuse, before anything is made, what cannot end well.

    Raises:
        UserError: a folder that holds something; an .aimodel that cannot be made.
    """
    check_new(out)
    if aimodel:
        from coreml_pareto.search.delivery.aimodel import require

        require(run, choice.result)


def hand_over(subject: Subject, out: Path, *, aimodel: bool = False) -> Written:
    """Write everything.

    Raises:
        UserError: the folder cannot be written.
    """
    weights_from = origins(subject.run.folder, subject.scored.provenance.get(TRAINING))
    notes: list[str] = []
    with published(out) as draft:
        contents = list(_write(subject, weights_from, draft, notes))
        if aimodel:
            from coreml_pareto.search.delivery.aimodel import write_aimodel

            notes.append(write_aimodel(subject, draft / AIMODEL))
            contents.append(
                (f"{AIMODEL}/", "the same network for Core AI: beta, not run by anybody here, not compressed")
            )
        (draft / "README.md").write_text(markdown(_readme(subject, contents, notes)), "utf-8")
        write_sums(draft)
    return Written(out, tuple(contents), tuple(notes))


def _write(
    subject: Subject, weights_from: Sequence[Origin], draft: Path, notes: list[str]
) -> Iterator[tuple[str, str]]:
    """Write all but the optional model and the sums; yields what each file is."""
    found = measure(subject)
    shutil.copytree(subject.choice.package, draft / MODEL)
    yield f"{MODEL}/", "the Core ML model"
    golden = write_swift(subject, found.chosen_units, draft / PACKAGE)
    yield f"{PACKAGE}/", f"Swift package: library, {golden.samples} golden samples, benchmark"
    blocks = guide(subject, found, golden)
    (draft / "guide.md").write_text(markdown(blocks), "utf-8")
    yield "guide.md", "implementation guide"
    yield from _printed(subject, blocks, draft, notes)
    yield from _report(subject, draft, notes)
    (draft / "model_card.md").write_text(markdown(model_card(subject, weights_from)), "utf-8")
    yield "model_card.md", "model card"
    (draft / "LICENSES.md").write_text(markdown(licences(subject, weights_from)), "utf-8")
    yield "LICENSES.md", "terms of every part, as far as they are known"
    text = json.dumps(provenance(subject, weights_from), indent=1, ensure_ascii=False, allow_nan=False)
    (draft / "provenance.json").write_text(text, "utf-8")
    yield "provenance.json", "versions, digests, seeds, commands"
    (draft / STUDY).write_text(study(subject), "utf-8")
    yield STUDY, "what was asked of the search"


def _printed(subject: Subject, blocks: Sequence[Block], draft: Path, notes: list[str]) -> Iterator[tuple[str, str]]:
    if not can_print():
        notes.append(f"guide.pdf was left out: the typst compiler is not installed ({INSTALL})")
        return
    footer = f"{model_name(subject.result)}, trial {subject.result.trial} of {subject.run.study}"
    print_pdf(blocks, "Implementation guide", footer, draft / "guide.pdf")
    yield "guide.pdf", "the same, to print"


def _report(subject: Subject, draft: Path, notes: list[str]) -> Iterator[tuple[str, str]]:
    """The performance report of the whole run, in the formats that can be written here."""
    from coreml_pareto.search.report.formats import FORMATS, lacking, write
    from coreml_pareto.search.report.gathering import gather

    facts = gather(subject.run, client=subject.client)
    if isinstance(facts.answer, Recommendation) and facts.answer.chosen.trial != subject.result.trial:
        notes.append(
            f"The report tells of the whole search and recommends trial {facts.answer.chosen.trial}; delivered is trial "
            f"{subject.result.trial}"
        )
    for name in REPORTS:
        file = FORMATS[name].file
        if missing := lacking(name):
            notes.append(f"{file} was left out: {' and '.join(missing)} not installed ({INSTALL})")
            continue
        write(facts, [name], draft)
        yield file, "performance report of the search" + (", interactive" if name == "html" else ", to print")


def _readme(subject: Subject, contents: Sequence[tuple[str, str]], notes: Sequence[str]) -> Iterator[Block]:
    client = f" for {subject.client}" if subject.client else ""
    yield Heading(1, f"Hand-over{client}")
    yield paragraph(
        f"{model_name(subject.result)}, trial {subject.result.trial} of {subject.run.study}. {subject.choice.reason}"
    )
    yield Table(("file", "what it is"), (*contents, (SUMS, f"{CHECK}: are all files whole?")))
    yield paragraph(f"Begin with the guide. {NOT_BUILT}")
    for note in notes:
        yield paragraph(f"{note}.")


def as_rows(written: Written) -> dict[str, Any]:
    """For machines."""
    return {"folder": str(written.folder), "contents": dict(written.contents), "notes": list(written.notes)}
