"""What leaves the house: everything is there, whole, says what the record says, and no name breaks anything."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from markdown_it import MarkdownIt

from coreml_pareto.objectives.program import content_digest, load
from coreml_pareto.search.delivery import handover, printing
from coreml_pareto.search.delivery.handover import Written, check, hand_over
from coreml_pareto.search.delivery.provenance import commands
from coreml_pareto.search.delivery.subject import Choice, Subject, choose, open_subject
from coreml_pareto.search.figures import figure, interval
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report import formats
from coreml_pareto.search.run import Run
from coreml_pareto.spaces.errors import UserError

PAPERS = ("guide.md", "model_card.md", "LICENSES.md", "README.md")


def rendered(file: Path) -> str:
    """A paper as a reader of Markdown shows it."""
    return MarkdownIt("commonmark").enable("table").render(file.read_text("utf-8"))


def test_everything_is_there(written: Written) -> None:
    found = {path.name for path in written.folder.iterdir()}
    assert found >= {
        "optimized_model.mlpackage", "OptimizedModel", "guide.md", "guide.pdf", "model_card.md", "LICENSES.md",
        "provenance.json", "study.yaml", "README.md", "SHA256SUMS", "report.html", "report.pdf",
    }  # fmt: skip
    assert {name.strip("/") for name, _ in written.contents} == found - {"README.md", "SHA256SUMS"}
    assert not list(written.folder.parent.glob(".*"))
    assert (written.folder / "guide.pdf").read_bytes().startswith(b"%PDF")


def test_the_sums_are_those_of_the_files(written: Written) -> None:
    lines = (written.folder / "SHA256SUMS").read_text("utf-8").splitlines()
    told = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    files = [path for path in written.folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert told == {
        path.relative_to(written.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs coreutils' sha256sum")
def test_sha256sum_reads_the_sums_and_sees_a_change(written: Written, tmp_path: Path) -> None:
    copy = shutil.copytree(written.folder, tmp_path / "copy")

    def checked() -> int:
        return subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=copy, capture_output=True, check=False).returncode

    assert checked() == 0
    (copy / "guide.md").write_text("other", "utf-8")
    assert checked() == 1


def test_the_model_is_the_one_of_the_run_twice(written: Written, subject: Subject) -> None:
    places = (written.folder, written.folder / "OptimizedModel/Sources/OptimizedModel/Model")
    assert isinstance(subject.result.outcome, Scored)
    digests = {content_digest(load(place / "optimized_model.mlpackage")) for place in places}
    assert digests == {subject.digest} == {content_digest(load(subject.result.outcome.package))}


def test_the_guide_says_what_the_record_says(written: Written, subject: Subject) -> None:
    shown, score = rendered(written.folder / "guide.md"), subject.result.score
    for name, key in (("accuracy", "top1"), ("latency", "latency_ms"), ("size", "size_bytes"), ("energy", "energy_mj")):
        assert f'<td style="text-align:right">{figure(name, score[key])}</td>' in shown
        assert interval(name, score[key]) in shown
    assert f"On the {len(subject.data.validation)} validation pictures" in shown
    assert subject.rule.describe() in shown


def test_the_card_adds_its_classes_up(written: Written, subject: Subject) -> None:
    card = MarkdownIt("commonmark").enable("table").parse((written.folder / "model_card.md").read_text("utf-8"))
    cells = [token.content for token in card if token.type == "inline"]
    start = cells.index("class")
    rows = [cells[start + 4 + 4 * row : start + 8 + 4 * row] for row in range(len(subject.labels))]
    pictures = [int(row[3]) for row in rows]
    right = sum(
        round(float(row[1].removesuffix(" %")) / 100 * count) for row, count in zip(rows, pictures, strict=True)
    )
    assert sum(pictures) == len(subject.data.validation)
    assert right == round(subject.result.score["top1"].value * sum(pictures))


def test_names_are_text_in_every_paper(written: Written, hostile: SimpleNamespace) -> None:
    for name in PAPERS:
        shown = rendered(written.folder / name)
        for tag in ("<script", "<img", "<em>", "<strong>", "<a ", "<s>"):
            assert tag not in shown, name
    client = " ".join(hostile.client.split())
    assert client.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;") in rendered(
        written.folder / "README.md"
    )


def test_the_provenance_names_what_it_takes_to_make_it_again(written: Written, subject: Subject) -> None:
    told = json.loads((written.folder / "provenance.json").read_text("utf-8"))
    assert told["package_digest"] == subject.digest and told["trial"] == subject.result.trial
    assert told["candidate_digest"] == subject.result.candidate.digest
    assert told["data"]["digest"] == subject.data.digest and told["data"]["splits"]["seed"] == 0
    assert told["seeds"] == {"search": 0, "splits": 0, "training": 0, "repeated": []}
    assert {"torch", "coremltools", "optuna", "coreml-pareto"} <= told["tools"].keys()
    assert told["readings"]["top1"]["value"] == subject.result.score["top1"].value
    assert "right" not in told["readings"]["top1"]["conditions"]
    assert told["client"] == subject.client
    assert [origin["weights"] for origin in told["weights_from"]] == ["random weights"]
    assert any(" deliver again " in line for line in told["commands"])


def test_a_client_in_no_known_encoding_and_a_study_without_data_are_written(searched: Run) -> None:
    choice = choose(searched, 0)
    assert isinstance(choice, Choice)
    found = open_subject(searched, choice, client="Caf\udce9")
    assert found.client == "Caf?"
    told = commands(replace(found, plan=found.plan.model_copy(update={"data": None})))
    assert told[0] == "coreml-pareto search study.yaml --data DATA --run again"


def test_the_guide_promises_no_more_than_is_known(written: Written) -> None:
    guide = rendered(written.folder / "guide.md")
    for said in (
        "shasum -a 256 -c SHA256SUMS",  # a Mac may have no sha256sum
        "Xcode runs tests on a phone inside an app only",
        "where the search chose the model by these same pictures, that flatters every row",
        "their share of unsure answers lies in the 95 % interval",
        "profiles of RGB pictures are ignored",
    ):
        assert said in " ".join(re.sub(r"<[^>]*>", "", guide).split())


def test_a_folder_that_holds_something_is_refused_before_anything(searched: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    choice = choose(searched, 0)
    assert isinstance(choice, Choice)
    with pytest.raises(UserError, match="empty"):
        check(searched, choice, tmp_path, aimodel=False)


def test_what_fails_leaves_nothing(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise RuntimeError("the last step")

    monkeypatch.setattr(handover, "write_sums", fail)
    monkeypatch.setattr(handover, "_report", lambda *_: iter(()))
    with pytest.raises(RuntimeError, match="the last step"):
        hand_over(subject, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_without_typst_the_pdf_is_left_out_and_said(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printing, "find_spec", lambda name: None)
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    found = hand_over(subject, tmp_path / "out")
    left = {path.name for path in found.folder.iterdir()}
    assert not left & {"guide.pdf", "report.pdf"} and {"guide.md", "report.html"} <= left
    assert len(found.notes) == 2 and all("typst" in note and "coreml-pareto[report]" in note for note in found.notes)
    assert "typst" in (found.folder / "README.md").read_text("utf-8")


def test_only_a_trial_with_a_package_is_handed_over(draw_run: Callable[..., Run]) -> None:
    run = draw_run(3)
    for trial, said in ((3, "ended infeasible"), (4, "ended failed"), (9, "does not exist")):
        with pytest.raises(UserError, match=said):
            choose(run, trial)
    asked = choose(run, 1)
    assert isinstance(asked, Choice) and asked.result.trial == 1 and "asked for" in asked.reason


def test_other_pictures_are_refused(searched: Run) -> None:
    choice = choose(searched, 0)
    assert isinstance(choice, Choice)
    with pytest.raises(UserError, match="the very pictures of the run; digits holds others"):
        open_subject(searched, choice, data="digits")
    with pytest.raises(UserError, match="--data"):
        open_subject(searched, choice, data=str(searched.folder / "nowhere"))


def test_a_package_that_answers_otherwise_is_refused(searched: Run) -> None:
    choice = choose(searched, 0)
    assert isinstance(choice, Choice) and isinstance(choice.result.outcome, Scored)
    top1 = choice.result.score["top1"]
    other = replace(top1, value=top1.low if top1.value > 0.5 else top1.high)
    outcome = replace(choice.result.outcome, score={**choice.result.score, "top1": other})
    with pytest.raises(UserError, match="on record"):
        open_subject(searched, replace(choice, result=replace(choice.result, outcome=outcome)))
