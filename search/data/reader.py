"""Which images does a reader of timm deliver?

`hf:NAME` is a data set of the Hugging Face Hub or a local folder of one, `hfids:NAME` the same as a stream, `tfds:NAME`
one of TensorFlow Datasets, `wds:ROOT` a folder of WebDataset shards, `torch:NAME` one of torchvision, each through
timm's own reader (`timm.data.create_reader`, `create_dataset`). Behind a question mark stand, as in an address, `image`
and `label` (the columns' names), `root` (the folder of files or of downloads), and `train`, `validation`, `test` (what
the source calls its splits):

    hf:cifar100?image=img&label=fine_label
    torch:mnist?root=./files
    wds:./shards?train=part-{0000..0009}.tar|10000

Where the reader delivers the files' own bytes (`hf:`), these count. Where it delivers decoded pictures, their pixels do:
as RGB, in a header of 15 bytes or so (PPM). A stream is read once and laid into a temporary file.
"""

from __future__ import annotations

import importlib.util
import io
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qsl

from PIL import Image, ImageOps

from coreml_pareto.objectives.preprocessing import to_rgb
from coreml_pareto.search.data.folder import SPLIT_FOLDERS, Listing, check, few, normal
from coreml_pareto.search.data.picture import Content, Found
from coreml_pareto.search.data.slices import Spool
from coreml_pareto.spaces.errors import UserError

SPLITS = ("train", "validation", "test")
OPTIONS = ("image", "label", "root", *SPLITS)


@dataclass(frozen=True)
class Kind:
    """One of timm's readers: what timm calls it, and the package that it stands on."""

    prefix: str
    package: str
    install: str
    listed: bool = True
    """Whether images are asked for one by one; the others are streams."""


HUB: Final = Kind("hfds", "datasets", "pip install 'coreml-pareto[hf]'")
KINDS: Final[Mapping[str, Kind]] = {
    "hf": HUB,
    "hfds": HUB,
    "hfids": Kind("hfids", HUB.package, HUB.install, listed=False),
    "tfds": Kind("tfds", "tensorflow_datasets", "pip install tensorflow-datasets tensorflow", listed=False),
    "wds": Kind("wds", "webdataset", "pip install 'coreml-pareto[wds]'", listed=False),
    "torch": Kind("torch", "torchvision", "pip install torchvision"),
}
TORCH_SPLITS: Final[Mapping[str, Mapping[str, str]]] = {
    "imagenet": {"train": "train", "validation": "validation"},
    "places365": {"train": "train", "validation": "validation"},
    "inaturalist": {"train": "train", "validation": "validation"},
    "inat": {"train": "train", "validation": "validation"},
}
"""What timm finds of torchvision's data sets; of all others `train` and `test`."""


@dataclass(frozen=True)
class Asked:
    """A source, taken apart."""

    source: str
    kind: Kind
    name: str
    options: Mapping[str, str]

    @property
    def splits(self) -> dict[str, str]:
        """Split -> what the source calls it, where the source's text says so."""
        return {split: self.options[split] for split in SPLITS if split in self.options}


@dataclass(frozen=True)
class Labelled:
    """One split as a reader has it: a label of each image (None: not known), by number or name, and its content."""

    labels: Sequence[Any]
    contents: Sequence[Content]
    names: Mapping[int, str]
    """The classes' names by number; empty where labels are names."""
    lost: int = 0
    """Images that a stream announced and did not deliver."""


def is_reader(source: str) -> bool:
    """Whether a source is written `KIND:NAME`."""
    return source.partition(":")[0] in KINDS and ":" in source


