"""`coreml-pareto report`, on a search of one trial that is trained here, and on records alone."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from coreml_pareto.objectives.accuracy import right_of, wilson
from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.program import load
from coreml_pareto.search import looking
from coreml_pareto.search.config import load_plan
from coreml_pareto.search.data import load_data
from coreml_pareto.search.looking import record_look
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report import viewing
from coreml_pareto.search.report.formats import FORMATS
from coreml_pareto.search.report.gathering import gather
from coreml_pareto.search.report.pictures import SAMPLES
from coreml_pareto.search.run import Run
from coreml_pareto.search.screen import Screen
from coreml_pareto.search.session import search
from coreml_pareto.search.study import load_run
from coreml_pareto.spaces.errors import UserError

STUDY: dict[str, Any] = {
    "name": "one",
    "data": "digits",
    "splits": {"seed": 4},
    "networks": {"backbones": ["squeezenet1_1"], "width": [0.35], "resolution": [32], "pretrained": False},
    "compression": ["int8/channel"],
    "training": {"epochs": [1], "device": "cpu"},
    "search": {"trials": 1},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A real search of one trial."""
    with Screen(Console(file=io.StringIO())) as screen:
        return search(load_plan(None, STUDY), tmp_path_factory.mktemp("run") / "one", screen)


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    """A copy of it to be written into."""
    return load_run(Path(shutil.copytree(made.folder, tmp_path / "one")))


