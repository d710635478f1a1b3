"""How good is this package on these pictures?  Any image classifier, ours or not.

What the package states is followed: its pre-processing rule, its ImageType's scale, bias and colour layout (they are
part of the program), its labels, the split of its search. What it does not state is decided here and said in `notes`:
the shorter side is resized and the centre cropped, bilinear. Labels are matched by name, because their order differs
between tools.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, cast, final, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coreml_pareto.objectives.accuracy import NO_PROBABILITIES, evaluate
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.measuring.own import own_measurement
from coreml_pareto.objectives.preprocessing import PREFIX, Preprocessing
from coreml_pareto.objectives.program import ImageInput, Program, TensorInput, costs
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.objectives.score import static_score
from coreml_pareto.search.data import DataSet, Split, load_data
from coreml_pareto.search.data.augment import GREY_WEIGHTS
from coreml_pareto.search.data.folder import few
from coreml_pareto.search.measurements import kept_readings
from coreml_pareto.spaces.errors import UserError

SplitName = Literal["train", "validation", "test"]
BATCH: Final = 128
_LAYOUTS: Final = ("RGB", "BGR", "GRAYSCALE", "GRAYSCALE_FLOAT16")
_LUMA: Final = np.array(GREY_WEIGHTS, dtype=np.float32)


@final
@dataclass(frozen=True)
class Splitting:
    """How pictures without given splits were or are to be split; `origin` says who says so."""

    seed: int
    validation: float = 0.15
    test: float = 0.15
    limit: int | None = None
    max_broken: float = 0.01
    origin: str = "the default"


@final
@dataclass(frozen=True)
class Normalisation:
    """(pixel / 255 - mean) / std, per channel or one number for all: what a tensor input expects."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@final
@dataclass(frozen=True)
class Judgement:
    """All readings of a package, and what had to be decided or is worth knowing.

    `predicted` [n]: its answer to each picture, as an index among the classes of the data.
    """

    score: Mapping[str, Reading]
    notes: tuple[str, ...]
    predicted: NDArray[np.int64] = field(compare=False)


def judge(
    program: Program,
    data: DataSet,
    target: Target,
    *,
    split: SplitName = "test",
    normalisation: Normalisation | None = None,
    labels: Sequence[str] | None = None,
) -> Judgement:
    """Return the five readings of a package, its accuracy on one split of `data`.

    Raises:
        UserError: labels do not match, an input that cannot be fed, or what `score_package` refuses.
    """
    order = match_labels(labels_of(program, labels), data.classes)
    own = own_measurement(program, target)
    static = static_score(program, target, own)
    if own is None:
        static |= kept_readings(program.path, costs(program), target)
    pictures = open_split(data, split)
    if not len(pictures):
        raise UserError(f"an accuracy needs images; the {split} split of {data.name} is empty; name another --split")
    rule, note = preprocessing_for(program)
    batches = inputs(program, pictures, rule, order, normalisation)
    result = evaluate(program, batches, split=split)
    unscaled = () if program.normalised else (f"{program.path.name} ends {NO_PROBABILITIES}",)
    predicted = np.argsort(order)[result.predicted]  # `order` is a permutation: this is its inverse
    return Judgement(result.score | static, (note, *unscaled, *_same_data(program, data)), predicted)


def split_named(text: str) -> SplitName:
    """UserError for any other word."""
    if text not in get_args(SplitName):
        raise UserError(f"a split is train, validation or test; got {text!r}; name one of them")
    return cast("SplitName", text)


def load_pictures(data: str, drawn: Splitting) -> DataSet:
    """The pictures that `--data` names, split as was decided."""
    return load_data(
        data, seed=drawn.seed, validation_share=drawn.validation, test_share=drawn.test,
        max_broken_share=drawn.max_broken, limit=drawn.limit,
    )  # fmt: skip


def open_split(data: DataSet, split: SplitName, reason: str = "evaluate") -> Split:
    """One split; of the test split the data keep why it was opened."""
    if split == "test":
        return data.open_test(reason)
    return data.train if split == "train" else data.validation


def splitting_of(program: Program, seed: int | None) -> Splitting:
    """The split of the search that made this package, from its metadata; `seed` (0 without one) where it is silent.

    Raises:
        UserError: a seed is asked for that is not the package's: its test split would hold its training images.
    """
    stored = _stored_splitting(program.metadata)
    if stored is None:
        return Splitting(seed or 0, origin="--seed" if seed is not None else "the default")
    if seed is not None and seed != stored.seed:
        raise UserError(
            f"a package is tested on the split of its own search, seed {stored.seed}; got --seed {seed}, whose test "
            "images were partly trained on; leave --seed out"
        )
    return stored


