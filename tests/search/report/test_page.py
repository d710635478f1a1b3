"""The page: one file, the same figures as the facts, and nothing that a name says is executed, in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.choose import front
from coreml_pareto.search.figures import SCALES, figure
from coreml_pareto.search.report import sections
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.limitations import Limitation
from coreml_pareto.search.report.page import MATRIX, OPEN, page, write_page
from coreml_pareto.search.run import Result, Run

Make = Callable[..., Any]
HOSTILE = (
    "<script>document.title='HACKED'</script>", "</script><script>document.title='HACKED'</script>",
    "\"><img src=x onerror=\"document.title='HACKED'\">", "<a href=\"javascript:document.title='HACKED'\">x</a>",
    "{{ 7 * 7 }}", "\u2028//\u202eמילה", "--><!--", "A\nB\tC", "😀 ' \" & < >", "%{text}<br><b>bold",
)  # fmt: skip


class Reader(HTMLParser):
    """Collects what a browser would see: elements with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self._script = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[-1] += data
        else:
            self.texts.append(data)


def hostile(run: Run, names: Sequence[str] = HOSTILE) -> Run:
    """Every name that may come from outside says something else."""

    def renamed(place: int, result: Result) -> Result:
        name = names[place % len(names)]
        network = result.candidate.network.model_copy(update={"backbone": name, "family": name})
        recipe = result.candidate.recipe.model_copy(update={"teacher": name})
        return replace(result, candidate=result.candidate.model_copy(update={"network": network, "recipe": recipe}))

    return replace(run, study=names[0], results=tuple(renamed(i, r) for i, r in enumerate(run.results)))


def in_browser(browser: str, path: Path, profile: Path) -> str:
    """The page's elements after its scripts have run."""
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--virtual-time-budget=20000",
        f"--user-data-dir={profile}", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def data_of(text: str) -> Any:
    return json.loads(Reader(text).scripts[0])


@pytest.mark.parametrize("count", [0, 1, 12, 300])
def test_every_result_is_in_the_data_once_at_its_readings(draw_run: Make, facts_of: Make, count: int) -> None:
    run = draw_run(count, limits={"size": 2e6})
    points = data_of(page(facts_of(run)))["points"]
    kept = {r.trial: r for r in run.results if r.score} | {count: run.results[count]}  # the one that was refused
    assert sorted(points["trial"]) == sorted(kept)
    groups = [points["groups"][place] for place in points["group"]]
    on_front = {trial for trial, group in zip(points["trial"], groups, strict=True) if group == "front"}
    assert on_front == {result.trial for result in front(run)}
    assert groups.count("not trained") == 1
    axes = [axis["name"] for axis in data_of(page(facts_of(run)))["objectives"]]
    for axis, values in zip(axes, points["value"], strict=True):
        for trial, value in zip(points["trial"], values, strict=True):
            reading = kept[trial].score.get(OBJECTIVES[axis].reading)
            if reading is not None:
                assert value == pytest.approx(reading.value * SCALES[axis].factor, rel=1e-4)


def test_one_file_that_loads_nothing(draw_run: Make, facts_of: Make) -> None:
    reader = Reader(page(facts_of(draw_run(3), classes=("cat", "dog"))))
    sources = [
        value for _, attributes in reader.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert sources and all(str(source).startswith(("data:image/", "#")) for source in sources)
    assert sum("plotly.js v" in script for script in reader.scripts) == 1


def test_the_policy_names_exactly_the_two_scripts(draw_run: Make, facts_of: Make) -> None:
    reader = Reader(page(facts_of(draw_run(3))))
    (policy,) = [a["content"] for tag, a in reader.elements if tag == "meta" and a.get("http-equiv")]
    executed = reader.scripts[1:]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in executed]
    assert re.findall(r"'sha256-([^']+)'", str(policy)) == digests and len(digests) == 2
    assert "'unsafe-inline'" not in str(policy).split("style-src")[0]


def test_what_is_recommended_and_why(draw_run: Make, facts_of: Make) -> None:
    facts = facts_of(draw_run(40))
    text = " ".join("".join(Reader(page(facts)).texts).split())
    assert facts.reason in text
    for name, row in OBJECTIVES.items():
        assert figure(name, facts.score[row.reading]) in text
    for other in facts.runners_up:
        assert f"Instead, trial {other.result.trial}" in text
    for one in facts.limitations:
        assert one.claim in text and one.because.replace("`", "") in text
    for anchor in facts.anchors:
        assert anchor.reason in text


def test_nothing_fits(draw_run: Make, facts_of: Make) -> None:
    text = "".join(Reader(page(facts_of(draw_run(12, limits={"size": 1.0})))).texts)
    assert "No package keeps the limits" in text and "would admit trial" in text and "Anchors side by side" not in text
    assert "estimated for iPhone 15 Pro" in text  # of the packages on the charts


