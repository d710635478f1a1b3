"""Which measurements of devices do we accept, and how are they written?  One JSON file, checked whole or not at all.

A file holds packages (digest of what they compute, name, operation table, so that an estimate can be compared wherever the
file is read) and records: what one stopwatch saw of one package on one device, system and choice of compute units. The
app of `device-kit` and `measure` write it; any other tool may. Its JSON Schema lies beside this module
(`measurements.schema.json`); rules that JSON Schema has no word for are enforced here and said in the descriptions.

The protocol asks for at least 20 rounds of 50 back-to-back predictions after a warm-up, and none of them under serious
thermal pressure: floors of shorter series lie several times too high. A phone at the cable cannot be asked so: its
records say that their predictions lie apart, and count where there are no others.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Target, find_device
from coreml_pareto.objectives.measuring.placement import Placed
from coreml_pareto.objectives.measuring.power import Energy
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.program.costs import Count
from coreml_pareto.spaces.errors import UserError

FORMAT: Final = "coreml-pareto-measurements"
SCHEMA: Final = "measurements.schema.json"
LONGEST_MS: Final = 600_000.0
ROUNDS, PER_ROUND, APART = 20, 50, 20
"""Least rounds, and predictions of each, back to back; least predictions that lie apart."""

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Milliseconds = Annotated[float, Field(gt=0, le=LONGEST_MS, allow_inf_nan=False)]
Several = Annotated[int, Field(ge=1, le=10**6)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MeasuredPackage(_Frozen):
    """What was measured: `digest` is that of the program's content (`objectives.program.content_digest`)."""

    digest: Digest
    name: Text
    role: Literal["front", "calibration", "other"] = "other"
    costs: tuple[Cost, ...] = Field(min_length=1)


class Placement(_Frozen):
    """How many operations MLComputePlan prefers on each unit."""

    neural_engine: Count
    gpu: Count
    cpu: Count


class Details(_Frozen):
    """What a stopwatch may add; nothing is read from it but by people.

    `python_median_ms` is the same series by Python's clock, `footprint_bytes` the rise of the process's peak footprint
    above what it was before the first load (`footprint_before_bytes`; `footprint_after_bytes` is what it was at the end),
    `battery_level` the charge from 0 to 1, `plan` the compute plan operation by operation, `warnings` what was unusual,
    such as a warm-up that never settled. All may be left out, and are null where the device does not tell.
    """

    python_median_ms: Milliseconds | None = None
    round_medians_ms: tuple[Milliseconds, ...] = ()
    footprint_bytes: Count | None = None
    footprint_before_bytes: Count | None = None
    footprint_after_bytes: Count | None = None
    battery_level: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    energy: Energy | None = None
    plan: tuple[Placed, ...] = ()
    warnings: tuple[Annotated[str, Field(max_length=2000)], ...] = ()
    tools: Mapping[str, str] = Field(default_factory=dict)


class Record(_Frozen):
    """One package on one device; p10_ms <= median_ms <= p90_ms.

    `device` is a model identifier or a name of the catalogue, `os` the system's own version (iOS 17.5.1, macOS 14.4),
    `harness` the stopwatch: figures of two are never pooled. Back to back there are at least 20 rounds of at least 50
    predictions, else at least 20 predictions. `thermal` and `low_power` are null, and `load2_ms` is, where the device
    does not tell.
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
    load2_ms: Milliseconds | None
    rounds: Several
    predictions_per_round: Several
    back_to_back: bool = True
    warm_up: Several
    thermal: Literal["nominal", "fair"] | None
    low_power: Literal[False] | None
    operations: Placement | None = None
    measured_at: AwareDatetime
    details: Details | None = None

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

    @classmethod
    def of(cls, packages: Iterable[MeasuredPackage], records: Iterable[Record]) -> Measurements:
        """A file of these, each package once."""
        known = {package.digest: package for package in reversed(tuple(packages))}
        return cls(
            format=FORMAT, version=1, unit="ms", packages=tuple(reversed(known.values())), records=tuple(records)
        )

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
        text, plain = _content(path)
        try:
            files.append(Measurements.model_validate_json(text, strict=True))
            refused = list[Any]()
        except ValidationError as error:
            refused = error.errors(include_url=False)
        complaints += (f"{path}, {complaint}" for complaint in (*_refused(refused), *_contradictions(plain, refused)))
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
    return Measurements.of(packages.values(), records.values())


def _content(path: Path) -> tuple[str, Any]:
    """The text of a file, and what it holds."""
    try:
        return (text := path.read_text(encoding="utf-8-sig")), json.loads(text)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); give a file that `device-kit`'s app or `measure` wrote"
        ) from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError among them
        told = " ".join(str(error).split())
        raise UserError(
            f"{path} is no JSON ({told}); give a file that `device-kit`'s app or `measure` wrote"
        ) from error


def _refused(every: Sequence[Any]) -> Iterator[str]:
    """One line for each record or field that the schema refuses: the first thing that is wrong with it."""
    told = {found["loc"][:1] for found in every if len(found["loc"]) > 1}  # a list is too short only for its bad rows
    for found in every:
        if (place := found["loc"][:2]) not in told:
            told.add(place)
            yield f"{_place(found['loc'])}: {_said(found)}"


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
    "unit": " (times are in milliseconds)",
}


def _contradictions(plain: Any, refused: Sequence[Any]) -> Iterator[str]:
    """One line for each record that the schema lets through and the catalogue or arithmetic does not."""
    wrong = {found["loc"][1] for found in refused if found["loc"][:1] == ("records",) and len(found["loc"]) > 1}
    if not isinstance(plain, dict) or not all(isinstance(plain.get(key), list) for key in ("packages", "records")):
        return
    known = {str(package.get("digest")) for package in plain["packages"] if isinstance(package, dict)}
    for number, row in enumerate(plain["records"]):
        if number not in wrong:
            record = Record.model_validate_json(json.dumps(row))
            if problem := _problem(record, known):
                yield f"record {number + 1}: {problem}"


def _problem(record: Record, known: set[str]) -> str:
    if record.digest not in known:
        return f"digest names a package of the same file; got {record.digest[:12]}…, which is not among `packages`"
    if not record.p10_ms <= record.median_ms <= record.p90_ms:
        return f"p10_ms <= median_ms <= p90_ms; got {record.p10_ms}, {record.median_ms}, {record.p90_ms}"
    if record.back_to_back and (record.rounds < ROUNDS or record.predictions_per_round < PER_ROUND):
        return (
            f"rounds >= {ROUNDS} and predictions_per_round >= {PER_ROUND}, or the device had no time to become steady; "
            f"got {record.rounds} and {record.predictions_per_round}; measure again"
        )
    if record.rounds * record.predictions_per_round < APART:
        return f"predictions that lie apart are at least {APART}; got {record.rounds * record.predictions_per_round}"
    try:
        _ = record.target
    except UserError as error:
        return str(error)
    return ""
