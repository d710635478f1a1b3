from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.search.data import load_data
from coreml_pareto.search.data.kept import ABANDONED, SEAL, VARIABLE, Bytes, Kept, Known, user_cache
from coreml_pareto.search.data.pixels import ArrayCache
from coreml_pareto.spaces.errors import UserError

Make = Callable[[dict[str, int]], Path]
RULE = Preprocessing(resolution=16)


def values(shape: tuple[int, ...]) -> Bytes:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def keep(kept: Kept, key: str, array: Bytes) -> Bytes | None:
    def fill(out: Bytes) -> None:
        out[:] = array

    return kept.keep(key, array.shape, fill)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_what_is_kept_is_found(tmp_path_factory: pytest.TempPathFactory, shape: list[int]) -> None:
    folder = tmp_path_factory.mktemp("kept")
    array = values(tuple(shape))
    made = keep(Kept(folder), "key", array)
    found = Kept(folder).find("key")
    assert made is not None and found is not None
    assert (made == array).all() and (found == array).all() and found.shape == array.shape
    (path,) = folder.iterdir()
    assert (np.load(path) == array).all()  # any reader of .npy reads it
    shutil.rmtree(folder)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_is_found(tmp_path_factory: pytest.TempPathFactory, where: int, change: int) -> None:
    folder = tmp_path_factory.mktemp("kept")
    keep(Kept(folder), "key", values((9, 5, 5, 3)))
    (path,) = folder.iterdir()
    data = bytearray(path.read_bytes())
    data[where % len(data)] ^= change
    path.write_bytes(data)
    assert Kept(folder).find("key") is None
    assert not path.exists()  # it is made anew
    shutil.rmtree(folder)


@pytest.mark.parametrize("left", [0, 10, SEAL, SEAL + 1, 100, -1])
def test_a_file_cut_short_is_found(tmp_path: Path, left: int) -> None:
    keep(Kept(tmp_path), "key", values((9, 5)))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:left])
    assert Kept(tmp_path).find("key") is None


def test_writing_into_a_found_array_changes_no_file(tmp_path: Path) -> None:
    array = values((4, 4))
    made = keep(Kept(tmp_path), "key", array)
    assert made is not None and made.flags.writeable
    made[:] = 0
    found = Kept(tmp_path).find("key")
    assert found is not None and (found == array).all()


def test_other_tools_make_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(Kept(tmp_path), "key", values((4, 4)))
    monkeypatch.setattr("coreml_pareto.search.data.kept.installed_version", lambda name: f"another {name}")
    assert Kept(tmp_path).find("key") is None