def labels_of(program: Program, given: Sequence[str] | None) -> tuple[str, ...]:
    """The classes in the order of the package's scores: its own, or `given` for a package without labels.

    Raises:
        UserError: neither or both, repeated names, or another number than the package has outputs.
    """
    if program.labels is not None and given is not None:
        raise UserError(f"labels are for packages without their own; {program.path.name} has them; leave --labels out")
    labels = program.labels if given is None else tuple(given)
    if labels is None:
        raise UserError(
            f"labels are matched by name; {program.path.name} has none; name a file with one class per line, in the "
            "order of its outputs: --labels FILE"
        )
    if repeated := [label for label, count in Counter(labels).items() if count > 1]:
        raise UserError(f"each class has a name of its own; repeated: {few(repeated)}; correct the labels")
    outputs = _outputs(program)
    if outputs is not None and outputs != len(labels):
        raise UserError(
            f"{program.path.name} has {outputs} outputs; got {len(labels)} labels; name one per output, in their order"
        )
    return tuple(labels)


def match_labels(package: Sequence[str], data: Sequence[str]) -> NDArray[np.int64]:
    """For each class of the data its index among the package's classes.

    Raises:
        UserError: a class is missing on either side; the message lists both.
    """
    index = {label.strip(): position for position, label in enumerate(package)}
    names = [label.strip() for label in data]
    unknown = [name for name in names if name not in index]
    unseen = [name for name in index if name not in set(names)]
    if unknown or unseen:
        raise UserError(
            f"the package and the data must have the same classes; only in the data: {few(unknown) or 'none'}; only "
            f"in the package: {few(unseen) or 'none'}; rename the class folders, or leave the extra ones out"
        )
    return np.array([index[name] for name in names], dtype=np.int64)


def preprocessing_for(program: Program) -> tuple[Preprocessing | tuple[int, int], str]:
    """The package's own rule, else the default for its input: a rule for squares, (width, height) for other shapes."""
    width, height = input_size(program)
    own = Preprocessing.from_metadata(program.metadata)
    if own is not None:
        if (own.resolution, own.resolution) != (width, height):
            raise UserError(
                f"the pre-processing rule of {program.path.name} makes {own.resolution}x{own.resolution} pixels, its "
                f"input takes {width}x{height}; correct the metadata or remove the entry"
            )
        return own, f"pre-processing as the package states: {own.describe()}"
    told = f"no pre-processing rule in the package; assumed: shorter side resized, centre cropped to {width}x{height}"
    if width == height and 8 <= width <= 1024:
        return Preprocessing(resolution=width), f"{told}, bilinear"
    return (width, height), f"{told} (its aspect ratio), bilinear, from pictures of at most 512 pixels"


def input_size(program: Program) -> tuple[int, int]:
    """Width and height in pixels of the input; UserError for tensors that are no single image of 1 or 3 channels."""
    feature = program.input
    if isinstance(feature, ImageInput):
        if feature.color_layout not in _LAYOUTS:
            raise UserError(
                f"image inputs are {', '.join(_LAYOUTS)}; '{feature.name}' of {program.path.name} is "
                f"{feature.color_layout}; convert it with one of them"
            )
        return feature.width, feature.height
    shape, channels = _image_shape(feature, program)
    height, width = [side for axis, side in enumerate(shape) if axis != channels]
    return width, height


def inputs(
    program: Program,
    split: Split,
    rule: Preprocessing | tuple[int, int],
    order: NDArray[np.int64],
    normalisation: Normalisation | None,
) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    """(input of the program, index of the right class among its labels)."""
    feature = program.input
    if isinstance(feature, ImageInput):
        if normalisation is not None:
            raise UserError(
                f"'{feature.name}' of {program.path.name} is an image: its own scale and bias apply; leave --mean and "
                "--std out"
            )
        return ((images, order[targets]) for images, targets in _pixels(split, rule))
    prepare = _tensor_maker(feature, program, normalisation)
    return ((prepare(images), order[targets]) for images, targets in _pixels(split, rule))