def test_the_answers_are_those_that_the_search_counted(run: Run) -> None:
    (result,) = run.results
    facts = gather(run)
    assert facts.pictures is not None and facts.pictures.split == "test" and not facts.missing
    assert result.test_top1 is not None
    right = right_of(result.test_top1)
    assert right is not None
    assert (facts.pictures.right, facts.pictures.images) == (right.sum(), len(right))
    assert facts.pictures.right / facts.pictures.images == pytest.approx(result.test_top1.value)
    test = load_data("digits", seed=4).open_test("test")
    assert [one.images for one in facts.pictures.by_class] == np.bincount(test.targets).tolist()
    for one, hits in zip(facts.pictures.by_class, np.bincount(test.targets[right], minlength=10), strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((hits / one.images, *wilson(int(hits), one.images)))
    by_name = dict(zip(test.names, zip(test.targets, right, strict=True), strict=True))
    assert {sample.right for sample in facts.pictures.samples} == {True, False}
    for sample in facts.pictures.samples:
        target, was_right = by_name[sample.name]
        assert sample.truth == str(target) and sample.right == was_right
        assert sample.probability is not None and 0.1 <= sample.probability <= 1  # the most likely of ten
    shown = [sum(sample.right is right for sample in facts.pictures.samples) for right in (True, False)]
    assert shown == [min(SAMPLES, right.sum()), min(SAMPLES, (~right).sum())]


def test_the_compression_is_that_of_the_package(run: Run) -> None:
    facts = gather(run)
    assert facts.inspection is not None and facts.inspection.asked == "int8/channel"
    assert facts.inspection.bits_per_weight == pytest.approx(facts.score["bits_per_weight"].value)
    assert facts.inspection.sizes.total == facts.score["size_bytes"].value
    assert [use.name for use in facts.uses] == ["int8/channel"]


def test_a_look_at_the_test_is_on_record_before_the_pictures_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gather(run)
    assert load_run(run.folder).looks == run.looks  # no trial since: it is the same look
    searched_on = replace(run, results=(*run.results, replace(run.results[0], trial=1)))
    opened: list[int] = []
    told = viewing.open_split

    def watched(*arguments: Any, **named: Any) -> Any:
        opened.append(len(load_run(run.folder).looks))
        return told(*arguments, **named)

    monkeypatch.setattr(viewing, "open_split", watched)
    facts = gather(searched_on)
    assert facts.pictures is not None and facts.pictures.split == "test" and opened == [len(run.looks) + 1]
    assert [look.trials for look in load_run(run.folder).looks] == [1, 2]


def test_a_look_that_cannot_be_recorded_is_not_taken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(run: Run) -> None:
        raise UserError("read-only")

    monkeypatch.setattr(viewing, "record_look", refused)
    facts = gather(run)
    assert facts.pictures is not None and facts.pictures.split == "validation" and "read-only" in facts.pictures.why


def test_a_test_that_was_never_read_stays_unread(run: Run) -> None:
    unread = replace(run, results=(replace(run.results[0], test_top1=None),), looks=())
    facts = gather(unread)
    assert facts.pictures is not None and facts.pictures.split == "validation"
    assert facts.pictures.right / facts.pictures.images == pytest.approx(run.results[0].score["top1"].value)
    assert load_run(run.folder).looks == run.looks
    assert any("untouched pictures" in one.claim for one in facts.limitations)


def test_a_record_that_cannot_be_written_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy.exc

    class Closed:
        def __init__(self, *_: Any, **__: Any) -> None:
            raise sqlalchemy.exc.OperationalError("update", {}, Exception("readonly database"))

    monkeypatch.setattr(looking, "Study", Closed)
    record_look(run)  # nothing to write
    with pytest.raises(UserError, match="cannot be written"):
        record_look(replace(run, looks=()))


def test_without_pictures_or_package_the_report_says_so_and_goes_on(run: Run, command: Callable[..., Any]) -> None:
    plan = run.folder / "study.yaml"
    plan.write_text(plan.read_text().replace("data: digits", "data: ./gone"))
    answer = command("report", str(run.folder))
    assert answer.code == 0 and "No photographs: " in answer.err and "gone" in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert isinstance(run.results[0].outcome, Scored)
    shutil.rmtree(run.results[0].outcome.package)
    answer = command("report", str(run.folder))
    assert answer.code == 0 and "Neither what compression did nor photographs are shown" in answer.err
    assert "Neither what compression did" in (run.folder / "report" / "report.html").read_text("utf-8")


def test_other_pictures_are_not_taken_for_those_of_the_search(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(run.results[0].outcome, Scored)
    program = load(run.results[0].outcome.package)
    others = replace(program, metadata={**program.metadata, f"{PREFIX}data": "0" * 64})
    with pytest.raises(UserError, match="no longer holds the pictures"):
        viewing.view(run, run.results[0], others)


def test_page_and_markdown_with_their_pictures(run: Run, command: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    answer = command("report", str(run.folder), "--format", "md, HTML,md", "--out", str(out), "--client", "A|B <i>*c*")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [f"Wrote {out / 'report.md'}", f"Wrote {out / 'report.html'}"]
    text = (out / "report.md").read_text("utf-8")
    assert "For A\\|B &lt;i&gt;\\*c\\*. " in text
    assert ". `coreml-pareto device-kit` measures" in text
    named = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(named) == len(set(named)) and set(named) == {str(p.relative_to(out)) for p in out.rglob("*.png")}
    for name in named:
        with Image.open(out / name) as image:
            assert image.size[0] > 0
    widths = [line.count(" | ") for line in text.splitlines() if line.startswith("| ---")]
    assert widths  # every table has as many cells in each of its rows
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "docx"], "--format names one or more of html, pdf, pptx, png, md; got docx"),
        (["--format", ","], "got none"),
        (["--out", "FILE"], "a report goes into a folder that can be written"),
        (["--out", "FILE/below"], "a report goes into a folder that can be written"),
    ],
)
def test_refused_before_anything_is_computed(
    command: Callable[..., Any],
    recorded: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.setattr("coreml_pareto.search.report.gathering.gather", None)
    (tmp_path / "file").write_text("")
    answer = command("report", "RUN", *(text.replace("FILE", str(tmp_path / "file")) for text in arguments))
    assert answer.code == 2 and said in answer.err and "Traceback" not in answer.err


def test_an_empty_run_is_refused(
    command: Callable[..., Any], recorded_as: Callable[[Run], Run], run_of: Callable[..., Run], tmp_path: Path
) -> None:
    recorded_as(run_of(()))
    answer = command("report", "RUN", "--out", str(tmp_path / "report"))
    assert answer.code == 2 and "at least one finished trial" in answer.err and not (tmp_path / "report").exists()


@pytest.mark.parametrize(("name", "module"), [(name, need) for name, row in FORMATS.items() for need in row.needs])
def test_a_missing_extra_names_the_way_out(
    command: Callable[..., Any], recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]  # as if it were not installed
    answer = command("report", "RUN", "--format", name, "--out", str(tmp_path / "report"))
    assert answer.code == 2 and f"{name} needs {module}" in answer.err
    assert "pip install 'coreml-pareto[report]'" in answer.err and not (tmp_path / "report").exists()


def test_every_format_is_written(
    command: Callable[..., Any], recorded_as: Callable[[Run], Run], draw_run: Callable[..., Run], tmp_path: Path
) -> None:
    recorded_as(draw_run(12, limits={"size": 3e6}))
    answer = command("report", "RUN", "--format", ",".join(FORMATS), "--out", str(tmp_path), "--title", "Birds & bees")
    assert answer.code == 0, answer.err
    heads = {
        "report.html": b"<!doctype html>",
        "report.pdf": b"%PDF-",
        "report.pptx": b"PK",
        "report.md": b"# Birds &amp; bees",
    }
    assert {name: (tmp_path / name).read_bytes().startswith(head) for name, head in heads.items()} == dict.fromkeys(
        heads, True
    )
    assert {path.stem for path in tmp_path.glob("pareto-*.png")} == {
        f"pareto-{name}" for name in ("latency", "size", "memory", "energy")
    }
    assert answer.out.count("Wrote") == len(FORMATS)
