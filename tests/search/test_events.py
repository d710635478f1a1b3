"""The log of a run: what is appended is read back, whatever a kill or a full disk left of it."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.search import events
from coreml_pareto.search.events import EVENTS, LONGEST, SCHEMA, Log, read_events

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def _log(folder: Path) -> Log:
    return Log(folder, lambda: 1.5)


@given(st.lists(st.tuples(TEXT, st.integers() | TEXT | st.none() | st.lists(st.integers(), max_size=3)), max_size=5))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, facts: list[tuple[str, object]]) -> None:
    """Line ends of every alphabet stay inside of their text."""
    folder = tmp_path_factory.mktemp("log")
    log = _log(folder)
    for name, value in facts:
        log.write("told", name=name, value=value)
    found = list(read_events(folder))
    assert [(event["name"], event["value"]) for event in found] == facts
    for event in found:
        assert (event["schema"], event["clock"], event["session"]) == (SCHEMA, 1.5, log.session)
        assert datetime.fromisoformat(event["time"]).utcoffset() is not None and event["time"].endswith("Z")


def test_a_line_cut_short_anywhere_loses_itself_alone(tmp_path: Path) -> None:
    log = _log(tmp_path)
    for number in range(3):
        log.write("told", trial=number, cause="café")
    whole = (tmp_path / EVENTS).read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole)):
        (tmp_path / EVENTS).write_bytes(whole[:end])
        told = [0, 1, 2] if end == len(whole) - 1 else [0, 1]
        assert [event["trial"] for event in read_events(tmp_path)] == told
        _log(tmp_path).write("told", trial=9)
        assert [event["trial"] for event in read_events(tmp_path)] == [*told, 9]


def test_what_a_full_disk_took_is_counted_by_the_next_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = _log(tmp_path)
    log.write("told", trial=0)
    with monkeypatch.context() as patch:
        patch.setattr(
            events, "_append", lambda path, line: os.write(os.open(path, os.O_WRONLY | os.O_APPEND), line[:7])
        )
        log.write("told", trial=1)
        patch.setattr(os, "write", _full)
        log.write("told", trial=2)
    log.write("told", trial=3)
    log.write("told", trial=4)
    assert [(event["trial"], event.get("lost")) for event in read_events(tmp_path)] == [(0, None), (3, 2), (4, None)]


def _full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_long_texts_are_cut_and_other_schemas_left_out(tmp_path: Path) -> None:
    log = _log(tmp_path)
    log.write("told", cause="x" * 10_000)
    (event,) = read_events(tmp_path)
    assert event["cause"] == "x" * LONGEST
    (tmp_path / EVENTS).write_text(json.dumps({"schema": SCHEMA + 1, "event": "told"}) + "\n[1]\n")
    assert not list(read_events(tmp_path)) and not list(read_events(tmp_path / "nowhere"))
