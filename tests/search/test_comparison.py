"""Packages against each other: counts by hand, labels in other orders, and what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.paired import compare
from coreml_pareto.objectives.preprocessing import PREFIX
from coreml_pareto.objectives.program import Program, load
from coreml_pareto.search.comparison import (
    Answers,
    Comparison,
    Contender,
    common_pictures,
    compare_answers,
    contest,
)
from coreml_pareto.search.data import DataSet, load_data
from coreml_pareto.search.stages.convert import convert, save
from coreml_pareto.search.stages.package import Packager, randomised
from coreml_pareto.search.store import Store
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.errors import UserError

TARGET = Target(find_device("iPhone 15 Pro"), 17)
NETWORK = Network(
    family="squeezenet", backbone="squeezenet1_1", width=0.35, resolution=32, stem_stride=1, classes=10
)  # fmt: skip
LARGER = NETWORK.model_copy(update={"resolution": 48})
CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load_data("digits")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, digits: DataSet) -> Mapping[str, Program]:
    """One random network as it is, with its labels in the other order, at another input size, and of other classes."""
    root = tmp_path_factory.mktemp("packages")
    packager = Packager(Store(root), digits, {"seed": 0})

    def write(name: str, network: Network, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Program:
        wrapping = packager._wrapping(network, None)
        wrapping = replace(wrapping, classes=change(wrapping.classes))
        save(convert(randomised(network), wrapping, minimum_os=16, precision="fp16"), root / f"{name}.mlpackage")
        return load(root / f"{name}.mlpackage")

    return {
        "plain": write("plain", NETWORK, lambda names: names),
        "reversed": write("reversed", NETWORK, lambda names: names[::-1]),
        "larger": write("larger", LARGER, lambda names: names),
        "strange": write("strange", NETWORK, lambda names: (*names[:-1], "<script>")),
    }


def answers(letter: str, program: Program, predicted: list[int]) -> Answers:
    return Answers(Contender(letter, letter.lower(), program), {}, (), np.array(predicted))


def of_synthetic(program: Program, targets: list[int], *predicted: list[int], all_pairs: bool = False) -> Comparison:
    rows = [answers(chr(65 + place), program, row) for place, row in enumerate(predicted)]
    images = [f"{place}.png" for place in range(len(targets))]
    return compare_answers(rows, np.array(targets), images, CLASSES, TARGET, all_pairs=all_pairs)


def test_counts_by_hand(programs: Mapping[str, Program]) -> None:
    targets = [0, 0, 0, 1, 1, 2]
    found = of_synthetic(programs["plain"], targets, [0, 0, 1, 1, 0, 1], [0, 1, 0, 1, 1, 0])
    (pair,) = found.pairs
    agreed = pair.agreement
    assert (agreed.both_right, agreed.only_first, agreed.only_second, agreed.both_wrong, agreed.same) == (2, 1, 2, 1, 2)
    assert agreed.images == 6 and agreed.share[0] == pytest.approx(1 / 3)
    assert pair.top1.value == pytest.approx(1 / 6) and pair.p_value == pair.top1.p_value == 1.0
    assert not pair.shown and pair.resolution == pytest.approx((pair.top1.high - pair.top1.low) / 2)
    assert [(one.image, one.label, one.first, one.second) for one in pair.disputed] == [
        ("1.png", "a", "a", "b"),
        ("2.png", "a", "b", "a"),
        ("4.png", "b", "a", "b"),
        ("5.png", "c", "b", "a"),  # both wrong: after those that one has right
    ]
    by_label = {row.label: row.difference for row in pair.classes}
    assert pair.classes[0].label == "b" and by_label["b"].value == pytest.approx(0.5)
    assert by_label["a"].value == by_label["c"].value == 0
    assert sum(row.difference.images for row in pair.classes) == 6


def test_a_class_without_images_is_left_out(programs: Mapping[str, Program]) -> None:
    (pair,) = of_synthetic(programs["plain"], [0, 1], [0, 0], [0, 1]).pairs
    assert {row.label for row in pair.classes} == {"a", "b"}


def test_a_package_against_itself_shows_nothing(programs: Mapping[str, Program]) -> None:
    (pair,) = of_synthetic(programs["plain"], [0, 1, 2], [0, 1, 1], [0, 1, 1]).pairs
    assert pair.top1.value == 0 and pair.p_value == 1 and not pair.disputed and pair.agreement.same == 3


def test_several_packages_are_adjusted(programs: Mapping[str, Program]) -> None:
    random = np.random.default_rng(0)
    targets = random.integers(3, size=300)
    rows = [np.where(random.random(300) < share, targets, (targets + 1) % 3) for share in (0.6, 0.75, 0.62, 0.9)]
    lists = [row.tolist() for row in rows]
    against_first = of_synthetic(programs["plain"], targets.tolist(), *lists)
    every = of_synthetic(programs["plain"], targets.tolist(), *lists, all_pairs=True)
    assert [(p.first.letter, p.second.letter) for p in against_first.pairs] == [("A", "B"), ("A", "C"), ("A", "D")]
    assert len(every.pairs) == 6
    for found in (against_first, every):
        plain = sorted(pair.top1.p_value for pair in found.pairs)
        adjusted = sorted(pair.p_value for pair in found.pairs)
        assert adjusted[0] == pytest.approx(min(1, len(plain) * plain[0]))
        assert all(a >= p for a, p in zip(adjusted, plain, strict=True))
    first, second = rows[0] == targets, rows[3] == targets
    assert against_first.pairs[2].top1 == compare(second, first)
    assert against_first.pairs[2].shown and not against_first.pairs[1].shown


def test_labels_are_matched_by_name(programs: Mapping[str, Program], digits: DataSet) -> None:
    """The same scores under labels in the other order: class k here is class 9 - k there."""
    contenders = [Contender("A", "plain", programs["plain"]), Contender("B", "reversed", programs["reversed"])]
    found = contest(contenders, digits, TARGET, split="validation")
    one, other = (answer.predicted for answer in found.answers)
    assert (other == 9 - one).all()
    (pair,) = found.pairs
    assert pair.top1.images == len(digits.validation) and pair.agreement.same == 0
    assert set(pair.ratios) == {"latency", "size", "memory", "energy"}
    assert pair.ratios["latency"].value == pytest.approx(1) and not pair.ratios["latency"].ranks
    assert one.tolist() == contest(contenders[::-1], digits, TARGET, split="validation").answers[1].predicted.tolist()


def test_each_has_its_own_input_size(programs: Mapping[str, Program], digits: DataSet) -> None:
    contenders = [Contender("A", "plain", programs["plain"]), Contender("B", "larger", programs["larger"])]
    found = contest(contenders, digits, TARGET, split="validation")
    assert found.pairs[0].ratios["latency"].value > 1
    assert any("32x32" in note for note in found.answers[0].notes)
    assert any("48x48" in note for note in found.answers[1].notes)


def test_other_classes_are_refused_before_anything_is_run(
    programs: Mapping[str, Program], digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coreml_pareto.search.comparison.judge", lambda *a, **k: pytest.fail("was run"))
    contenders = [Contender("A", "plain", programs["plain"]), Contender("B", "strange", programs["strange"])]
    with pytest.raises(UserError, match="must have the same classes"):
        contest(contenders, digits, TARGET)


def test_packages_of_searches_that_split_differently(programs: Mapping[str, Program], digits: DataSet) -> None:
    elsewhere = replace(
        programs["plain"], metadata={**programs["plain"].metadata, f"{PREFIX}splits": json.dumps({"seed": 7})}
    )
    silent = replace(programs["plain"], metadata={})
    with pytest.raises(UserError, match="split digits differently"):
        common_pictures([programs["plain"], elsewhere], "digits", "test", None)
    found = common_pictures([programs["plain"], silent], "digits", "test", None)
    assert found.hidden_test.digest == digits.hidden_test.digest and found.test_openings == ["compare"]
    drawn = common_pictures([silent, silent], "digits", "test", 7)
    assert drawn.hidden_test.digest == load_data("digits", seed=7).hidden_test.digest


def test_searches_that_split_differently_may_share_a_given_test(
    programs: Mapping[str, Program], tmp_path: Path
) -> None:
    from PIL import Image

    for part in ("train", "test"):
        for label in ("a", "b"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for number in range(8):
                shade = 20 * number + (5 if part == "test" else 0) + (3 if label == "a" else 0)
                Image.new("RGB", (32, 32), (shade, shade, shade)).save(folder / f"{number}.png")
    elsewhere = replace(
        programs["plain"], metadata={**programs["plain"].metadata, f"{PREFIX}splits": json.dumps({"seed": 7})}
    )
    both = [programs["plain"], elsewhere]
    assert len(common_pictures(both, str(tmp_path), "test", None).hidden_test) == 16
    with pytest.raises(UserError, match="differently"):
        common_pictures(both, str(tmp_path), "validation", None)


def test_what_a_package_shares(programs: Mapping[str, Program]) -> None:
    plain, turned = (Contender("A", "x", programs[name]).subject for name in ("plain", "reversed"))
    assert plain.network == turned.network == NETWORK.digest and plain.package != turned.package
    silent = Contender("A", "x", replace(programs["plain"], metadata={})).subject
    assert silent.network == silent.package == plain.package
    broken = replace(programs["plain"], metadata={f"{PREFIX}network": '{"family": "of a later version", "moe": 8}'})
    assert Contender("A", "x", broken).subject == silent
