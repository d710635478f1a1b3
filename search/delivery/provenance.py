"""How was it made, and is it whole?  Versions, digests, seeds and commands as JSON; checksums for `sha256sum -c`; terms."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.reading import score_to_dict
from coreml_pareto.search.config import dump_plan
from coreml_pareto.search.delivery.document import Block, Heading, Table, items, paragraph
from coreml_pareto.search.delivery.licences import OURS, UNKNOWN, Origin
from coreml_pareto.search.delivery.subject import Subject
from coreml_pareto.search.delivery.swift import MODEL, PACKAGE
from coreml_pareto.search.origin import ENVIRONMENT
from coreml_pareto.search.store.keys import installed_version, tool_versions

SUMS: Final = "SHA256SUMS"
CHECK: Final = f"shasum -a 256 -c {SUMS}"
"""What every Mac has; Linux also knows it as `sha256sum -c`."""
STUDY: Final = "study.yaml"
FORMAT: Final = "coreml-pareto-handover"


def provenance(subject: Subject, weights_from: Sequence[Origin]) -> dict[str, Any]:
    """Everything by which the model can be made again and recognised, as plain values."""
    result, run = subject.result, subject.run
    recorded = run.folder / ENVIRONMENT
    return {
        "format": FORMAT,
        "version": 1,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "client": subject.client,
        "tools": tool_versions() | {"optuna": installed_version("optuna"), "typst": installed_version("typst")},
        "search_environment": json.loads(recorded.read_text("utf-8")) if recorded.is_file() else None,
        "study": subject.plan.model_dump(mode="json", exclude={"storage"}),
        "trial": result.trial,
        "reason": subject.choice.reason,
        "candidate": result.candidate.model_dump(mode="json"),
        "candidate_digest": result.candidate.digest,
        "package_digest": subject.digest,
        "data": {"name": subject.data.name, "digest": subject.data.digest, "splits": _splits(subject)},
        "seeds": {
            "search": subject.plan.search.seed,
            "splits": subject.plan.splits.seed,
            "training": result.candidate.recipe.seed,
            "repeated": sorted(result.repeated),
        },
        "training": dict(subject.scored.provenance),
        "weights_from": [vars(origin) for origin in weights_from],
        "readings": {
            name: _without_images(plain) for name, plain in score_to_dict(result.score).items()
        } | ({} if result.test_top1 is None else {"test_top1": _without_images(result.test_top1.to_dict())}),
        "commands": commands(subject),
    }  # fmt: skip


def commands(subject: Subject) -> list[str]:
    """What to type to search again (where a timeout ends it, with another number of trials) and to look again."""
    data = shlex.quote(subject.plan.data or "DATA")
    return [
        f"coreml-pareto search {STUDY} --data {data} --run again",
        f"coreml-pareto deliver again {subject.result.trial} --out handover",
        f"coreml-pareto evaluate {MODEL} --data {data}",
        f"coreml-pareto inspect {MODEL}",
    ]


def study(subject: Subject) -> str:
    """The study file: what was asked, without the places where other machines keep things."""
    return dump_plan(subject.plan.model_copy(update={"storage": None, "store": None}))


def licences(subject: Subject, weights_from: Sequence[Origin]) -> list[Block]:
    """The terms of each part; `unknown` where nothing is on record."""
    rows = [
        ("The Swift of the package", f"{OURS}, text in {PACKAGE}/LICENSE"),
        *((f"Weights: {origin.network} began with {origin.weights}", _terms(origin)) for origin in weights_from),
        (f"Pictures: {subject.data.name}", f"{UNKNOWN}; sample pictures of them lie in the package's tests"),
        ("Labels, papers", "whoever gave the labels; the papers may be used with the model"),
    ]
    recipe = subject.result.candidate.recipe
    if recipe.teacher is not None:
        rows.insert(
            2, (f"Teacher: {recipe.teacher}", f"{UNKNOWN}; its answers were learnt from, its weights are not here")
        )
    return [
        Heading(1, "Licences"),
        paragraph("As far as it is on record. Unknown means that nobody told, not that anything is allowed."),
        Table(("part", "terms"), tuple(rows)),
        items(
            "Before shipping: settle what is unknown, above all the terms of the pictures and of weights that others trained.",
            "The sample pictures are for tests; they are not part of the library, and so not of an app.",
        ),
    ]


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of every file of a folder, as `sha256sum -c` reads them."""
    lines = [f"{_sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in _files(folder)]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _terms(origin: Origin) -> str:
    return origin.licence if origin.source == UNKNOWN else f"{origin.licence} ({origin.source})"


def _splits(subject: Subject) -> Any:
    return json.loads(subject.program.metadata.get(f"{PREFIX}splits", "null"))


def _without_images(plain: dict[str, Any]) -> dict[str, Any]:
    """A reading without the list of images that were right, which is for machines and long."""
    kept = {name: text for name, text in plain["conditions"].items() if name != "right"}
    return {**plain, "conditions": kept}