def scan_reader(source: str, spill_folder: Path | None = None) -> Listing:
    """All images that a reader delivers, in the order of its splits and rows.

    Raises:
        UserError: a package is missing, the hub cannot be reached, the reader refuses, or what it delivers cannot be a
            classification data set.
    """
    asked = _parse(source)
    if importlib.util.find_spec(asked.kind.package) is None:
        raise UserError(
            f"{source} is read through timm by the package {asked.kind.package}; it is not installed; "
            f"{asked.kind.install}"
        )
    wanted = asked.splits or {"train": "train"}
    if "train" not in wanted:
        raise UserError(f"Validation and test go with training images; got {source}; add train=NAME")
    first = _open(asked, wanted["train"])
    splits, others = (wanted, []) if asked.splits else _found_splits(first, asked)
    spool = None if asked.kind.listed else Spool(source, spill_folder)
    files: list[Found] = []
    lost = 0
    warnings = [f"these splits of {asked.name} were passed over: {few(others)}"] if others else []
    for split, called in splits.items():
        reader = first if split == "train" else _open(asked, called)
        part = _tried(partial(_read, reader, asked, spool), asked)
        if all(map(_unknown, part.labels)) and split != "train":
            warnings.append(f"{split} has no labels and was passed over")
            continue
        if part.lost:
            warnings.append(f"{part.lost} images of {split} could not be read by {asked.kind.package}")
            lost += part.lost
        files += _found(part, split, asked)
    return replace(_listing(files, asked, warnings), lost=lost)


def _listing(files: Sequence[Found], asked: Asked, warnings: Sequence[str]) -> Listing:
    listing = Listing(
        name=Path(asked.name).name,
        files=tuple(files),
        classes=tuple(sorted({file.label for file in files if file.split == "train"})),
        given=frozenset(file.split for file in files),
        ignored=0,
        warnings=tuple(warnings),
    )
    if not listing.classes:
        raise UserError(f"A data set has training images; {asked.source} has none; name its split: ?train=NAME")
    check(listing, asked.source)
    return listing


def _parse(source: str) -> Asked:
    prefix, _, rest = source.partition(":")
    name, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := [key for key in options if key not in OPTIONS]:
        raise UserError(f"{source}: unknown {few(unknown)}; behind ? stand {', '.join(OPTIONS)}; leave it out")
    if not name or (prefix == "torch" and "root" not in options):
        example = "torch:cifar10?root=FOLDER" if prefix == "torch" else f"{prefix}:NAME"
        raise UserError(f"A reader is written {example}; got {source}; complete it")
    return Asked(source, KINDS[prefix], name, options)


def _open(asked: Asked, split: str) -> Any:
    """timm's reader of one split (of `torch:` torchvision's data set)."""
    from timm.data.dataset_factory import create_dataset
    from timm.data.readers.reader_factory import create_reader

    root = asked.options.get("root")
    if asked.kind.prefix == "torch":
        return _tried(lambda: create_dataset(f"torch/{asked.name}", root=root, split=split), asked)
    if asked.kind.prefix == "wds":
        root = str(Path(root or "") / asked.name) if "://" not in asked.name else asked.name
    columns = {"input_key": asked.options.get("image"), "target_key": asked.options.get("label")}
    name = f"{asked.kind.prefix}/{asked.name}"
    return _tried(lambda: create_reader(name, root=root, split=split, **columns), asked)


def _tried(work: Callable[[], Any], asked: Asked) -> Any:
    """Run what other packages do; whatever they raise becomes one line."""
    try:
        return work()
    except UserError:
        raise
    except Exception as error:  # of datasets, huggingface_hub, httpx, tensorflow, torchvision, ...
        words = " ".join(f"{type(error).__name__}: {error}".split())
        words = words if len(words) <= 300 else f"{words[:300]}..."
        if _unreachable(error):
            raise UserError(
                f"{asked.source} is fetched from the network, which cannot be reached ({words}); try again with a "
                "network, or name a local copy of the data"
            ) from error
        raise UserError(
            f"{asked.source} is read by {asked.kind.package} through timm, which refused it ({words}); check the name; "
            "columns and splits are named as in ?image=img&label=fine_label&train=NAME"
        ) from error


