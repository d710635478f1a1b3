"""Which measurements does a run have, and what do its packages' readings become by them?

RUN/measurements.json holds what was imported; RUN/latency.json the readings that follow for each package, so that
`front` and `best` need not open packages. The record of the search (study.db) stays as it was: without these two files
the run reads as before. Packages that a search added later are read again when they are asked for.

Without a run, measurements are kept in the user's data folder, and `estimate` reads them there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coreml_pareto.objectives.reading import Reading, score_from_dict, score_to_dict
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.run import Result, Run
from coreml_pareto.search.storage.packages import at_hand
from coreml_pareto.search.store import write_atomically
from coreml_pareto.spaces.errors import UserError

if TYPE_CHECKING:
    from coreml_pareto.objectives.devices.measurements import Measurements
    from coreml_pareto.objectives.imported import Evidence
    from coreml_pareto.objectives.program import Cost

KEPT: Final = "measurements.json"
READ_AGAIN: Final = "latency.json"


def user_folder() -> Path:
    """Where measurements are kept that belong to no run."""
    import typer

    return Path(typer.get_app_dir("coreml-pareto"))


def kept(folder: Path) -> Measurements | None:
    """The measurements that were imported into a folder, None without any."""
    from coreml_pareto.objectives.devices.measurements import read

    return read([folder / KEPT]) if (folder / KEPT).is_file() else None


def keep(new: Measurements, folder: Path) -> Measurements:
    """Add measurements to those of a folder, and return all of them; nothing is written if they contradict."""
    from coreml_pareto.objectives.devices.measurements import merge

    earlier = kept(folder)
    every = new if earlier is None else merge([earlier, new])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / KEPT, every.text())
    except OSError as error:
        raise UserError(f"measurements are kept in {folder}; it cannot be written ({error.strerror})") from error
    return every


def import_into(run: Run, new: Measurements) -> Run:
    """Keep measurements with a run, read its packages again by them, and write its front anew.

    Args:
        run: as it was recorded or imported into before.
    """
    from coreml_pareto.search.choose import front
    from coreml_pareto.search.noise import shares
    from coreml_pareto.search.rows import rows, write_csv

    keep(new, run.folder)
    after = read_again(run)
    write_csv(rows(front(after), after, shares(after)), run.folder / "front.csv")
    return after


def read_again(run: Run) -> Run:
    """Read all packages of a run by its measurements, and keep what they say; the run as it is where there are none."""
    if (every := kept(run.folder)) is None:
        return run
    changed = _read_again(run, run.scored(), every)
    plain = {str(number): score_to_dict(score) for number, score in changed.items()}
    write_atomically(run.folder / READ_AGAIN, json.dumps({"of": _stamp(run), "readings": plain}, indent=1))
    return _with(run, changed)


def remeasured(run: Run) -> Run:
    """The run as its imported measurements make it; as it is where there are none."""
    if not (run.folder / KEPT).is_file():
        return run
    changed = _stored(run)
    missing = [result for result in run.scored() if result.trial not in changed]
    if missing and (measurements := kept(run.folder)) is not None:
        changed |= _read_again(run, missing, measurements)
    return _with(run, changed)


def kept_readings(package: Path, costs: Sequence[Cost], target: Any) -> dict[str, Reading]:
    """What the user's own measurements say of any package on a target; empty without any for that device and units."""
    from coreml_pareto.objectives.imported import readings
    from coreml_pareto.objectives.program import content_digest, load

    found = kept_evidence(user_folder(), target)
    if found is None:
        return {}
    return readings(content_digest(load(package, any_inputs=True, default_function=True)), costs, found)


def kept_evidence(folder: Path, target: Any) -> Evidence | None:
    """What was imported into a folder for a target; None without any for that device and units."""
    from coreml_pareto.objectives.imported import evidence, evidence_for

    measurements = kept(folder)
    return None if measurements is None else evidence_for(target, evidence(measurements))


def _read_again(run: Run, results: Iterable[Result], measurements: Measurements) -> dict[int, dict[str, Reading]]:
    """New readings by trial, none where nothing was measured on the run's device and units."""
    from coreml_pareto.objectives.imported import evidence, evidence_for

    found = evidence_for(run.target, evidence(measurements))
    if found is None:
        return {}
    return {result.trial: score for result in results if (score := _of(result, found))}


def _of(result: Result, found: Evidence) -> dict[str, Reading]:
    """New readings of one package; none where it is gone or damaged, or was measured by the search itself."""
    from coreml_pareto.objectives.imported import readings
    from coreml_pareto.objectives.program import content_digest, costs, load

    if not isinstance(result.outcome, Scored) or not at_hand(result.outcome.package):
        return {}
    try:
        program = load(result.outcome.package)
        digest, rows = content_digest(program), costs(program)
    except UserError:
        return {}
    own = result.score.get("latency_ms")
    if own is not None and own.how == "measured" and digest not in found.records:
        return {}
    return readings(digest, rows, found)


def _stored(run: Run) -> dict[int, dict[str, Reading]]:
    """The readings that the last import made; none where they are of other measurements, or cannot be read."""
    try:
        plain = json.loads((run.folder / READ_AGAIN).read_text("utf-8"))
        if plain["of"] != _stamp(run):
            return {}
        return {int(number): score_from_dict(score) for number, score in plain["readings"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _stamp(run: Run) -> str:
    """Digest of the measurements and of the target that they count for, which a search may change."""
    target = json.dumps(run.target.conditions, sort_keys=True).encode()
    return hashlib.sha256((run.folder / KEPT).read_bytes() + target).hexdigest()


def _with(run: Run, changed: dict[int, dict[str, Reading]]) -> Run:
    return replace(run, results=tuple(_changed(result, changed.get(result.trial, {})) for result in run.results))


def _changed(result: Result, score: dict[str, Reading]) -> Result:
    if not score or not isinstance(result.outcome, Scored):
        return result
    return replace(result, outcome=replace(result.outcome, score={**result.outcome.score, **score}))
