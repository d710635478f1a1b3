"""What does a search on real photographs reach in half an hour? The command line's own search, its front and its choice.

The data set is an image folder (`train/<class>/...`, `test/<class>/...`), CIFAR-10 for the figures in the README. Stored
are the rows of the front (as `front --json` prints them), which one is recommended, and which a smaller limit would
choose. Run again on the same folder, the search goes on (or ends at once), as the command line does.

    python benchmarks/search_photographs.py DATA [--run runs/photographs] [--timeout 30m] [--max-size 1MB]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from record import store

from coreml_pareto.search.choose import Recommendation, front, recommend
from coreml_pareto.search.cli import main as command_line
from coreml_pareto.search.limits import parse_limit
from coreml_pareto.search.rows import row
from coreml_pareto.search.study import load_run

LOCAL = ("package", "candidate")
"""What says nothing elsewhere: a path, and a record that the row's other fields sum up."""


def main() -> None:
    """Search, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--run", type=Path, default=Path("runs/photographs"))
    parser.add_argument("--timeout", default="30m")
    parser.add_argument("--max-size", default="1MB")
    parser.add_argument("--smaller", default="500KB")
    asked = parser.parse_args()
    limits = ["--max-size", asked.max_size, "--timeout", asked.timeout]
    code = command_line(["search", "--data", asked.data, "--run", str(asked.run), *limits])
    if code:
        raise SystemExit(code)
    run = load_run(asked.run)
    rows = [
        {key: value for key, value in row(result, run).items() if key not in LOCAL}
        | {"network": result.candidate.network.label, "compression": result.candidate.compression.model_dump()}
        for result in front(run)
    ]
    chosen = {
        limit: answer.chosen.trial
        for limit in (asked.max_size, asked.smaller)
        if isinstance(answer := recommend(run, {"size": parse_limit("size", limit)}), Recommendation)
    }
    tests = {entry["trial"]: entry["test_top1"] for entry in rows}
    for limit, trial in chosen.items():
        print(f"up to {limit}: trial {trial}, test top-1 {tests.get(trial)}")
    trainings = {(result.candidate.network, result.candidate.recipe) for result in run.scored()}
    store(
        "search_photographs", rows, data=Path(asked.data).name, timeout=asked.timeout, max_size=asked.max_size,
        recommended=chosen, packages=len(run.scored()), trained=len(trainings),
    )  # fmt: skip


if __name__ == "__main__":
    main()
