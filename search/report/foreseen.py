"""What is known of a study's limits before its first training, as a table."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.figures import figure
from coreml_pareto.search.reach import ALL, Reach
from coreml_pareto.search.relaxation import Limits, known
from coreml_pareto.search.report.words import limit, model_name


def reach_table(reach: Reach, bounds: Limits) -> Group:
    """For each limit the share of the space that keeps it and the least that can be reached; then all together."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    table.add_column("limit", no_wrap=True)
    table.add_column("kept by", justify="right", no_wrap=True)
    table.add_column("least reachable" if reach.whole else "least so far", justify="right")
    table.add_column("reached by", overflow="fold")
    for name, bound in bounds.items():
        if name in reach.shares:
            table.add_row(Text(limit(name, bound)), share(*reach.shares[name]), *_least(reach, name))
        else:
            table.add_row(Text(limit(name, bound)), "–", "", Text("not known before training", style="dim"))
    if len(reach.limits) > 1:
        table.add_row("these together", share(*reach.shares[ALL]), "", "")
    return Group(Text("Can the limits be kept?", style="bold"), table, Text(_conditions(reach), style="dim"))


def share(least: float, most: float) -> str:
    """`25 %`, or `20–45 %` where not everything is decided; nothing that exists is called 0, nothing partial 100."""
    low, high = _percent(least, down=True), _percent(most, down=False)
    return f"{low} %" if low == high else f"{low}–{high} %"


def _percent(part: float, *, down: bool) -> str:
    if 0 < part < 0.01:
        return "0" if down else "1"
    if 0.99 < part < 1:
        return "99" if down else "100"
    return f"{100 * part:.0f}"


def _least(reach: Reach, name: str) -> tuple[str, Text]:
    if name not in reach.least:
        return "–", Text("")
    result = reach.least[name]
    return figure(name, known(result)[OBJECTIVES[name].reading]), Text(model_name(result))


def _conditions(reach: Reach) -> str:
    failed = f", {reach.failed} could not be made" if reach.failed else ""
    rest = "" if reach.whole else "; the time for probes ended before every backbone was seen in every compression"
    return (
        f"{reach.probed} of {reach.size} networks and compressions probed with random weights{failed}; "
        f"larger ones cost more, smaller ones less{rest}"
    )
