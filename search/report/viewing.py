"""A package is shown the run's photographs, by our executor; of which split, and that this is on record, is decided here."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coreml_pareto.objectives.preprocessing import PREFIX, working_picture
from coreml_pareto.objectives.program import Executor, Program
from coreml_pareto.search.data import DataSet, Split
from coreml_pareto.search.evaluation import (
    inputs,
    labels_of,
    load_pictures,
    match_labels,
    open_split,
    preprocessing_for,
    splitting_of,
)
from coreml_pareto.search.looking import record_look
from coreml_pareto.search.record import PLAN, stored_plan
from coreml_pareto.search.report.pictures import SAMPLES, Photograph, Pictures
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.errors import UserError

SIDE: Final = 256
"""Pixels of a shown photograph's longer side, at most."""
SEED: Final = 0


def view(run: Run, chosen: Result, program: Program) -> Pictures:
    """What the run's package answers on its test pictures, or on those of validation; see `pictures`.

    Raises:
        UserError: the pictures are not there, or are not those of the run.
    """
    data = _data(run.folder, program)
    split, why = _split(run, chosen)
    pictures = open_split(data, split, reason="report")
    if not len(pictures):
        raise UserError(f"the {split} split of {data.name} is empty")
    labels = labels_of(program, None)
    truth, predicted, probability = _answers(program, pictures, match_labels(labels, data.classes))
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    samples = [
        Photograph(
            name=pictures.names[row], truth=labels[truth[row]], predicted=labels[predicted[row]],
            probability=float(probability[row]) if program.normalised else None, pixels=_shown(pictures, row),
        )
        for row in _drawn(truth == predicted)
    ]  # fmt: skip
    return Pictures(split, why, labels, confusion, tuple(samples))


def _split(run: Run, chosen: Result) -> tuple[Literal["test", "validation"], str]:
    """Which split may be looked at; a look at the test is on record before it is taken."""
    if chosen.test_top1 is None:
        return "validation", "its test pictures were not read by the search, and a report does not use them up"
    try:
        record_look(run)
    except (UserError, OSError) as error:
        return "validation", f"a look at the test could not be recorded ({error})"
    return "test", "the search chose nothing by them"


def _data(folder: Path, program: Program) -> DataSet:
    """The pictures of the run, if they are where its plan says and are what the package was made with."""
    if not (folder / PLAN).is_file():
        raise UserError(f"{folder} has no {PLAN}, which names the pictures")
    named = stored_plan(folder / PLAN).data
    if named is None:
        raise UserError("the study names no pictures")
    data = load_pictures(named, splitting_of(program, None))
    made_with = program.metadata.get(f"{PREFIX}data")
    if made_with is not None and made_with.split("-")[0] != data.digest:
        raise UserError(f"{named} no longer holds the pictures of the search, or splits them otherwise")
    return data


def _answers(
    program: Program, pictures: Split, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Class, answer and the answer's score of each picture, [n] each; indices into the package's labels."""
    name = program.scores
    if name is None:
        raise UserError(f"{program.path.name} has no single output with one score per class")
    rule, _ = preprocessing_for(program)
    executor, found = Executor(program), []
    for images, targets in inputs(program, pictures, rule, order, None):
        scores = np.asarray(executor.run(images, fetch=(name,))[name]).reshape(len(images), -1)
        found.append((targets, scores.argmax(axis=1), scores.max(axis=1)))
    truth, predicted, probability = (np.concatenate(column) for column in zip(*found, strict=True))
    return truth, predicted, probability


def _drawn(right: NDArray[np.bool_]) -> list[int]:
    """Rows of the samples: those right, then those wrong, drawn at random, each in the order of the split."""
    random = np.random.default_rng(SEED)
    rows: list[int] = []
    for which in (np.flatnonzero(right), np.flatnonzero(~right)):
        rows += sorted(int(row) for row in random.permutation(which)[:SAMPLES])
    return rows


def _shown(pictures: Split, row: int) -> NDArray[np.uint8]:
    picture = pictures.pictures[row]  # working pictures would be decoded all at once, for a few
    image = Image.fromarray(picture.pixels) if picture.path is None else working_picture(picture.original())
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image.convert("RGB"))
