"""Which measurements of devices do we accept, and how are they written?  One JSON file, checked whole or not at all.

A file holds packages (digest of the saved package, its name, its operation table, so that an estimate can be compared
wherever the file is read) and records: what one stopwatch saw of one package on one device, system and choice of
compute units. The app that `device-kit` writes exports it; any other tool may. Its JSON Schema lies beside this module
(`measurements.schema.json`); rules that JSON Schema has no word for are enforced here and said in the descriptions.

The protocol asks for at least 20 rounds of 50 back-to-back predictions after a warm-up, and none of them under serious
thermal pressure: floors of shorter series lie several times too high.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Target, find_device
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.program.costs import Group, Precision
from coreml_pareto.spaces.errors import UserError

FORMAT: Final = "coreml-pareto-measurements"
SCHEMA: Final = "measurements.schema.json"
LONGEST_MS: Final = 600_000.0
ROUNDS, PER_ROUND = 20, 50

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Milliseconds = Annotated[float, Field(gt=0, le=LONGEST_MS, allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CostRow(_Frozen):
    """One operation of a package, as `objectives.program.Cost` counts it."""

    name: str
    kind: Text
    group: Group
    precision: Precision
    macs: Count
    weight_bytes: Count
    weight_elements: Count
    read_bytes: Count
    written_bytes: Count
    note: str = ""
    kernel: Count = 1
    aligned_bytes: Count = 0
    off_engine: str = ""

    def cost(self) -> Cost:
        """The row as the estimators read it."""
        return Cost(**self.model_dump())


class MeasuredPackage(_Frozen):
    """What was measured: `digest` is the SHA-256 of the saved package (`package_digest`)."""

    digest: Digest
    name: Text
    role: Literal["front", "calibration", "other"] = "other"
    costs: tuple[CostRow, ...] = Field(min_length=1)


class Placement(_Frozen):
    """How many operations MLComputePlan prefers on each unit."""

    neural_engine: Count
    gpu: Count
    cpu: Count


class Record(_Frozen):
    """One package on one device; p10_ms <= median_ms <= p90_ms.

    `device` is a model identifier or a name of the catalogue, `os` the system's own version (iOS 17.5.1, macOS 14.4).
    """

    digest: Digest
    device: Text
    os: str = Field(pattern=r"^[0-9]{2}(\.[0-9]+){0,2}$")
    os_build: str = Field(pattern="^[0-9A-Za-z]{3,12}$")
    harness: Text
    compute_units: ComputeUnits
    median_ms: Milliseconds
    p10_ms: Milliseconds
    p90_ms: Milliseconds
    trimmed_mean_ms: Milliseconds | None = None
    cold_ms: Milliseconds | None = None
    compile_ms: Milliseconds | None = None
    load1_ms: Milliseconds
    load2_ms: Milliseconds
    rounds: int = Field(ge=ROUNDS, le=10**6)
    predictions_per_round: int = Field(ge=PER_ROUND, le=10**6)
    warm_up: int = Field(ge=1, le=10**6)
    thermal: Literal["nominal", "fair"]
    low_power: Literal[False]
    operations: Placement | None = None
    measured_at: AwareDatetime

    @property
    def target(self) -> Target:
        """Where it was measured; UserError for a device or system that is not in the catalogue."""
        device, major = find_device(self.device), int(self.os.split(".")[0])
        return Target(device, major + 3 if device.is_mac and major < 26 else major, self.compute_units)

    @property
    def identity(self) -> tuple[str, str, str, str, str, datetime]:
        """Two records that agree in this are the same measurement."""
        place = find_device(self.device).name
        return self.digest, place, self.os_build, self.compute_units, self.harness, self.measured_at


class Measurements(_Frozen):
    """A file of measurements; times are in milliseconds."""

    format: Literal["coreml-pareto-measurements"]
    version: Literal[1]
    unit: Literal["ms"]
    packages: tuple[MeasuredPackage, ...]
    records: tuple[Record, ...] = Field(min_length=1)

    def package(self, digest: str) -> MeasuredPackage:
        """The package of a record."""
        return next(package for package in self.packages if package.digest == digest)

    def text(self) -> str:
        """As it is written into a file."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def json_schema() -> str:
    """The JSON Schema of a file, as it lies beside this module."""
    return json.dumps(Measurements.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def read(paths: Sequence[Path]) -> Measurements:
    """All files as one, each measurement once.

    Raises:
        UserError: with one line for each bad record of any file; then nothing of any file counts.
    """
    files: list[Measurements] = []
    complaints: list[str] = []
    for path in paths:
        try:
            files.append(Measurements.model_validate(_plain(path)))
        except ValidationError as error:
            complaints += _complaints(path, error)
            continue
        complaints += _contradictions(path, files[-1])
    if not complaints:
        return merge(files)
    count = f"{len(complaints)} records or fields are wrong, so nothing was imported:\n" if complaints[1:] else ""
    raise UserError(count + "\n".join(complaints))


def merge(files: Iterable[Measurements]) -> Measurements:
    """Several files as one; the same measurement in two of them counts once.

    Raises:
        UserError: the same measurement with different numbers.
    """
    packages: dict[str, MeasuredPackage] = {}
    records: dict[tuple[object, ...], Record] = {}
    for file in files:
        for package in file.packages:
            packages.setdefault(package.digest, package)
        for record in file.records:
            if records.setdefault(record.identity, record) != record:
                raise UserError(
                    f"a measurement has one result; that of {packages[record.digest].name!r} on {record.device}, "
                    f"{record.compute_units}, at {record.measured_at.isoformat()} came with two; import the file as "
                    "the device wrote it"
                )
    return Measurements(
        format=FORMAT, version=1, unit="ms", packages=tuple(packages.values()), records=tuple(records.values())
    )


def _plain(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); give a file that the device kit exported"
        ) from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError among them
        told = " ".join(str(error).split())
        raise UserError(f"{path} is no JSON ({told}); give a file that the device kit exported") from error


