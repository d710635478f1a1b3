"""Can a night be relied on?  A search that is killed again and again, and gets into trouble, against an undisturbed one.

Tiny pictures are drawn, and a search over them is run to its end: the reference. Then the same command is started in a
new folder, gets SIGKILL at a random instant (every other time its whole process group; every fourth folder evaluates in a
worker process), is started again, and so on until a start comes to its end; then the next folder, until so many kills were
dealt out. After each kill, and at the end:

- what the record holds is the beginning of what the reference's holds: the same candidates in the same order with the same
  readings, and never less than after the kill before;
- every result of the store is what its manifest says (`store verify`), every package can be loaded, every JSON read, the
  database is sound;
- nothing was found damaged by the search itself.

Then each trouble of `trouble.py` once. What is stored of other seeds stays: a long night can be had in parts.

    python benchmarks/night.py [--kills 200] [--seed 0] [--only kills|trouble] [--folder DIR] [--faketime FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from nursery import Ended, Nursery, by_then
from optuna.trial import TrialState
from PIL import Image
from record import others, store

from coreml_pareto.objectives.program import load
from coreml_pareto.search.record import DATABASE, STORE, check_record
from coreml_pareto.search.store import Folder
from coreml_pareto.search.study import INTERRUPTED

CLASSES, EACH, SIDE = 3, 100, 32
WORKER_EVERY = 4
"""Every so many folders evaluate in a process of their own, whose start takes longer than the search."""
STUDY = """
name: night
data: {data}
networks: {{backbones: [squeezenet1_1], width: [0.25, 0.35, 1.0], resolution: [32], pretrained: false}}
distillation: {{teachers: [none, squeezenet1_1], teacher_width: 0.25, soft_weight: [0.5]}}
compression: [fp16, int8/channel, palette-4/tensor]
limits: {{size: 200KB}}
training: {{epochs: [6], batch_size: 32, device: cpu}}
search: {{trials: 9, seed: 1, packages_per_training: 2}}
"""

Told = list[tuple[str, str, bool, dict[str, Any]]]
"""Of each trial that was told: candidate, outcome, whether it repeats an earlier one, readings."""


def main() -> None:
    """Search, kill, trouble; print the counts and store them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["kills", "trouble"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--faketime", type=Path, help="libfaketimeMT.so.1, where it is not Debian's")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, Nursery() as nursery:
        bench = Bench.prepare(asked.folder or Path(scratch), nursery)
        rows: list[dict[str, Any]] = []
        if asked.only != "trouble":
            rows.append(killed(bench, asked.kills, asked.seed))
            print(json.dumps(rows[0]), flush=True)
        if asked.only != "kills":
            from trouble import FAKETIME, troubles  # which is written for this bench

            for row in troubles(bench, asked.faketime or FAKETIME):
                print(json.dumps(row), flush=True)
                rows.append(row)
    reference = {"reference_seconds": round(bench.seconds, 1), "reference_trials": len(bench.reference)}
    rows = [
        {**row, "seed": asked.seed, **reference}
        for row in json.loads(json.dumps(rows).replace(str(bench.place), "FOLDER"))
    ]
    store("night", [*others("night", rows, ("trouble", "seed")), *rows])
    sys.exit(any(row["faults"] for row in rows))


@dataclass
class Bench:
    """A study and how it ends undisturbed."""

    place: Path
    nursery: Nursery
    study: Path
    reference: Told = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def prepare(cls, place: Path, nursery: Nursery, text: str = STUDY) -> Bench:
        """Draw the pictures and run the reference of a study; its `data` is filled in."""
        place.mkdir(parents=True, exist_ok=True)
        draw(place / "pictures")
        study = place / "night.yaml"
        study.write_text(text.format(data=place / "pictures"))
        bench = cls(place, nursery, study)
        ended = bench.search(place / "reference")
        if ended.code:
            raise RuntimeError(f"the reference ended with {ended.code}: {ended.text}")
        bench.reference, bench.seconds = told(place / "reference"), ended.seconds
        print(f"reference: {len(bench.reference)} trials in {ended.seconds:.1f} s", flush=True)
        return bench

    def search(self, folder: Path, *more: str, **how: Any) -> Ended:
        """Start the search in a folder; the same command each time. What it prints lies beside the folders."""
        return self.nursery.run(self.command(folder, *more), self.log(folder), **how)

    def log(self, folder: Path) -> Path:
        """Where a search in this folder prints."""
        return self.place / f"{'-'.join(folder.relative_to(self.place).parts)}.log"

    def command(self, folder: Path, *more: str) -> list[str]:
        """Return the arguments of the search."""
        return ["search", str(self.study), "--run", str(folder), *more]

    def faults(self, folder: Path, *, least: int = 0, done: bool = False) -> list[str]:
        """Return what is wrong in a folder: with the record, the store, or both against the reference."""
        return [*broken(folder), *self._unlike(told(folder), least, done)]

    def _unlike(self, found: Told, least: int, done: bool) -> list[str]:
        if done and len(found) != len(self.reference):
            return [f"ended with {len(found)} trials, the reference with {len(self.reference)}"]
        if len(found) < least:
            return [f"{least - len(found)} finished trials are lost"]
        pairs = zip(found, self.reference, strict=False)
        return [f"trial {n} of the record is another: {a} instead of {b}" for n, (a, b) in enumerate(pairs) if a != b]


def killed(bench: Bench, kills: int, seed: int) -> dict[str, Any]:
    """Deal out kills until there were so many, and the search that got the last one has ended."""
    draws, counts, faults = random.Random(seed), Counter[str](), list[str]()
    while counts["kills"] < kills:
        folder, least = bench.place / f"killed-{counts['searches']}", 0
        alone = counts["searches"] % WORKER_EVERY != WORKER_EVERY - 1
        more = () if alone else ("--workers", "1")
        counts["searches"] += 1
        counts["searches with a worker"] += not alone
        while True:
            group, left = bool(counts["starts"] % 2), counts["kills"] < kills
            after = draws.uniform(0, bench.seconds * (1 if alone else 2))
            counts["starts"] += 1
            ended = bench.search(folder, *more, look=by_then(after) if left else None, group=group)
            counts["kills"] += ended.killed
            counts["kills of a group"] += ended.killed and group
            counts["found damaged"] += ended.text.count("damaged")
            found = bench.faults(folder, least=least, done=not ended.killed)
            if ended.code and not ended.killed:
                found.append(f"exit code {ended.code}: {ended.text[-500:]}")
            faults += [f"{folder.name}: {fault}" for fault in found]
            if not ended.killed:
                break
            least = len(told(folder))
            counts["kills with finished trials"] += least > 0
        print(f"{time.strftime('%H:%M:%S')} {dict(counts)}, {len(faults)} faults", flush=True)
    return {"trouble": "SIGKILL at random instants", **counts, "faults": faults}


def draw(folder: Path) -> None:
    """Pictures of three classes, which differ in the direction of their stripes, under noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    for label, wave in enumerate((rows, columns, rows + columns)):
        (folder / f"class-{label}").mkdir(parents=True, exist_ok=True)
        for number in range(EACH):
            stripes = 90 * np.sin(wave * rng.uniform(0.5, 1.5) + rng.uniform(0, 6)) + rng.normal(128, 40, (SIDE, SIDE))
            picture = np.clip(stripes, 0, 255).astype(np.uint8)
            Image.fromarray(picture).convert("RGB").save(folder / f"class-{label}" / f"{number}.png")


def told(folder: Path, address: str = "") -> Told:
    """Return what the record of a run holds, in its folder or at an address; nothing where there is none yet."""
    if not address and not (folder / DATABASE).is_file():
        return []
    try:
        study = optuna.load_study(study_name="night", storage=address or f"sqlite:///{folder / DATABASE}")
    except KeyError:  # it was killed before the study was made
        return []
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    return [
        (
            json.dumps(trial.user_attrs["candidate"], sort_keys=True),
            trial.user_attrs["outcome"],
            "repeats" in trial.user_attrs,
            {name: reading["value"] for name, reading in trial.user_attrs.get("score", {}).items()},
        )
        for trial in ended
        if INTERRUPTED not in trial.user_attrs
    ]


def broken(folder: Path) -> list[str]:
    """Return what in a run folder is not whole."""
    faults = []
    try:
        check_record(folder)
    except Exception as error:
        faults.append(f"record: {error}")
    shelf = Folder(folder / STORE)
    for artifact in shelf.artifacts():
        place = shelf.root / artifact.stage / artifact.key
        if damage := shelf.damage(artifact):
            faults.append(f"{artifact.stage}/{artifact.key}: {damage}")
            continue
        try:
            for package in place.glob("*.mlpackage"):
                load(package)
            for path in place.glob("*.json"):
                json.loads(path.read_text())
        except Exception as error:
            faults.append(f"{artifact.stage}/{artifact.key} cannot be read: {error}")
    return faults


if __name__ == "__main__":
    main()