def disk_with(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    def usage(folder: Path) -> tuple[int, int, int]:
        held = sum(path.stat().st_size for path in Path(folder).glob("*.npy"))
        return shutil._ntuple_diskusage(10**9, 0, free - held)  # type: ignore[attr-defined, no-any-return]

    monkeypatch.setattr("coreml_pareto.search.data.kept.shutil.disk_usage", usage)


def test_kept_files_take_a_share_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20,000 bytes 4,000; three files of 1,160 have room, and the longest unused leaves for the fourth."""
    disk_with(monkeypatch, 20_000)
    kept = Kept(tmp_path)
    for age, key in enumerate(["one", "two", "three"]):
        assert keep(kept, key, values((1000,))) is not None
        (path,) = tmp_path.glob(f"{key}-*")
        os.utime(path, (time.time() - 1000 + age, time.time() - 1000 + age))
    assert kept.find("one") is not None  # used: not the oldest any more
    assert keep(kept, "four", values((1000,))) is not None
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {"one", "three", "four"}
    assert keep(kept, "large", values((4001,))) is None
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {"one", "three", "four"}


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    old, young = tmp_path / "old.partial", tmp_path / "young.partial"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - ABANDONED - 60,) * 2)
    keep(Kept(tmp_path), "key", values((4,)))
    assert not old.exists() and young.exists()


def test_a_full_disk_and_a_missing_permission_only_cost_time(
    folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(folder({"a": 9, "b": 9}))
    expected = load_data(root).train.images(RULE)
    calls = []

    def full(file: object, n: int) -> None:
        calls.append(n)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coreml_pareto.search.data.kept.fill_with_zeros", full)
    assert (load_data(root, cache_folder=tmp_path / "cache").train.images(RULE) == expected).all()
    assert len(calls) == 2 and not list((tmp_path / "cache").iterdir())
    (tmp_path / "file").write_bytes(b"")
    data = load_data(root, cache_folder=tmp_path / "file" / "cache")
    assert (data.train.images(RULE) == expected).all()
    assert any("are not kept for later commands" in line for line in data.report.lines())


def test_a_full_disk_below_an_array_in_a_temporary_file_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hole in a mapped file would kill the process when it is filled."""

    def full(file: object, n: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coreml_pareto.search.data.pixels.fill_with_zeros", full)
    with pytest.raises(UserError, match="No space left on device"):
        ArrayCache(0).get("key", (4,), lambda out: None)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({VARIABLE: ""}, None),
        ({VARIABLE: "/somewhere"}, Path("/somewhere")),
        ({"XDG_CACHE_HOME": "/cache"}, Path("/cache/coreml-pareto/pictures")),
        ({}, Path("~/.cache/coreml-pareto/pictures").expanduser()),
    ],
)
def test_the_users_folder(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: Path | None) -> None:
    for name in (VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert user_cache() == expected


# --- a later process --------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which pictures PIL was asked to decode."""
    from coreml_pareto.search.data import picture

    real, names = picture.working_picture, []

    def counting(image: Image.Image) -> Image.Image:
        names.append(str(image.size))
        return real(image)

    monkeypatch.setattr(picture, "working_picture", counting)
    yield names
    names.clear()


def test_a_later_process_decodes_nothing(folder: Make, tmp_path: Path, decoded: list[str]) -> None:
    root, cache = str(folder({"a": 20, "b": 20})), tmp_path / "cache"
    first = load_data(root, cache_folder=cache)
    arrays = [split.images(RULE).copy() for split in (first.train, first.validation, first.open_test("pixels"))]
    assert len(decoded) == 40
    second = load_data(root, cache_folder=cache)
    again = [split.images(RULE) for split in (second.train, second.validation, second.open_test("pixels"))]
    assert len(decoded) == 40
    assert all((one == other).all() for one, other in zip(arrays, again, strict=True))
    assert (first.digest, first.native_resolution) == (second.digest, second.native_resolution)


def test_the_users_folder_is_the_default(folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "user"))
    load_data(str(folder({"a": 9, "b": 9}))).train.images(RULE)
    assert len(list((tmp_path / "user").iterdir())) == 2
    load_data("digits", limit=100).train.images(RULE)  # nothing to decode: nothing to keep
    assert len(list((tmp_path / "user").iterdir())) == 2


def test_other_resolutions_decode_once(folder: Make, tmp_path: Path, decoded: list[str]) -> None:
    root, cache = str(folder({"a": 20, "b": 20})), tmp_path / "cache"
    plain = load_data(root)
    load_data(root, cache_folder=cache).train.images(RULE)
    data = load_data(root, cache_folder=cache)
    decoded.clear()
    for rule in (RULE, Preprocessing(resolution=24), Preprocessing(resolution=8)):
        assert (data.train.images(rule) == plain.train.images(rule)).all()
        assert (data.validation.images(rule) == plain.validation.images(rule)).all()
    assert len(decoded) == 40


def test_only_changed_files_are_decoded_again(folder: Make, tmp_path: Path, decoded: list[str]) -> None:
    root, cache = folder({"a": 20, "b": 20}), tmp_path / "cache"
    before = load_data(str(root), cache_folder=cache)
    decoded.clear()
    Image.new("RGB", (5, 5), "red").save(root / "a" / "0003.png")
    (root / "b" / "0004.png").write_bytes(b"")
    after = load_data(str(root), cache_folder=cache)
    assert decoded == ["(5, 5)"]
    assert [broken.name for broken in after.report.skipped] == ["b/0004.png"]
    assert after.digest == load_data(str(root)).digest != before.digest
    assert (after.train.images(RULE) == load_data(str(root)).train.images(RULE)).all()