def _pixels(
    split: Split, rule: Preprocessing | tuple[int, int]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    if isinstance(rule, Preprocessing):
        yield from split.batches(rule, BATCH)
        return
    for start in range(0, len(split), BATCH):
        part = split.pictures[start : start + BATCH]
        images = np.stack([centre_crop(Image.fromarray(picture.pixels), *rule) for picture in part])
        yield images, split.targets[start : start + BATCH]


def centre_crop(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """The largest centred box of this aspect ratio, resized to uint8 [height, width, 3]: Vision's .centerCrop."""
    narrow = image.width * height <= image.height * width
    wide = image.width if narrow else image.height * width / height
    high = image.width * height / width if narrow else image.height
    left, top = (image.width - wide) / 2, (image.height - high) / 2
    box = (left, top, left + wide, top + high)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))


def _tensor_maker(feature: TensorInput, program: Program, normalisation: Normalisation | None) -> Any:
    """A function from uint8 [n, h, w, 3] to the normalised floats of a tensor input, the batch in front."""
    shape, channels = _image_shape(feature, program)
    if normalisation is None:
        raise UserError(
            f"'{feature.name}' of {program.path.name} is a tensor: its normalisation is not in the package; give "
            "--mean and --std for pixels in 0..1, one number or three, such as 0.485,0.456,0.406 and 0.229,0.224,0.225"
        )
    depth = shape[channels]
    mean, std = (_per_channel(values, depth, name) for name, values in vars(normalisation).items())

    def make(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = images.astype(np.float32) / 255
        pixels = pixels if depth == 3 else (pixels @ _LUMA)[..., None]
        pixels = (pixels - mean) / std
        return np.ascontiguousarray(np.moveaxis(pixels, -1, 1) if channels == 0 else pixels, dtype=np.float32)

    return make


def _image_shape(feature: TensorInput, program: Program) -> tuple[tuple[int, ...], int]:
    """The shape without the batch, and which of its axes (0 or 2) holds the channels."""
    kind = feature.type
    shape = kind.shape[1:] if len(kind.shape) == 4 and kind.shape[0] == 1 else kind.shape
    axis = next((a for a in (0, 2) if len(shape) == 3 and shape[a] in (1, 3)), None)
    if axis is None or not kind.dtype.startswith("fp"):
        raise UserError(
            "a tensor input is one image of 1 or 3 channels in floating point, such as [1, 3, 224, 224]; "
            f"'{feature.name}' of {program.path.name} is {kind.dtype} {list(kind.shape)}; convert it with an ImageType"
        )
    return shape, axis


def _per_channel(values: tuple[float, ...], channels: int, name: str) -> NDArray[np.float32]:
    if len(values) not in (1, channels):
        raise UserError(f"--{name} has one number, or one per channel ({channels}); got {len(values)}")
    return np.array(values, dtype=np.float32)


def _outputs(program: Program) -> int | None:
    name = program.scores
    kind = program.types.get(name) if name is not None else None
    return None if kind is None else kind.elements


def _stored_splitting(metadata: Mapping[str, str]) -> Splitting | None:
    """From `splits`, the section of the study as JSON."""
    text = metadata.get(f"{PREFIX}splits")
    if text is None:
        return None
    try:
        plain = json.loads(text)
        known = {key: plain[key] for key in ("seed", "validation", "test", "limit", "max_broken") if key in plain}
        return replace(Splitting(0, origin="the package's metadata"), **known)
    except (ValueError, TypeError) as error:
        raise UserError(f"the package's {PREFIX}splits metadata is unreadable ({error}); remove the entry") from error


def _same_data(program: Program, data: DataSet) -> Iterator[str]:
    """Whether these are the pictures and splits of the package's own search, where it says."""
    known = program.metadata.get(f"{PREFIX}data")
    if known is None:
        return
    if known.split("-")[0] == data.digest:
        yield "the pictures and splits are those of the package's own search"
    else:
        yield "warning: the pictures or splits are not those of the package's own search: it may have trained on some"


def read_labels(path: Path) -> tuple[str, ...]:
    """One class per line, blank lines left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels names a text file with one class per line; {path}: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())


def parse_normalisation(mean: str | None, std: str | None) -> Normalisation | None:
    """From `0.485,0.456,0.406` and the like; both or neither. UserError for anything else."""
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise UserError("--mean and --std go together; got one of them; give both")
    parsed = Normalisation(_numbers("mean", mean), _numbers("std", std))
    if min(parsed.std) <= 0:
        raise UserError(f"--std is above 0; got {std}; write e.g. 0.229,0.224,0.225")
    return parsed


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or not np.isfinite(values).all():
        raise UserError(f"--{name} is one number or three, separated by commas; got {text!r}; write e.g. 0.5,0.5,0.5")
    return values
