"""What else can happen in a night?  Each of these once, to the search of `night.py`, in the middle of its work.

Whatever happens, the search either goes on to the same end, or stops with exit code 2 and one sentence; then the trouble is
over, and the same command comes to the same end. A row tells which of the two it was, and what was wrong, if anything.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from night import EACH, Bench, broken, told
from nursery import Ended, Look, cold

from coreml_pareto.search.events import read_events

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from postgres import Server, binaries

REFUSED = 2
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
"""From Debian's package libfaketime."""
DAY, AWAY = 86400, 60
"""Seconds."""


def troubles(bench: Bench, faketime: Path = FAKETIME) -> Iterator[dict[str, Any]]:
    """Get into all of them, and tell of each."""
    yield from (disk_full(bench, share) for share in (0.1, 0.3, 0.5, 0.7, 0.9))
    yield permission_revoked(bench)
    yield from (
        corrupted(bench, name) for name in ("weights.pt", "weight.bin", "manifest.json", "record.json", "score.json")
    )
    yield checkpoint_corrupted(bench)
    yield pictures_broken(bench)
    yield pictures_broken_meanwhile(bench)
    yield clock_set_back(bench, faketime)
    yield database_away(bench)


def disk_full(bench: Bench, share: float) -> dict[str, Any]:
    """The disk of the run folder holds a part of what the run needs; then it is enlarged."""
    need = sum(path.stat().st_size for path in (bench.place / "reference").rglob("*") if path.is_file())
    disk = bench.place / f"disk-{share:.1f}"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(share * need)}", "tmpfs", str(disk)], check=True)
    try:
        first = bench.search(disk / "run")
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
        return _row(bench, f"disk full at {share:.0%} of what is needed", disk / "run", first, bench.search)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def permission_revoked(bench: Bench) -> dict[str, Any]:
    """Another hand takes the right to write into the run folder: it and all in it become immutable, for root, too."""
    folder, revoked = bench.place / "revoked", list[object]()

    def revoke(text: str) -> bool:
        if _trials(text) >= 3 and not revoked:
            revoked.append(subprocess.run(["chattr", "-R", "+i", str(folder)], check=True))
        return False

    try:
        first = bench.search(folder, look=revoke)
    finally:
        subprocess.run(["chattr", "-R", "-i", str(folder)], check=True)
    row = _row(bench, "write permission revoked", folder, first, bench.search)
    return row if first.code == REFUSED else row | {"faults": [*row["faults"], "it was not noticed"]}


def corrupted(bench: Bench, name: str) -> dict[str, Any]:
    """A byte of a finished result is flipped between two sessions."""
    folder = bench.place / f"corrupted-{name}"
    bench.search(folder, look=_after(4))
    for path in sorted((folder / "store").glob(f"[!.]*/*/**/{name}"))[:3]:
        _flip(path)
    first = bench.search(folder)
    unread = len(broken(folder))
    bench.nursery.run(["store", "verify", str(folder), "--repair"], bench.log(folder))
    row = _row(bench, f"a byte flipped in 3 {name} of the store", folder, first, bench.search)
    return row | {"how": f"{row['how']}; {unread} never read again, and removed by store verify --repair"}


def checkpoint_corrupted(bench: Bench) -> dict[str, Any]:
    """A byte of a checkpoint is flipped after a kill in its training."""
    folder = bench.place / "checkpoint"
    checkpoints = (folder / "store" / ".work").glob
    bench.search(folder, look=lambda text: any(checkpoints("train-*/checkpoint.pt")))
    found = list(checkpoints("train-*/checkpoint.pt"))
    for path in found:
        _flip(path)
    row = _row(bench, "a byte flipped in a checkpoint", folder, bench.search(folder), bench.search)
    return row if found else row | {"faults": ["there was no checkpoint"]}


def pictures_broken(bench: Bench) -> dict[str, Any]:
    """1 % of the pictures are cut off from the beginning; the run is one of its own. With more it is refused."""
    other = _copy(bench, "broken")
    files = sorted((other.place / "pictures").rglob("*.png"))
    for path in files[::EACH][:3]:
        path.write_bytes(path.read_bytes()[:100])
    first = other.search(other.place / "run")
    faults = [] if first.text.count("skipped class-") == 3 else ["they were not named"]
    faults += [] if first.code == 0 else [f"exit code {first.code}"]
    for path in files[1::EACH][:3]:
        path.write_bytes(b"")
    second = other.search(other.place / "run")
    faults += [] if second.code == REFUSED else [f"with 2 %: exit code {second.code}"]
    how = f"went on without them; with 2 %: {_sentence(second)}"
    return {"trouble": "1 % of the pictures broken", "how": how, "faults": faults + broken(other.place / "run")}


