"""The rows that machines read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.rows import HEAD, row, write_csv
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.candidate import Candidate

NAMED_IN_THE_README = {
    "trial", "candidate", "package", "top1", "top1_low", "top1_high", "top5", "test_top1", "latency_ms", "fps",
    "size_bytes", "bits_per_weight", "memory_bytes", "energy_mj", "energy_mah", "macs", "minimum_os", "device", "os",
    "compute_units", "battery", "top1_seeds", "top1_mean", "top1_mean_low", "top1_mean_high", "front_share", "test_reads",
    "trials_at_first_test", "trials",
}  # fmt: skip
ESTIMATES = ("latency_ms", "fps", "memory_bytes", "energy_mj", "energy_mah")


def test_exactly_these_keys(draw_run: Callable[..., Run]) -> None:
    run = draw_run(1)
    expected = NAMED_IN_THE_README | {f"{name}_{end}" for name in ESTIMATES for end in ("low", "high", "how")}
    for result in run.results:  # scored, infeasible and failed alike
        assert set(row(result, run)) == expected
    assert set(HEAD) == expected


def test_values_come_from_the_readings(draw_run: Callable[..., Run]) -> None:
    run = draw_run(3)
    test = Reading(0.91, "share", 0.9, 0.92, "measured")
    result = replace(run.results[1], test_top1=test)
    line = row(result, run)
    assert line["test_top1"] == 0.91
    assert (line["top1_low"], line["top1"], line["top1_high"]) == tuple(
        getattr(result.score["top1"], end) for end in ("low", "value", "high")
    )
    assert line["latency_ms_how"] == "estimated"
    assert line["latency_ms_low"] == result.score["latency_ms"].low
    assert isinstance(line["size_bytes"], int) and line["size_bytes"] == result.score["size_bytes"].value
    assert Path(line["package"]).is_absolute()
    assert line["minimum_os"] == "iOS 16"  # int8
    assert (line["device"], line["os"], line["compute_units"]) == ("iPhone 15 Pro", "iOS 17", "ALL")
    assert Candidate.model_validate(line["candidate"]) == result.candidate


def test_the_battery_behind_a_charge_is_named(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> None:
    plain = result_at(0, (0.9, 1, 1e6, 1e6, 1))
    assert row(plain, run_of((plain,)))["battery"] is None
    assert isinstance(plain.outcome, Scored)
    charge = {"energy_mah": replace(plain.score["energy_mah"], conditions={"battery": "12.70 Wh, 3.85 V (assumed)"})}
    told = replace(plain, outcome=replace(plain.outcome, score=dict(plain.score) | charge))
    assert row(told, run_of((told,)))["battery"] == "12.70 Wh, 3.85 V (assumed)"


def test_what_does_not_exist_is_null(result_at: Callable[..., Result], run_of: Callable[..., Run]) -> None:
    lacking = result_at(0, (0.9, 1, 1e6, 1e6, 1), lacking=("energy_mah", "top5"))
    line = row(lacking, run_of((lacking,)))
    for key in ("energy_mah", "energy_mah_low", "energy_mah_how", "top5", "test_top1"):
        assert line[key] is None
    json.dumps(line, allow_nan=False)


def test_an_infeasible_trial_has_no_package(draw_run: Callable[..., Run]) -> None:
    run = draw_run(0)
    line = row(run.results[0], run)
    assert line["package"] is None and line["top1"] is None and line["latency_ms"] is None


def test_csv_reads_back(draw_run: Callable[..., Run], tmp_path: Path) -> None:
    run = draw_run(4)
    rows = [row(result, run) for result in run.scored()]
    write_csv(rows, tmp_path / "front.csv")
    with (tmp_path / "front.csv").open(newline="", encoding="utf-8") as file:
        back = list(csv.DictReader(file))
    assert [int(line["trial"]) for line in back] == [0, 1, 2, 3]
    assert [json.loads(line["candidate"]) for line in back] == [line["candidate"] for line in rows]
    assert [float(line["latency_ms"]) for line in back] == [line["latency_ms"] for line in rows]
    assert back[0]["test_top1"] == ""


def test_an_empty_front_has_its_head(tmp_path: Path) -> None:
    write_csv([], tmp_path / "front.csv")
    assert (tmp_path / "front.csv").read_text().strip() == ",".join(HEAD)
