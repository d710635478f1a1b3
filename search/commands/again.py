"""A finished run on other terms, for `front` and `best`: the run as it is there, and what to say about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coreml_pareto.search.commands import options

if TYPE_CHECKING:
    from coreml_pareto.search.relaxation import Limits
    from coreml_pareto.search.run import Run


def decide_again(
    own: Run, limits: Limits, device: str | None, release: int | None, units: str | None, *, strict: bool
) -> tuple[Run, list[str]]:
    """Return the run on the target asked for, and the sentences that go with it; see `elsewhere` and `report.again`.

    Raises:
        UserError: no such device, or a system or units that it does not have.
    """
    from coreml_pareto.search.elsewhere import elsewhere
    from coreml_pareto.search.report.again import told_again

    found = elsewhere(own, options.target_instead(own.target, device, release, units))
    return found.run, told_again(own, found, limits, strict=strict)
