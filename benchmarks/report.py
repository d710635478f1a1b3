"""How long does the report of a large study take?  Against Optuna's own reading of the study, in one run.

A study of synthetic results (`large_study.build`, with images that were right, and a log) is read by
`optuna.load_study(...).trials`, and told by `report` as HTML, in turns, each in a process of its own that has imported
everything before the clock starts. There are no packages, so no photographs: those cost what `evaluate` costs.

    python benchmarks/report.py [--trials 2000] [--repeats 5]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
from large_study import build, formula, in_turns, rows_of, timed
from record import store

from coreml_pareto.objectives.accuracy import RIGHT, spell_right
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.events import Log
from coreml_pareto.search.record import DATABASE
from coreml_pareto.search.report.gathering import gather
from coreml_pareto.search.report.page import write_page
from coreml_pareto.search.study import load_run
from coreml_pareto.spaces.candidate import Candidate

IMAGES, FRONTS = 2000, 300
READERS: dict[str, Callable[[Path], object]] = {
    "optuna": lambda folder: optuna.load_study(study_name="large", storage=f"sqlite:///{folder / DATABASE}").trials,
    "report": lambda folder: write_page(gather(load_run(folder)), folder / "report.html"),
}


def main() -> None:
    """Build, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--read", choices=[*READERS], help="only this reader of --folder: prints its seconds")
    asked = parser.parse_args()
    if asked.read:
        print(timed(READERS[asked.read], asked.folder))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _build(folder, asked.trials)
        rows = rows_of(in_turns(__file__, READERS, folder, asked.repeats), "optuna", f"{asked.trials} trials, ")
        size = (folder / "report.html").stat().st_size
    for row in rows:
        print(f"{row['what']:>22}: {row['seconds']:.2f} s, {row['share']:.2f} of {row['of']}")
    print(f"page: {size / 1e6:.2f} MB")
    store("report", rows, trials=asked.trials, repeats=asked.repeats, images=IMAGES, page_bytes=size)


def _build(folder: Path, trials: int) -> None:
    """The study of `large_study`, whose readings also say which images were right, and a log of its fronts."""
    rng = np.random.default_rng(0)

    def score(candidate: Candidate, draws: random.Random) -> dict[str, Reading]:
        found = formula(candidate, draws)
        right = spell_right(rng.random(IMAGES) < found["top1"].value)
        return found | {"top1": replace(found["top1"], conditions={**found["top1"].conditions, RIGHT: right})}

    study = build(folder, trials, score=score)
    study.note("classes", [str(number) for number in range(10)])
    log = Log(folder, time.monotonic)
    for number in range(FRONTS):
        log.write("front", trials=[], hypervolume=number / FRONTS)


if __name__ == "__main__":
    main()