def pictures_broken_meanwhile(bench: Bench) -> dict[str, Any]:
    """1 % of the pictures break between two sessions; then they are restored."""
    other = _copy(bench, "meanwhile")
    folder = other.place / "run"
    other.search(folder, look=_after(3))
    whole = {path: path.read_bytes() for path in sorted((other.place / "pictures").rglob("*.png"))[::EACH][:3]}
    for path, content in whole.items():
        path.write_bytes(content[:100])
    first = other.search(folder)
    for path, content in whole.items():
        path.write_bytes(content)
    row = _row(other, "1 % of the pictures break between two sessions", folder, first, other.search)
    return row if first.code == REFUSED else row | {"faults": ["it went on with other pictures"]}


def clock_set_back(bench: Bench, faketime: Path) -> dict[str, Any]:
    """The system's clock goes back by a day in the middle of a search, and again before the same command."""
    trouble = "clock set back by a day, twice"
    if not faketime.is_file():
        return {"trouble": trouble, "how": f"not tried: there is no {faketime}", "faults": []}
    folder, offset = bench.place / "clock", bench.place / "offset"
    offset.write_text("+0")
    faked = {
        "LD_PRELOAD": str(faketime), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
    }  # fmt: skip

    def set_back(text: str) -> bool:
        if _trials(text) >= 3:
            offset.write_text(f"-{DAY}")
        return _trials(text) >= 6

    cold(bench.command(folder), bench.log(folder), faked, set_back)
    offset.write_text(f"-{2 * DAY}")
    row = _row(bench, trouble, folder, cold(bench.command(folder), bench.log(folder), faked), bench.search)
    events = list(read_events(folder))
    clocks = [event["clock"] for event in events if event["event"] in ("started", "told", "stage_ended")]
    stamps = [event["time"] for event in events]
    faults = [] if all(a <= b for a, b in pairwise(clocks)) else ["the run's clock went back"]
    faults += [] if all(event.get("seconds", 0) >= 0 for event in events) else ["negative seconds"]
    faults += [] if sum(a > b for a, b in pairwise(stamps)) == 2 else ["the system's clock did not go back twice"]
    return row | {"faults": row["faults"] + faults}


def database_away(bench: Bench) -> dict[str, Any]:
    """A PostgreSQL server that holds the study is stopped for a minute in the middle of a search."""
    trouble, tools = f"PostgreSQL away for {AWAY} s", binaries()
    if tools is None:
        return {"trouble": trouble, "how": "not tried: PostgreSQL is not installed", "faults": []}
    server, cut = Server(tools), list[bool]()

    def away(text: str) -> bool:
        if _trials(text) >= 3 and not cut:
            cut.append(True)
            server.stop()
            time.sleep(AWAY)
            server.start()
        return False

    server.start()
    try:
        shared = ("--storage", server.url(), "--store", str(bench.place / "shared"))
        ended = bench.search(bench.place / "database", *shared, look=away)
        found = told(bench.place / "database", server.url())
    finally:
        server.remove()
    faults = [] if found == bench.reference else [f"{len(found)} trials, not those of the reference"]
    faults += [f"exit code {ended.code}: {ended.text[-400:]}"] if ended.code else []
    faults += [] if "does not answer" in ended.text and "answers again" in ended.text else ["it was not told"]
    how = f"stopped: {_sentence(ended)}" if ended.code else "went on"
    return {"trouble": trouble, "how": how, "faults": faults + broken(bench.place / "database")}


def _row(bench: Bench, trouble: str, folder: Path, first: Ended, again: Callable[[Path], Ended]) -> dict[str, Any]:
    """Judge a search that got into trouble, and run the same command now that it is over, if it stopped."""
    faults, how = [], "went on"
    if first.code:
        how = f"stopped: {_sentence(first)}"
        if first.code != REFUSED or first.text.count("error: ") != 1 or "Traceback" in first.text:
            faults.append(f"exit code {first.code}, printed {first.text[-400:]!r}")
        finished = len(told(folder))
        second = again(folder)
        faults += [f"the same command ended with {second.code}: {second.text[-400:]}"] if second.code else []
        how += f" (after {finished} trials; the same command {'stopped, too' if second.code else 'went on'})"
    if count := first.text.count("damaged"):
        how += f", found {count} damaged"
    return {"trouble": trouble, "how": how, "faults": faults + bench.faults(folder, done=True)}


def _copy(bench: Bench, name: str) -> Bench:
    """A bench with pictures of its own, which are the same."""
    place = bench.place / name
    shutil.copytree(bench.place / "pictures", place / "pictures")
    study = place / "night.yaml"
    study.write_text(bench.study.read_text().replace(str(bench.place / "pictures"), str(place / "pictures")))
    return replace(bench, place=place, study=study)


def _after(trials: int) -> Look:
    return lambda text: _trials(text) >= trials


def _trials(text: str) -> int:
    return sum(line.startswith("trial ") for line in text.splitlines())


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.unlink()  # its links in other stores stay whole
    path.write_bytes(content)


def _sentence(ended: Ended) -> str:
    return " ".join(ended.text.rpartition("error: ")[2].split())[:300]