def _complaints(path: Path, error: ValidationError) -> Iterator[str]:
    """One line for each record or field that the schema refuses: the first thing that is wrong with it."""
    every = error.errors(include_url=False)
    told = {found["loc"][:1] for found in every if len(found["loc"]) > 1}  # a list is too short only for its bad rows
    for found in every:
        if (place := found["loc"][:2]) not in told:
            told.add(place)
            yield f"{path}, {_place(found['loc'])}: {_said(found)}"


def _place(location: tuple[int | str, ...]) -> str:
    match location:
        case ("records" | "packages" as kind, int(number), *rest):
            return " ".join((f"{kind[:-1]} {number + 1}", *map(str, rest)))
        case ():
            return "file"
        case _:
            return " ".join(map(str, location))


def _said(found: Any) -> str:
    """What is wrong and what came; for a name that is nearly right, the right one."""
    came = json.dumps(found["input"], ensure_ascii=False, default=str)
    came = came if len(came) <= 60 else f"{came[:57]}..."
    near = ""
    if found["loc"][-1:] == ("compute_units",):
        known = get_args(ComputeUnits)
        matches = difflib.get_close_matches(str(found["input"]).upper(), known, n=2, cutoff=0.3)
        near = f"; nearest: {', '.join(matches)}" if matches else ""
    rule = _RULES.get(str(found["loc"][-1]) if found["loc"] else "", "") if found["type"] != "missing" else ""
    return (
        f"{found['msg'][0].lower()}{found['msg'][1:]}" + (f"; got {came}" if rule or near or came else "") + near + rule
    )


_RULES: Final = {
    "thermal": " (measure again when the device is cool)",
    "low_power": " (measure again without low power mode)",
    "rounds": f" (at least {ROUNDS} rounds, or the device had no time to become steady)",
    "predictions_per_round": f" (at least {PER_ROUND} back to back)",
    "unit": " (times are in milliseconds)",
}


def _contradictions(path: Path, file: Measurements) -> Iterator[str]:
    """One line for each record that the schema lets through and the catalogue or arithmetic does not."""
    known = {package.digest for package in file.packages}
    for number, record in enumerate(file.records, 1):
        if problem := _problem(record, known):
            yield f"{path}, record {number}: {problem}"


def _problem(record: Record, known: set[str]) -> str:
    if record.digest not in known:
        return f"digest names a package of the same file; got {record.digest[:12]}…, which is not among `packages`"
    if not record.p10_ms <= record.median_ms <= record.p90_ms:
        return f"p10_ms <= median_ms <= p90_ms; got {record.p10_ms}, {record.median_ms}, {record.p90_ms}"
    try:
        _ = record.target
    except UserError as error:
        return str(error)
    return ""