def test_a_damaged_array_is_made_anew(folder: Make, tmp_path: Path) -> None:
    root, cache = str(folder({"a": 9, "b": 9})), tmp_path / "cache"
    expected = load_data(root, cache_folder=cache).train.images(RULE).copy()
    for path in cache.iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert (load_data(root, cache_folder=cache).train.images(RULE) == expected).all()
    assert all(Kept(cache).find(path.name.rsplit("-", 1)[0]) is not None for path in cache.iterdir())


def test_pictures_that_change_while_a_command_runs_are_told(folder: Make, tmp_path: Path) -> None:
    root, cache = folder({"a": 9, "b": 9}), tmp_path / "cache"
    load_data(str(root), cache_folder=cache)
    data = load_data(str(root), cache_folder=cache)
    name = data.train.names[0]
    Image.new("RGB", (5, 5)).save(root / name)
    with pytest.raises(UserError, match=f"{name} changed or vanished since it was read"):
        data.train.images(RULE)
    (root / name).unlink()
    with pytest.raises(UserError, match="changed or vanished"):
        data.train.pictures[0].original()


def test_one_percent_corrupted_overnight(folder: Make, tmp_path: Path) -> None:
    """They are skipped by name, and the arrays kept for the whole ones are not mixed up with what is left."""
    root, cache = folder({"a": 150, "b": 150}), tmp_path / "cache"
    before = load_data(str(root), cache_folder=cache)
    before.train.images(RULE)
    hit = ["a/0003.png", "a/0077.png", "b/0149.png"]
    for name, data in zip(hit, (b"", b"not a picture", (root / hit[2]).read_bytes()[:60]), strict=True):
        (root / name).write_bytes(data)
    after = load_data(str(root), cache_folder=cache)
    assert [broken.name for broken in after.report.skipped] == hit
    assert after.digest != before.digest
    for name, image in zip(after.train.names, after.train.images(RULE), strict=True):
        with Image.open(root / name) as expected:
            assert (image == RULE.apply(expected)).all()
    (root / "b" / "0001.png").write_bytes(b"")
    with pytest.raises(UserError, match="here 3, may be unreadable; got 4 of 300"):
        load_data(str(root), cache_folder=cache)


def test_processes_share_one_folder(folder: Make, tmp_path: Path) -> None:
    """Four at once: each reads the right pixels, and what is left is whole."""
    root, cache = folder({"a": 40, "b": 40}), tmp_path / "cache"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from coreml_pareto.objectives.preprocessing import Preprocessing\n"
        "from coreml_pareto.search.data import load_data\n"
        "data = load_data(sys.argv[1], cache_folder=Path(sys.argv[2]))\n"
        "print(data.digest, int(data.train.images(Preprocessing(resolution=16)).astype(int).sum()))\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, root, cache], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = {process.communicate()[0].strip() for process in started}
    data = load_data(str(root))
    assert said == {f"{data.digest} {int(data.train.images(RULE).astype(int).sum())}"}
    assert len(list(cache.glob("*.npy"))) == len(list(cache.iterdir())) == 2
    assert all(Kept(cache).find(path.name.rsplit("-", 1)[0]) is not None for path in cache.iterdir())


@given(st.dictionaries(st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1), min_size=1, max_size=5))
def test_known_sides_come_back(tmp_path_factory: pytest.TempPathFactory, sides: dict[bytes, int]) -> None:
    kept = Kept(tmp_path_factory.mktemp("kept"))
    told = {digest.hex(): side for digest, side in sides.items()}
    Known(kept, ["a", "b"]).remember(told)
    assert Known(kept, ["a", "b"]).sides == told
    assert Known(kept, ["a"]).sides == {}
