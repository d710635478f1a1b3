"""What lies in a run folder, and is it whole?  The names of its files, and refusals of those that are damaged."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from coreml_pareto.search.config import Plan, load_plan, plan_of
from coreml_pareto.spaces.errors import UserError

DATABASE = "study.db"
PLAN = "study.yaml"
REQUEST = "request.json"
MACHINE = "machine.json"  # in the folder of a machine whose study lies in a storage that others share
STORE = "store"
LOGS = "logs"
SECONDS = 60  # to wait for another process that writes into the database


def check_record(folder: Path) -> None:
    """Refuse a run folder whose record is damaged, before anything is read or trained for it.

    A folder without a record, or with the first files of one whose search was killed early, is none of these.
    """
    studies = studies_in(folder / DATABASE)
    if (folder / REQUEST).is_file():
        _check_request(folder / REQUEST)
    if (folder / PLAN).is_file():
        plan = stored_plan(folder / PLAN)
        begun = (folder / DATABASE).is_file() and (folder / STORE).is_dir()
        if begun and plan.name not in studies:
            raise damaged(folder / DATABASE, f"it holds no study {plan.name!r}")


def begun(folder: Path) -> bool:
    """Whether a search has begun in a folder: its record is there, or says where it is."""
    return (folder / DATABASE).is_file() or (folder / MACHINE).is_file()


def no_run(folder: Path) -> UserError:
    """Return the refusal of a folder that is no run folder."""
    return UserError(
        f"{folder} is no run folder (it has no {DATABASE}): give the folder that `search` wrote, e.g. runs/quickstart."
    )


def stored_plan(path: Path) -> Plan:
    """Return the plan that a search left; UserError where it is damaged."""
    try:
        plan = load_plan(str(path))
    except (UserError, UnicodeDecodeError) as error:
        raise damaged(path, str(error).removeprefix(f"{path}: ")) from error
    if "search" not in plan.model_fields_set:  # the last of the sections that `dump_plan` writes
        raise damaged(path, "it ends early")
    return plan


def requested_plan(folder: Path, overrides: Mapping[str, Any]) -> Plan:
    """Return what was asked of a run, `overrides` laid over it.

    Raises:
        UserError: there is no run in this folder, its request is damaged, or what is laid over it is illegal.
    """
    path = folder / REQUEST
    if not path.is_file():
        raise no_run(folder)
    _check_request(path)
    content = json.loads(path.read_text("utf-8"))
    content.pop("data_digest", None)
    return plan_of(content, f"the request of {folder} with what was given", overrides)


def _check_request(path: Path) -> None:
    try:
        whole = isinstance(json.loads(path.read_text("utf-8")), dict)
    except ValueError:  # UnicodeDecodeError and JSONDecodeError
        whole = False
    if not whole:
        raise damaged(path, "it is no JSON object")


def studies_in(database: Path) -> set[str]:
    """Return the names of the studies in an SQLite file after a search for damage; none where there is no file."""
    if not database.is_file():
        return set()
    try:
        address = f"{database.resolve().as_uri()}?mode=rw"  # read-only, nothing could be rolled back
        with closing(sqlite3.connect(address, uri=True, timeout=SECONDS)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            if _ends_early(connection, database):  # after what a killed process was writing is rolled back
                raise sqlite3.DatabaseError("it ends early")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            rows = connection.execute("SELECT study_name FROM studies") if "studies" in tables else ()
            return {name for (name,) in rows}
    except sqlite3.DatabaseError as error:
        raise damaged(database, str(error)) from error


def _ends_early(connection: sqlite3.Connection, database: Path) -> bool:
    """Whether the last page of a database is not all there: SQLite reads what lacks of it as zeros, without a word."""
    (pages,), (size,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    return bool(database.stat().st_size < pages * size)


def damaged(path: Path, why: str) -> UserError:
    """Return the refusal of a damaged file of a run folder."""
    told = " ".join(why.split()).rstrip(".")
    return UserError(
        f"{path} is damaged ({told}); restore it, or search in another --run folder; "
        f"the packages are still in {path.parent / STORE}."
    )
