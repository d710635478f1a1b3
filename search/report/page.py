"""The report as one HTML file: nothing is fetched, nothing that a name says is executed.

Texts go through jinja2's autoescape; the charts' data is JSON in which no tag can end; the script writes texts by
`textContent` and escapes what plotly would read as markup. A content security policy names the two scripts by their
SHA-256, so that a browser runs no other (W3C, "Content Security Policy Level 3", section 6.7.2; `unsafe-eval` is for
plotly's WebGL, which compiles its drawing loops).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from coreml_pareto.search.figures import SCALES
from coreml_pareto.search.report import findings, sections, story
from coreml_pareto.search.report.facts import Facts
from coreml_pareto.search.report.pictures import Photograph, Pictures
from coreml_pareto.search.report.points import chart_data
from coreml_pareto.search.report.words import ended, limits, model_name, systems

PACKAGE: Final = "coreml_pareto.search.report"
MATRIX: Final = 30
"""Classes up to which the whole confusion matrix is shown; of more, the pairs that are confused most."""
PAIRS: Final = 25
TURNING: Final = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Unicode's explicit directional formatting characters (UAX #9, section 2), to be left out."""
OPEN: Final = 60
"""Classes up to which each one's accuracy is shown unasked; of more, so many of the worst."""
FEW: Final = 24
"""Classes up to which their table has its whole height."""
LOSSLESS_SIDE: Final = 96
"""Pictures up to this side are PNG, larger ones JPEG."""


def write_page(facts: Facts, path: Path) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written there.
    """
    path.write_text(page(facts), encoding="utf-8")


def page(facts: Facts) -> str:
    """The page as text."""
    plotly, script = Markup(_plotly()), Markup(_asset("report.js"))
    return _environment().get_template("report.html").render(
        facts=facts,
        recommended=None if facts.chosen is None else model_name(facts.chosen),
        limits=limits(facts.run.limits),
        sections=sections,
        story=story,
        ended=ended,
        findings=findings,
        states=findings.STATES,
        pictures=facts.pictures,
        pairs=PAIRS,
        matrix=MATRIX,
        open=OPEN,
        few=FEW,
        style=Markup(_asset("report.css")),
        plotly=plotly,
        script=script,
        scripts=" ".join(_hash(text) for text in (plotly, script)),
        data=_json(chart_data(facts)),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(PACKAGE, "assets"), autoescape=True, undefined=StrictUndefined, finalize=_straight,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "share": lambda value: f"{100 * value:.1f}", "picture": _data_url, "many": "{:,}".format, "model": model_name,
        "systems": lambda release: " / ".join(systems(release)), "worst": _worst, "noun": _noun, "code": _code,
        "evidence": findings.figure,
    }  # fmt: skip
    return environment


def _straight(value: Any) -> Any:
    """A text without the marks that turn the direction of what follows; letters of right-to-left scripts need none."""
    return value.translate(TURNING) if type(value) is str else value


def _code(text: str) -> Markup:
    """Words between backticks are set as code."""
    parts = text.translate(TURNING).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def _noun(name: str) -> str:
    return SCALES[name].noun


def _worst(pictures: Pictures, most: int) -> list[Any]:
    """The classes of the lowest accuracy; all of them, in their order, where there are no more."""
    told = pictures.by_class
    return list(told) if len(told) <= most else sorted(told, key=lambda one: (one.value, -one.images))[:most]


def _data_url(photograph: Photograph) -> str:
    image, buffer = Image.fromarray(photograph.pixels), io.BytesIO()
    small = max(image.size) <= LOSSLESS_SIDE
    kind = "png" if small else "jpeg"
    image.save(buffer, kind, **({} if small else {"quality": 82}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _json(value: Any) -> Markup:
    """JSON inside of a script element: no character in it can end the element, begin a comment or a line."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(TURNING)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _hash(script: str) -> str:
    """A script as the policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # half a second, and 5 MB

    script: str = get_plotlyjs()
    return script


def _asset(name: str) -> str:
    return files(PACKAGE).joinpath("assets", name).read_text("utf-8")
