"""Which package a trial has, and that only its own regular files are packed."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from typing import Any

from coreml_pareto.search.dashboard.archive import package_of, zipped


def test_a_link_out_of_the_package_is_not_followed(recorded: Any) -> None:
    (recorded.package / "link").symlink_to(recorded.folder / "study.db")
    (recorded.package / "links").symlink_to(recorded.folder)
    with zipped(recorded.package) as file, zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == ["model.mlpackage/Data/weight.bin", "model.mlpackage/Manifest.json"]


def test_a_record_that_points_out_of_its_folder_gives_nothing(recorded: Any) -> None:
    run = recorded.study.run()
    assert package_of(run, 0) == recorded.package
    outside = recorded.folder / ".." / "other" / "model.mlpackage"
    outside.mkdir(parents=True)
    results = tuple(
        replace(result, outcome=replace(result.outcome, package=outside)) if result.trial == 0 else result
        for result in run.results
    )
    assert package_of(replace(run, results=results), 0) is None
    assert package_of(run, 4) is None and package_of(run, 99) is None