def test_no_package_at_all_is_not_blamed_on_limits(draw_run: Make, facts_of: Make) -> None:
    text = "".join(Reader(page(facts_of(draw_run(0)))).texts)
    assert "No package came out of this search" in text and "keeps the limits" not in text


def test_an_axis_without_readings_has_no_anchor(result_at: Make, run_of: Make, facts_of: Make) -> None:
    run = run_of(tuple(result_at(n, (0.9 - n / 10, 1.0, 1e6 - n, 1e6, 1.0), ("energy_mj",)) for n in range(2)))
    assert [anchor.name for anchor in facts_of(run).anchors] == ["most accurate", "fastest", "smallest", "balanced"]


def test_notes_name_what_the_page_has(draw_run: Make, facts_of: Make, with_images: Make) -> None:
    facts = facts_of(with_images(draw_run(40)))
    text = "".join(Reader(page(facts)).texts)
    assert "On drawn fronts: of 1,000 draws" in text and "front %:" not in text
    assert "at least 5 packages" in sections.importance_note(facts)  # of 40 the best tenth is four


@pytest.mark.parametrize(("count", "matrix"), [(2, True), (MATRIX, True), (MATRIX + 1, False), (1000, False)])
def test_confusion_is_a_matrix_of_few_and_pairs_of_many_classes(
    draw_run: Make, facts_of: Make, count: int, matrix: bool
) -> None:
    labels = tuple(f"class {number} " + "long " * 30 for number in range(count))
    text = page(facts_of(draw_run(3), classes=labels))
    assert ('class="confusion"' in text) == matrix
    assert ("are confused most often" in text) != matrix
    assert (f"The {OPEN} classes of the lowest accuracy" in text) == (count > OPEN)
    assert len(text) < 8e6


def test_names_stay_text(draw_run: Make, facts_of: Make) -> None:
    """By a parser: the elements of a page with hostile names are those of the same page with plain ones."""
    names = tuple(f"n{place}" for place in range(len(HOSTILE)))
    plain = facts_of(hostile(draw_run(len(HOSTILE)), names), classes=names, title="t", client="c")
    evil = facts_of(hostile(draw_run(len(HOSTILE))), classes=HOSTILE, title=HOSTILE[1], client=HOSTILE[2])
    tags = [[tag for tag, _ in Reader(page(facts)).elements] for facts in (plain, evil)]
    assert tags[0] == tags[1]
    names = {name for _, attributes in Reader(page(evil)).elements for name in attributes}
    assert not any(name.startswith("on") for name in names)
    assert data_of(page(evil))["points"]["network"]["names"][0].startswith(HOSTILE[evil.front[0].trial])
    reader = Reader(page(evil))
    text = "".join([*reader.texts, reader.scripts[0]])
    assert "\u202e" not in text and "מילה" in text  # what turns a line goes, letters stay
    reserved = replace(evil, limitations=(Limitation("So.", f"Not {HOSTILE[5]}: `a {HOSTILE[0]}`."),))
    assert "\u202e" not in page(reserved) and HOSTILE[0] not in page(reserved)


def test_nothing_is_executed_in_a_browser(draw_run: Make, facts_of: Make, browser: str, tmp_path: Path) -> None:
    facts = facts_of(hostile(draw_run(len(HOSTILE))), classes=HOSTILE, title="plain", client=HOSTILE[2])
    write_page(facts, tmp_path / "page.html")
    seen = in_browser(browser, tmp_path / "page.html", tmp_path / "profile")
    assert 'data-drawn="yes"' in seen  # the page's own script ran to its end
    assert "<title>plain" in seen and "<title>HACKED" not in seen
    reader = Reader(seen)
    assert sum(tag == "script" for tag, _ in reader.elements) == 3
    assert not [a for tag, a in reader.elements if tag == "img" and a.get("src") == "x"]
    assert not [
        a for _, a in reader.elements if str(a.get("href") or a.get("xlink:href") or "").startswith("javascript")
    ]
    assert not any(name.startswith("on") for _, attributes in reader.elements for name in attributes)


def test_a_large_run_stays_small_and_is_drawn_in_a_browser(
    draw_run: Make, facts_of: Make, browser: str, tmp_path: Path
) -> None:
    count = 2000
    facts: Facts = facts_of(draw_run(count))
    write_page(facts, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 15e6
    seen = in_browser(browser, tmp_path / "page.html", tmp_path / "profile")
    assert 'data-drawn="yes"' in seen
    markers = re.findall(r'<path class="point"', seen)
    assert len(markers) > count  # each package on the chart, and the legend's
    assert "parcoords" in seen
