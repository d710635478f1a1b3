"""A folder appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from coreml_pareto.search.delivery.publishing import check_new, published
from coreml_pareto.spaces.errors import UserError


def test_it_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    out = tmp_path / "below" / "out"
    with published(out) as draft:
        (draft / "file").write_text("x")
        assert not out.exists()
    assert (out / "file").read_text() == "x" and [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_taken_and_a_full_one_refused(tmp_path: Path) -> None:
    check_new(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_new(tmp_path / "empty")
    with published(tmp_path / "empty") as draft:
        (draft / "file").touch()
    for full in (tmp_path / "empty", tmp_path / "empty/file"):
        with pytest.raises(UserError, match="is empty"):
            check_new(full)


def test_the_folder_one_stands_in_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with published(Path(".")) as draft:
        (draft / "model").write_text("whole")
    assert (tmp_path / "here" / "model").read_text() == "whole"


def test_nothing_stays_of_what_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), published(tmp_path / "out") as draft:
        (draft / "file").touch()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can be written"), published(tmp_path / "file" / "out"):
        pass
