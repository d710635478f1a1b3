"""timm's own readers on torchvision's real files, and on doubles of `datasets`, which is not installed here.

The doubles have what timm's `ReaderHfds` and `ReaderHfids` call, so that the readers themselves are the real ones.
"""

from __future__ import annotations

import importlib.machinery
import io
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coreml_pareto.objectives.preprocessing import Preprocessing
from coreml_pareto.search.data import load_data
from coreml_pareto.search.data.reader import KINDS, is_reader, plain, scan_reader
from coreml_pareto.spaces.errors import UserError

RULE = Preprocessing(resolution=16)
READERS = ("timm.data.readers.reader_hfds", "timm.data.readers.reader_hfids")


def picture(n: int, side: int = 12) -> Image.Image:
    return Image.fromarray(np.random.default_rng(n).integers(0, 256, (side, side, 3), dtype=np.uint8))


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


# --- torchvision, through timm.data.create_dataset --------------------------------------------------------------------


def idx(path: Path, array: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """MNIST's own format: http://yann.lecun.com/exdb/mnist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, n in (("train", 80), ("t10k", 40)):
        labels = np.arange(n, dtype=np.uint8) % 10
        idx(tmp_path / f"MNIST/raw/{name}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        idx(tmp_path / f"MNIST/raw/{name}-labels-idx1-ubyte", labels)
    return tmp_path


def test_torchvisions_files(mnist: Path) -> None:
    from torchvision.datasets import MNIST

    data = load_data(f"torch:mnist?root={mnist}")
    assert data.name == "mnist" and not data.flip_safe
    assert data.classes[:2] == ("0 - zero", "1 - one") and len(data.classes) == 10
    assert {split: sum(counts.values()) for split, counts in data.report.images.items()} == {
        "train": 70, "validation": 10, "test": 40,
    }  # fmt: skip
    expected = MNIST(mnist, train=False)
    test = data.open_test("pixels")
    assert test.names[7] == "test/00000007"
    for row, pixels in enumerate(test.images(Preprocessing(resolution=28))):
        assert (pixels == np.asarray(expected[row][0])[..., None]).all()
        assert data.classes[test.targets[row]] == expected.classes[expected[row][1]]


def test_a_reader_is_stable_and_kept(mnist: Path, tmp_path: Path) -> None:
    source = f"torch:mnist?root={mnist}"
    first = load_data(source, cache_folder=tmp_path / "cache")
    pixels = first.train.images(RULE).copy()
    second = load_data(source, cache_folder=tmp_path / "cache")
    assert first.digest == second.digest == load_data(source).digest
    assert (second.train.images(RULE) == pixels).all()
    assert load_data(source, limit=60).digest == load_data(source, limit=60).digest != first.digest


def test_a_folder_through_torchvision_has_its_classes(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    for split in ("train", "test"):
        for n in range(12):
            path = tmp_path / split / ("cat", "two words")[n % 2] / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(n + 100 * (split == "test")).save(path)
    data = load_data(f"torch:image_folder?root={tmp_path}")
    assert data.classes == ("cat", "two words") and len(data.open_test("count")) == 12
    expected = ImageFolder(tmp_path / "train")
    for name, image, target in zip(data.train.names, data.train.images(RULE), data.train.targets, strict=True):
        original, label = expected[int(name.split("/")[1])]
        assert (image == RULE.apply(original)).all() and data.classes[target] == expected.classes[label]


def test_missing_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"torch:cifar10.* refused it \(RuntimeError: Dataset not found"):
        load_data(f"torch:cifar10?root={tmp_path}")
    with pytest.raises(UserError, match=r"refused it .*Unknown torchvision dataset"):
        load_data(f"torch:nonsense?root={tmp_path}")


# --- the Hugging Face Hub, through timm's ReaderHfds and ReaderHfids --------------------------------------------------


@dataclass
class ClassLabel:
    names: list[str]


@dataclass
class Rows:
    """As much of `datasets.Dataset` as timm asks for."""

    info: Any
    rows: list[dict[str, Any]]

    def cast_column(self, name: str, feature: Any) -> Rows:
        if name not in self.info.features:
            raise ValueError(f"The column '{name}' is not in {list(self.info.features)}")
        assert not feature.decode
        return self

    def remove_columns(self, name: str) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if key != name} for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.rows[row]


@dataclass
class Hub:
    """What the double serves, and what it was asked for."""

    splits: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    names: list[str] | None = None
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    fails: Exception | None = None

    def fill(self, split: str, labels: list[Any], first: int = 0, image: str = "image", label: str = "label") -> None:
        rows = [
            {image: {"bytes": encoded(picture(first + n)), "path": None}, label: value}
            for n, value in enumerate(labels)
        ]
        self.splits[split] = rows

    @property
    def info(self) -> Any:
        features = {key: None for rows in self.splits.values() for key in rows[0]}
        if self.names is not None:
            features["label"] = ClassLabel(self.names)  # type: ignore[assignment]
        return SimpleNamespace(
            features=features, splits={name: SplitInfo(len(rows)) for name, rows in self.splits.items()}
        )

    def load_dataset(self, path: str, split: str | None = None, cache_dir: str | None = None) -> Rows:
        self.asked.append((path, str(split), cache_dir))
        if self.fails is not None:
            raise self.fails
        if split not in self.splits:
            raise ValueError(f'Unknown split "{split}". Should be one of {list(self.splits)}.')
        return Rows(self.info, self.splits[split])

    def load_dataset_builder(self, path: str, cache_dir: str | None = None) -> Any:
        self.asked.append((path, "builder", cache_dir))
        return SimpleNamespace(info=self.info, as_streaming_dataset=lambda split: Stream(self.splits[split]))


@dataclass
class SplitInfo:
    num_examples: int


@dataclass
class Stream:
    rows: list[dict[str, Any]]
    num_shards: int = 1

    def set_epoch(self, epoch: int) -> None: ...

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.rows:
            yield {**row, "image": Image.open(io.BytesIO(row["image"]["bytes"]))}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    served = Hub()
    modules = {name: ModuleType(name) for name in ("datasets", "datasets.distributed", "datasets.splits")}
    top = modules["datasets"]
    top.__dict__.update(
        load_dataset=served.load_dataset, load_dataset_builder=served.load_dataset_builder,
        Image=lambda decode: SimpleNamespace(decode=decode), __version__="4.0.0",
        IterableDataset=Stream, __spec__=importlib.machinery.ModuleSpec("datasets", None),
    )  # fmt: skip
    modules["datasets.distributed"].__dict__["split_dataset_by_node"] = lambda data, rank, world_size: data
    modules["datasets.splits"].__dict__["SplitInfo"] = SplitInfo
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in READERS:
        sys.modules.pop(name, None)
    yield served
    for name in READERS:  # they hold the double
        sys.modules.pop(name, None)


NAMES = ["zebra", "two words", "قطة", "🐕"]


def test_a_data_set_of_the_hub(hub: Hub) -> None:
    hub.names = NAMES
    hub.fill("train", [n % 4 for n in range(40)])
    hub.fill("test", [n % 4 for n in range(8)], first=100)
    hub.fill("unsupervised", [0])
    data = load_data("hf:someone/pets")
    assert data.name == "pets"
    assert data.classes == tuple(sorted(NAMES))
    assert len(data.train) + len(data.validation) == 40 and len(data.open_test("count")) == 8
    assert hub.asked == [("someone/pets", "train", None), ("someone/pets", "test", None)]
    assert "these splits of someone/pets were passed over: 'unsupervised'" in data.report.warnings
    for split, first in ((data.train, 0), (data.open_test("pixels"), 100)):
        for row, (name, image) in enumerate(zip(split.names, split.images(RULE), strict=True)):
            n = int(name.split("/")[1])
            assert (image == RULE.apply(picture(first + n))).all()
            assert data.classes[split.targets[row]] == NAMES[n % 4]


def test_bytes_of_the_hub_count_as_files(hub: Hub) -> None:
    hub.fill("train", ["a", "b"] * 10)
    found = scan_reader("hf:pets")
    assert found.files[3].path.read_bytes() == encoded(picture(3))


def test_columns_root_and_splits_are_named(hub: Hub) -> None:
    hub.fill("fit", ["a", "b"] * 8, image="img", label="fine label")
    hub.fill("held/out", ["a", "b"] * 4, first=50, image="img", label="fine label")
    data = load_data("hf:./pets?image=img&label=fine+label&root=/files&train=fit&validation=held%2Fout")
    assert hub.asked == [("./pets", "fit", "/files"), ("./pets", "held/out", "/files")]
    assert data.classes == ("a", "b") and len(data.validation) == 8


def test_numbers_without_names_are_their_own(hub: Hub) -> None:
    hub.fill("train", [n % 3 + 7 for n in range(30)])
    assert load_data("hf:pets").classes == ("7", "8", "9")


def test_a_split_without_labels_is_passed_over(hub: Hub) -> None:
    hub.names = NAMES[:2]
    hub.fill("train", [0, 1] * 10)
    hub.fill("test", [-1] * 6, first=50)
    data = load_data("hf:pets")
    assert "test has no labels and was passed over" in data.report.warnings
    assert any("test was drawn" in line for line in data.report.lines())


@pytest.mark.parametrize("bad", [-1, None, [0, 1], ""])
def test_a_row_without_one_label_is_refused(hub: Hub, bad: object) -> None:
    hub.fill("train", [0, 1, bad, *[0, 1] * 8])
    with pytest.raises(UserError, match=r"Each image has one label; row 2 of train in hf:pets"):
        load_data("hf:pets")


def test_broken_rows_follow_the_rule_of_folders(hub: Hub) -> None:
    hub.fill("train", ["a", "b"] * 20)
    hub.splits["train"][5]["image"]["bytes"] = b"broken"
    assert [broken.name for broken in load_data("hf:pets").report.skipped] == ["train/00000005"]
    with pytest.raises(UserError, match="got 1 of 40"):
        load_data("hf:pets", max_broken_share=0)


def test_wrong_columns_and_splits_are_one_line(hub: Hub) -> None:
    hub.fill("train", ["a", "b"] * 8, image="img")
    with pytest.raises(UserError, match=r"The column 'image' is not in \['img', 'label'\]\); check the name") as error:
        load_data("hf:pets")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match='Unknown split "fit"'):
        load_data("hf:pets?train=fit")


def raised(cause: Exception) -> Exception:
    """As httpx and huggingface_hub wrap it."""
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("Couldn't reach 'pets' on the Hub\n(offline)") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    "cause", [ConnectionRefusedError(111, "refused"), TimeoutError(), socket.gaierror(-2, "unknown")]
)
def test_a_hub_out_of_reach_is_one_line(hub: Hub, cause: Exception) -> None:
    hub.fails = raised(cause)
    with pytest.raises(
        UserError, match=r"the network, which cannot be reached .*; try again with a network, or"
    ) as error:
        load_data("hf:pets")
    assert "\n" not in str(error.value) and "Couldn't reach 'pets' on the Hub (offline)" in str(error.value)


def test_a_stream_is_read_once(hub: Hub, tmp_path: Path) -> None:
    hub.names = NAMES[:2]
    hub.fill("train", [0, 1] * 10)
    hub.fill("validation", [0, 1] * 4, first=50)
    data = load_data("hfids:pets", cache_folder=tmp_path / "cache")
    assert data.classes == ("two words", "zebra") and len(data.validation) == 8
    for row, (name, image) in enumerate(zip(data.validation.names, data.validation.images(RULE), strict=True)):
        n = int(name.split("/")[1])
        assert (image == RULE.apply(picture(50 + n))).all()
        assert data.classes[data.validation.targets[row]] == NAMES[n % 2]
    assert load_data("hfids:pets").digest == data.digest
    assert all(path.suffix == ".npy" for path in (tmp_path / "cache").iterdir())  # the stream's own file has no name


def test_a_stream_that_ends_early_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.fill("train", ["a", "b"] * 10)
    real = hub.load_dataset_builder
    announced = SimpleNamespace(splits={"train": SplitInfo(23)}, features={"image": None, "label": None})

    def builder(path: str, cache_dir: str | None = None) -> Any:
        return SimpleNamespace(**{**vars(real(path, cache_dir)), "info": announced})

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset_builder", builder)
    data = load_data("hfids:pets", max_broken_share=0.2)
    assert "3 images of train could not be read by datasets" in data.report.warnings
    with pytest.raises(UserError, match="here 1, may be unreadable; 3 of 23 in pets were announced"):
        load_data("hfids:pets")


# --- the text, and packages that are missing --------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["hf", "hfds", "hfids", "tfds", "wds"])
def test_a_missing_package_is_named_with_its_install(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    kind = KINDS[prefix]
    with pytest.raises(UserError, match="not installed") as error:
        load_data(f"{prefix}:someone/pets")
    assert kind.package in str(error.value) and kind.install in str(error.value)


@pytest.mark.parametrize("source", ["hf:", "torch:mnist", "hf:pets?columns=3", "hf:pets?test=test"])
def test_an_incomplete_text_is_refused(hub: Hub, source: str) -> None:
    hub.fill("train", ["a", "b"] * 8)
    with pytest.raises(UserError, match=r".*;.*"):
        load_data(source)


def test_paths_are_no_readers() -> None:
    assert is_reader("hf:pets") and is_reader("torch:mnist?root=x")
    assert not any(map(is_reader, ["digits", "photos", "./hf", "C:\\photos", "hf/pets", "other:pets"]))


def test_timm_knows_every_kind() -> None:
    import inspect

    from timm.data.dataset_factory import create_dataset

    text = inspect.getsource(create_dataset)
    assert all(f"'{kind.prefix}'" in text for kind in KINDS.values())


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "CMYK", "1"])
def test_plain_pixels_are_the_pictures(mode: str) -> None:
    """PPM of any mode has the pixels that the picture itself is trained on."""
    grey = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    image = Image.fromarray(grey) if mode == "I;16" else picture(1, 20).convert(mode)
    data = plain(image)
    assert data == plain(Image.open(io.BytesIO(data)))
    assert (RULE.apply(Image.open(io.BytesIO(data))) == RULE.apply(image)).all()
