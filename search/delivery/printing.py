"""How do blocks become a PDF?  By the typst compiler in its wheel; the template takes texts as data.

It is an extra: without it papers are written as Markdown alone, which is said, unless the PDF was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from coreml_pareto.search.delivery.document import Block, as_data, plain

INSTALL: Final = "pip install 'coreml-pareto[report]'"


def can_print() -> bool:
    """Whether the typst compiler is installed."""
    return find_spec("typst") is not None


def print_pdf(blocks: Sequence[Block], title: str, footer: str, file: Path) -> None:
    """Write a PDF; the same blocks give the same file on any day."""
    import typst

    document = {"title": plain(title), "footer": plain(footer), "blocks": as_data(blocks)}
    with as_file(files("coreml_pareto.search.delivery") / "guide.typ") as template:
        typst.compile(template, output=file, sys_inputs={"document": json.dumps(document, ensure_ascii=True)})
