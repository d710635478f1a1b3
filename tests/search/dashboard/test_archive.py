"""Which package a trial has, and that only its own regular files are packed."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from typing import Any

import pytest

from coreml_pareto.search.dashboard.archive import package_of, zipped


def test_a_link_out_of_the_package_is_not_followed(recorded: Any) -> None:
    (recorded.package / "link").symlink_to(recorded.folder / "study.db")
    (recorded.package / "links").symlink_to(recorded.folder)
    with zipped(recorded.package) as file, zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == ["model.mlpackage/Data/weight.bin", "model.mlpackage/Manifest.json"]


def test_a_package_as_old_as_unix_is_packed(recorded: Any) -> None:
    """Zip files know no time before 1980; files that some tools write are of 1970."""
    os.utime(recorded.package / "Manifest.json", (0, 0))
    with zipped(recorded.package) as file, zipfile.ZipFile(file) as archive:
        assert "model.mlpackage/Manifest.json" in archive.namelist()


@pytest.mark.parametrize(
    "place", ["../other/model.mlpackage", "study.db", "/elsewhere", "store/package/link.mlpackage"]
)
def test_a_record_that_points_out_of_its_store_gives_nothing(recorded: Any, place: str) -> None:
    run = recorded.study.run()
    assert package_of(run, 0) == recorded.package
    (recorded.folder / ".." / "other" / "model.mlpackage").mkdir(parents=True)
    (recorded.folder / "store" / "package" / "link.mlpackage").symlink_to(recorded.folder.parent / "other")
    outside = recorded.folder / place
    results = tuple(
        replace(result, outcome=replace(result.outcome, package=outside)) if result.trial == 0 else result
        for result in run.results
    )
    assert package_of(replace(run, results=results), 0) is None
    assert package_of(run, 4) is None and package_of(run, 99) is None


def test_a_store_may_lie_elsewhere(recorded: Any) -> None:
    (recorded.folder / "store").rename(recorded.folder.parent / "disk")
    (recorded.folder / "store").symlink_to(recorded.folder.parent / "disk")
    assert package_of(recorded.study.run(), 0) == recorded.package