def _unreachable(error: BaseException | None) -> bool:
    """Whether a lost or missing network is among an error's causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _found_splits(reader: Any, asked: Asked) -> tuple[dict[str, str], list[str]]:
    """The splits that a source says it has, by our names, and those that we have no name for."""
    if asked.kind.prefix == "torch":
        return dict(TORCH_SPLITS.get(asked.name.lower(), {"train": "train", "test": "test"})), []
    splits, others = {"train": "train"}, []
    for name in _announced(reader):
        ours = SPLIT_FOLDERS.get(name.lower())
        if ours is None or ours in splits:
            others += [name] if name != "train" else []
        else:
            splits[ours] = name
    return {split: splits[split] for split in SPLITS if split in splits}, others


def _announced(reader: Any) -> Sequence[str]:
    info = getattr(reader, "info", None)  # of WebDataset: what stands in the folder's info.json
    if isinstance(info, Mapping):
        return list(info.get("splits", {}))
    described = getattr(reader, "dataset", None) or getattr(reader, "builder", None)
    return list(getattr(getattr(described, "info", None), "splits", None) or {})


def _read(reader: Any, asked: Asked, spool: Spool | None) -> Labelled:
    if spool is not None:
        return _streamed(reader, spool)
    if asked.kind.prefix == "torch":
        return _of_torchvision(reader)
    labels = list(reader.iter_targets()) if hasattr(reader, "iter_targets") else [row[1] for row in _all(reader)]
    lock = Lock()
    contents = [Encoded(reader, row, lock) for row in range(len(reader))]
    return Labelled(labels, contents, _numbered(reader.class_to_idx))


def _streamed(reader: Any, spool: Spool) -> Labelled:
    """Everything that a stream delivers."""
    labels: list[Any] = []
    contents: list[Content] = []
    for image, label in reader:
        contents.append(spool.append(plain(image)))
        labels.append(label)
    announced = getattr(reader, "num_samples", None) or len(labels)
    return Labelled(labels, contents, _numbered(reader.class_to_idx), max(0, announced - len(labels)))


def _of_torchvision(data: Any) -> Labelled:
    targets = getattr(data, "targets", None)
    labels = [row[1] for row in _all(data)] if targets is None else list(getattr(targets, "tolist", lambda: targets)())
    names = getattr(data, "classes", None) or getattr(data, "all_categories", None) or []
    lock = Lock()
    contents = [Decoded(data, row, lock) for row in range(len(data))]
    spelled = (name if isinstance(name, str) else ", ".join(name) for name in names)  # ImageNet's are several
    return Labelled(labels, contents, dict(enumerate(spelled)))


def _all(rows: Any) -> Iterator[Any]:
    return (rows[row] for row in range(len(rows)))


def _numbered(class_to_idx: Mapping[str, int] | None) -> dict[int, str]:
    return {number: name for name, number in (class_to_idx or {}).items()}


def _unknown(label: object) -> bool:
    return label is None or (isinstance(label, Integral) and int(label) < 0)


def _found(part: Labelled, split: str, asked: Asked) -> Iterator[Found]:
    """Images with their names of classes; rows count from 0."""
    if wrong := [str(row) for row, label in enumerate(part.labels) if not _is_label(label)]:
        raise UserError(
            f"Each image has one label; row {', '.join(wrong[:5])}{' and more' if len(wrong) > 5 else ''} of {split} in "
            f"{asked.source} has none or several; name the column of labels: ?label=NAME"
        )
    for row, (label, content) in enumerate(zip(part.labels, part.contents, strict=True)):
        name = part.names.get(int(label), str(int(label))) if isinstance(label, Integral) else str(label)
        yield Found(content, f"{split}/{row:08d}", normal(name), split)


def _is_label(label: object) -> bool:
    return isinstance(label, Integral | str) and label != "" and not _unknown(label)


@dataclass(frozen=True)
class Encoded:
    """One row of a reader that delivers files as they are."""

    reader: Any = field(repr=False)
    row: int
    lock: Lock = field(repr=False)

    def read_bytes(self) -> bytes:
        """The file's bytes."""
        with self.lock, self.reader[self.row][0] as file:
            data: bytes = file.read()
        return data


@dataclass(frozen=True)
class Decoded:
    """One row of a data set that delivers pictures."""

    rows: Any = field(repr=False)
    row: int
    lock: Lock = field(repr=False)

    def read_bytes(self) -> bytes:
        """Its pixels, as PPM."""
        with self.lock:
            image = self.rows[self.row][0]
        return plain(image)


def plain(image: Image.Image) -> bytes:
    """A picture's pixels with nothing else: upright RGB as PPM, the same bytes on every system."""
    written = io.BytesIO()
    to_rgb(ImageOps.exif_transpose(image)).save(written, "PPM")
    return written.getvalue()


__all__ = ["KINDS", "is_reader", "plain", "scan_reader"]
