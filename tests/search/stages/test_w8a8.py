"""int8 weights and activations: the package against the fake-quantised network, for all families; the ranges in closed
form; training under quantisation; the record of the layers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, get_args

import coremltools as ct
import pytest
import torch
from coremltools.optimize.torch.quantization import LinearQuantizerConfig, ModuleLinearQuantizerConfig
from torch import nn
from torch.ao.quantization import FakeQuantize

from coreml_pareto.objectives.program import Program, bits_per_weight, load
from coreml_pareto.objectives.program.constexpr import decode
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.objectives.program.record import heavy_weights, read_record
from coreml_pareto.search.inspection import inspect
from coreml_pareto.search.stages import w8a8
from coreml_pareto.search.stages.compress import record_of
from coreml_pareto.search.stages.convert import Classifier, save, to_program
from coreml_pareto.search.stages.folding import fold_batch_norm
from coreml_pareto.spaces.candidate import Calibration
from coreml_pareto.spaces.errors import UserError

NAMES = ["mobilenetv3_small", "mobilenetv1", "efficientnet_lite0", "efficientnetv2_b0", "squeezenet1_1"]


@pytest.mark.parametrize("name", NAMES)
def test_another_draw_of_the_same_noise(packages: Any, name: str) -> None:
    """In fp16 the scales are rounded, values on a threshold fall either way, and later layers pass that on."""
    model, reference = packages.w8a8(name)
    images = packages.images(name)
    plain = packages.torch_logits(Classifier(packages.module(name), packages.network(name)).eval(), images)
    quantised, got = packages.torch_logits(reference, images), packages.logits(packages.program(model), images)
    price, error = (packages.errors(found, plain).median() for found in (quantised, got))
    assert 0.005 < price < 1
    assert error < 1.3 * price + 0.02
    first, second = plain.topk(2, 1)[0].T
    clear = first - second > 2 * price * plain.norm(dim=1)
    assert (got.argmax(1) == plain.argmax(1))[clear].float().mean() >= 0.9
    assert clear.float().mean() > 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_package_answers_as_the_fake_quantised_network(packages: Any, name: str) -> None:
    """Directly, without the float network between: logits no further apart than quantising moved them, the same answers.

    Tolerances: 1.5 times the price of quantising plus 0.02 and at most 0.25, relative, in the median; the same first
    class wherever it leads by more than the price, and on 19 images of 20 in all. The images
    are others than those that calibrated.
    """
    model, reference = packages.w8a8(name)
    images = packages.draw(packages.network(name).resolution, 120, seed=11)
    plain = packages.torch_logits(Classifier(packages.module(name), packages.network(name)).eval(), images)
    quantised, got = packages.torch_logits(reference, images), packages.logits(packages.program(model), images)
    price, error = packages.errors(quantised, plain).median(), packages.errors(got, quantised).median()
    assert error < min(0.25, 1.5 * price + 0.02)
    first, second = quantised.topk(2, 1)[0].T
    clear = first - second > price * quantised.norm(dim=1)
    assert clear.float().mean() > 0.9
    same = got.argmax(1) == quantised.argmax(1)
    assert same[clear].all() and same.float().mean() >= 0.95


@pytest.mark.parametrize("name", ["mobilenetv3_small", "efficientnet_lite0", "efficientnetv2_b0", "squeezenet1_1"])
def test_exactly_the_fake_quantised_network_in_fp32(packages: Any, name: str) -> None:
    """Without fp16 nothing is left to differ: the same graph, converted at full precision, is the same function."""
    _, reference = packages.w8a8(name)
    wrapping, images = packages.wrapping(name), packages.images(name)
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(reference, torch.zeros(wrapping.shape), check_trace=False)
    expected = packages.torch_logits(reference, images)
    model = to_program(traced, wrapping, minimum_os=17, precision="fp32", passes=w8a8._passes())
    errors = packages.errors(packages.logits(packages.program(model), images), expected)
    assert errors.median() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_has_the_bytes_of_the_trained_package(packages: Any, name: str) -> None:
    sizes = [packages.package_bytes(packages.saved(packages.w8a8(name, probe=probe)[0])) for probe in (False, True)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("calibration", get_args(Calibration))
def test_every_calibration_has_the_bytes_of_its_probe(packages: Any, calibration: Calibration) -> None:
    """And of the others: ranges are numbers of one width."""
    name, sizes = "squeezenet1_1", set()
    for probe, count in ((True, 8), (False, 80)):
        model, _ = w8a8.convert_w8a8(
            packages.module(name, probe=probe), packages.draw(48, count), packages.wrapping(name),
            calibration=calibration, probe=probe,
        )  # fmt: skip
        sizes.add(packages.package_bytes(packages.saved(model)))
    assert sizes == {packages.package_bytes(packages.saved(packages.w8a8(name)[0]))}


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_activations_are_integers(packages: Any, name: str) -> None:
    program = packages.program(packages.w8a8(name)[0])
    assert program.minimum_os == "iOS17"
    assert {weight.scheme for weight in program.weights} <= {"int8", "fp16"}
    assert all(weight.scheme == "int8" for weight in program.weights if len(weight.shape) > 1)
    assert 8 < bits_per_weight(program) < 9
    assert all(re.fullmatch(r"(conv|linear)_\d+_weight", weight) for weight in heavy_weights(program))
    kinds = [operation.kind for operation in program.operations]
    assert kinds.count("quantize") >= kinds.count("conv") / 2
    assert program.metadata["com.coreml-pareto.trial"] == "7"
    assert program.labels == tuple(f"class {i}" for i in range(10))


def test_a_wrong_package_is_refused(packages: Any) -> None:
    model, reference = packages.w8a8("squeezenet1_1")
    images = packages.images("squeezenet1_1")
    w8a8.check(packages.program(model), reference, images)
    other, _ = packages.w8a8("squeezenet1_1", probe=True)
    with pytest.raises(RuntimeError, match="conversion went wrong"):
        w8a8.check(packages.program(other), reference, images)


def test_the_defective_pass_is_left_out() -> None:
    assert "common::int_op_canonicalization" in ct.PassPipeline.DEFAULT.passes
    assert "common::int_op_canonicalization" not in w8a8._passes().passes
    assert "common::int_op_canonicalization" in ct.PassPipeline.DEFAULT.passes


# Ranges. Images whose values are uniform in −1..1, but for one of 50 in the third batch of four.

OUTLIER, SIDE = 50.0, 16
LAST = {  # the highest value that is kept
    "min-max": OUTLIER,
    "moving-average": 1 + (OUTLIER - 1) * w8a8.FACTOR * (1 - w8a8.FACTOR),  # that batch has one after it
    "percentile": 1 - 2 * w8a8.TAIL,  # of values spread evenly over a length of two
}


@pytest.fixture(scope="module")
def uniform() -> torch.Tensor:
    """[128, 3, 16, 16]: 98,304 values, of which percentile gives up nine at either end; all batches reach −1 and 1."""
    batches = [torch.linspace(-1, 1, 32 * 3 * SIDE**2)[torch.randperm(32 * 3 * SIDE**2)] for _ in range(4)]
    batches[2][batches[2].argmax()] = OUTLIER
    return torch.cat(batches).reshape(128, 3, SIDE, SIDE)


def identity() -> nn.Conv2d:
    conv = nn.Conv2d(3, 3, 1, bias=False)
    nn.init.dirac_(conv.weight)
    return conv


def reach(network: nn.Module) -> float:
    """The largest value that gets through a quantised identity."""
    with quiet(), torch.no_grad():
        return float(network(torch.full((1, 3, SIDE, SIDE), 1e6)).max())


@pytest.mark.parametrize("calibration", get_args(Calibration))
def test_a_symmetric_range_reaches_as_far_as_its_calibration_says(
    uniform: torch.Tensor, calibration: Calibration
) -> None:
    """127 of 127.5 steps of the range; percentile's last bin is 2·64/32768 wide: the range doubled from 1 to 64."""
    network = w8a8.quantize(nn.Sequential(identity()), uniform, calibration=calibration).network
    assert reach(network) == pytest.approx(LAST[calibration] * 127 / 127.5, abs=128 / w8a8.BINS + 1e-4)


@pytest.mark.parametrize("calibration", get_args(Calibration))
def test_an_affine_range_starts_at_zero_behind_a_relu(uniform: torch.Tensor, calibration: Calibration) -> None:
    """All 256 levels above zero: the smallest is 1/255 of the last. Half of the values are zero."""
    network = w8a8.quantize(nn.Sequential(identity(), nn.ReLU()), uniform, calibration=calibration).network
    ramp = torch.linspace(0, 2 * LAST[calibration], 3 * SIDE**2).reshape(1, 3, SIDE, SIDE)
    with quiet(), torch.no_grad():
        levels = network(ramp).unique()
    step = LAST[calibration] / 255
    assert levels[0] == 0
    assert torch.allclose(levels, (levels / step).round() * step, atol=1 / 255 + 1e-3)
    assert float(levels[-1]) == pytest.approx(LAST[calibration], rel=0.006)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_percentile_is_the_order_statistic(scale: float) -> None:
    """Batches that grow: the histogram doubles. Against the sorted values; at most one bin too wide, never too narrow."""
    torch.manual_seed(0)
    batches = [scale * (i + 1) * torch.randn(40_000).abs() ** 2 - scale for i in range(5)]
    observer = w8a8.Percentile(dtype=torch.quint8, qscheme=torch.per_tensor_affine)
    for batch in batches:
        observer(batch)
        observer.close_batch()
    observer.settle()
    ordered = torch.cat(batches).sort().values
    cut = math.floor(len(ordered) * w8a8.TAIL)
    low, high, width = ordered[cut], ordered[-1 - cut], 4 * ordered.abs().max() / w8a8.BINS
    assert low - width <= observer.min_val <= low and high <= observer.max_val <= high + width
    assert high < 0.9 * ordered[-1]


def test_percentile_keeps_all_of_few_values() -> None:
    observer = w8a8.Percentile(dtype=torch.quint8, qscheme=torch.per_tensor_affine)
    for batch in (torch.zeros(50), torch.tensor([-0.3, 0.1, 7.0])):
        observer(batch)
    observer.settle()
    assert (float(observer.min_val), float(observer.max_val)) == pytest.approx((-0.3, 7.0))


def test_a_range_that_a_pooling_shares_is_that_of_its_input(uniform: torch.Tensor) -> None:
    """One quantiser before and behind: the means of a map, which are small, do not count as batches of their own."""
    network = nn.Sequential(identity(), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    quantised = w8a8.quantize(network, uniform, calibration="moving-average").network
    assert reach(quantised) == pytest.approx(LAST["moving-average"], rel=0.006)


def test_one_batch_has_one_range(uniform: torch.Tensor) -> None:
    """With 32 images the moving average is the extremes."""
    for calibration in ("min-max", "moving-average"):
        network = w8a8.quantize(nn.Sequential(identity()), uniform[64:96], calibration=calibration).network
        assert reach(network) == pytest.approx(OUTLIER * 127 / 127.5)


# Training under quantisation, on ten patterns.


def pixels(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float()


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, 2, bias=False), nn.Conv2d(16, 32, 3, 2)
        self.norm, self.head = nn.BatchNorm2d(16), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head(torch.relu(self.second(x)).mean((2, 3)))


@pytest.fixture
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return Tiny().eval()


def scales(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: part.scale.clone() for name, part in network.named_modules() if isinstance(part, FakeQuantize)}


class Course:
    """Some steps of SGD on the images, and what they saw."""

    def __init__(self, images: torch.Tensor, steps: int = 60) -> None:
        self.images, self.steps, self.losses = images, steps, list[float]()

    def __call__(self, network: nn.Module) -> None:
        self.before, self.weights = scales(network), [p.detach().clone() for p in network.parameters()]
        optimiser = torch.optim.SGD(network.parameters(), lr=0.3, momentum=0.9)
        for _ in range(self.steps):
            loss = nn.functional.cross_entropy(network(self.images), torch.arange(len(self.images)) % 10)
            optimiser.zero_grad()
            loss.backward()
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
            optimiser.step()
            self.losses.append(float(loss.detach()))
        self.after = scales(network)


def test_training_lowers_the_loss_and_the_package_agrees(packages: Any, tiny: nn.Module) -> None:
    wrapping, images = packages.wrapping("mobilenetv1"), packages.draw(32, 40)
    x = Classifier(tiny, wrapping.network).normalise(pixels(images))
    course = Course(x)
    with torch.no_grad():  # whoever calls may not want gradients of their own
        model, reference = w8a8.convert_w8a8(tiny, images, wrapping, train=course)
    assert course.losses[-1] < course.losses[0] - 0.3
    for name, before in course.before.items():
        moved = not torch.equal(before, course.after[name])
        assert moved == name.endswith("weight_fake_quant"), name
    got = packages.logits(packages.program(model), images)
    expected = packages.torch_logits(reference, images)
    assert packages.errors(got, expected).median() < 0.03
    loss = nn.functional.cross_entropy(expected, torch.arange(40) % 10)
    assert float(loss) == pytest.approx(course.losses[-1], rel=0.1)
    assert inspect(packages.program(model)).warning == ""


@pytest.mark.parametrize("calibration", get_args(Calibration))
def test_what_is_trained_computes_what_is_exported(uniform: torch.Tensor, calibration: Calibration) -> None:
    """The ranges in the fake quantisation are those that calibration found, not those of the last batch."""
    seen: list[torch.Tensor] = []
    ramp = torch.linspace(0, 20, 3 * SIDE**2).reshape(1, 3, SIDE, SIDE)
    exported = w8a8.quantize(
        nn.Sequential(identity(), nn.ReLU()), uniform, calibration=calibration,
        train=lambda network: seen.append(network(ramp).detach()),
    ).network  # fmt: skip
    with quiet(), torch.no_grad():
        assert torch.allclose(seen[0], exported(ramp), atol=1e-6)


def test_a_package_from_before_the_training_is_refused(packages: Any, tiny: nn.Module) -> None:
    wrapping, images = packages.wrapping("mobilenetv1"), packages.draw(32, 40)
    course = Course(Classifier(tiny, wrapping.network).normalise(pixels(images)))
    plain, _ = w8a8.convert_w8a8(tiny, images, wrapping)
    trained, reference = w8a8.convert_w8a8(tiny, images, wrapping, train=course)
    w8a8.check(packages.program(trained), reference, images)
    with pytest.raises(RuntimeError, match="conversion went wrong"):
        w8a8.check(packages.program(plain), reference, images)


def test_scales_follow_weights_that_grow_and_shrink(packages: Any, tiny: nn.Module) -> None:
    """Nothing is clipped and no level is wasted: the signal-to-noise ratio is that of int8, not that of an old range."""

    def scale(network: nn.Module) -> None:
        with torch.no_grad():
            for by, (name, parameter) in zip((4.0, 0.05), _matrices(network), strict=False):
                assert name.endswith("weight")
                parameter.mul_(by)

    x = pixels(packages.draw(32, 40)) / 255
    before, after = (w8a8.quantize(tiny, x, train=train) for train in (None, scale))
    for by, name in ((4.0, "first"), (0.05, "second")):
        assert torch.allclose(after.exact[name], by * before.exact[name])
        stored = after.network.get_submodule(name).weight.detach()  # type: ignore[union-attr, operator]
        noise = float((stored - after.exact[name]).norm() / after.exact[name].norm())
        assert 0.001 < noise < 0.01


def _matrices(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in network.named_parameters() if parameter.ndim == 4]


def test_no_weight_is_without_gradient(packages: Any, tiny: nn.Module) -> None:
    """Straight through: the sum of the rounded weights has the slope 1 in each, the largest of a channel included."""
    slopes: list[torch.Tensor] = []

    def look(network: nn.Module) -> None:
        for layer in network.modules():
            if hasattr(layer, "weight_fake_quant"):
                layer.weight_fake_quant(layer.weight).sum().backward()
                slopes.append(layer.weight.grad)

    w8a8.quantize(tiny, pixels(packages.draw(32, 40)) / 255, train=look)
    assert len(slopes) == 3 and all(bool((slope == 1).all()) for slope in slopes)


# The record.


@pytest.mark.parametrize("name", NAMES)
def test_the_record_tells_of_every_layer(packages: Any, name: str) -> None:
    """Ratios against the folded weights, each found by itself: the nearest of its shape."""
    program = packages.program(packages.w8a8(name)[0])
    record, note = read_record(program)
    assert record is not None and note == "" and record.asked == "w8a8"
    network = packages.network(name)
    folded = fold_batch_norm(packages.module(name), torch.rand(2, 3, network.resolution, network.resolution))
    weights = [p.detach().double().numpy() for p in folded.parameters() if p.ndim > 1]
    assert len(record.layers) == len(weights)
    for weight, treatment in record.layers.items():
        stored = decode(program, weight).astype(float)
        assert (treatment.applied, treatment.reason) == ("w8a8", "")
        noise = min(((stored - w) ** 2).sum() / (w**2).sum() for w in weights if w.shape == stored.shape)
        assert treatment.snr_db == pytest.approx(-10 * math.log10(noise), abs=0.051) and treatment.snr_db > 30
    found = inspect(program)
    assert (found.asked, found.warning, found.notes) == ("w8a8", "", ())
    assert all((row.asked, row.applied, row.reason) == ("w8a8", "w8a8", "") for row in found.rows if row.layer)


@pytest.fixture
def mixed(packages: Any, tiny: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """coremltools is told to leave the first convolution's and the second's activations, and the whole head, in fp16."""

    def partly(*, global_config: ModuleLinearQuantizerConfig) -> LinearQuantizerConfig:
        plain = ModuleLinearQuantizerConfig(**w8a8.SETTINGS | {"activation_dtype": torch.float32})
        names = {"first": plain, "second": plain, "head": None}
        return LinearQuantizerConfig(global_config=global_config, module_name_configs=names)

    monkeypatch.setattr(ct.optimize.torch.quantization, "LinearQuantizerConfig", partly)
    model, _ = w8a8.convert_w8a8(tiny, packages.draw(32, 40), packages.wrapping("mobilenetv1"))
    save(model, tmp_path / "mixed.mlpackage")
    return load(tmp_path / "mixed.mlpackage")


def test_layers_that_stay_in_floating_point_are_a_warning_by_name(mixed: Program) -> None:
    found = inspect(mixed)
    rows = {row.shape: row for row in found.rows if row.layer}
    first, second, head = (rows[shape] for shape in ((16, 3, 3, 3), (32, 16, 3, 3), (10, 32)))
    assert first.applied == second.applied == "int8/channel" and head.applied == "fp16"
    assert first.reason.startswith("first: its input, the result of ") and "stays in floating point" in first.reason
    assert second.reason == "second: its input, the result of relu, stays in floating point"
    assert head.reason == "coremltools' quantiser leaves this layer in floating point"
    assert first.snr_db is not None and first.snr_db > 30 and head.snr_db is None
    share = 100 * 320 / (320 + 16 * 27 + 32 * 144)
    names = ", ".join(row.name for row in (first, second, head))
    assert found.notes == () and found.warning == (
        f"Asked w8a8: 3 of 3 layers otherwise, 1 of them not compressed ({share:.1f} % of the elements): {names}"
    )


def test_a_record_that_says_more_than_is_there_is_not_believed(mixed: Program, packages: Any) -> None:
    claimed = {"com.coreml-pareto.layers": '{"asked":"w8a8","otherwise":{},"snr_db":"40.0 40.0 40.0"}'}
    program = Program(**vars_of(mixed) | {"metadata": claimed})
    record, note = read_record(program)
    assert record is None and "is int8/channel, not w8a8" in note


def vars_of(program: Program) -> dict[str, Any]:
    return {name: getattr(program, name) for name in Program.__dataclass_fields__}


def test_weights_of_another_network_have_no_record(packages: Any) -> None:
    """Ratios of what is not the network's would be made up; what the package computes is compared by `check`."""
    program = packages.program(packages.w8a8("squeezenet1_1")[0])
    other = w8a8.quantize(packages.module("squeezenet1_1", probe=True), torch.rand(2, 3, 48, 48)).exact
    assert w8a8.layers_of(program, other) == () and record_of("w8a8", ()) == {}
    assert len(heavy_weights(program)) == len(other)


class Branching(nn.Module):
    """Another path for wide images, which a trace cannot know."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return (y if y.shape[-1] < 100 else y * 2).mean((2, 3))


def test_a_network_that_branches_is_refused_by_name_before_and_at_the_conversion(packages: Any) -> None:
    wrapping = packages.wrapping("mobilenetv1")
    told = r"must not branch on values or shapes; that of mobilenetv1 does: take weights alone \(int8/channel\)"
    with pytest.raises(UserError, match=told):
        w8a8.require_traceable(Branching(), wrapping.network)
    with pytest.raises(UserError, match=told):
        w8a8.convert_w8a8(Branching(), packages.draw(32, 8), wrapping)


@pytest.mark.parametrize("name", NAMES)
def test_networks_that_can_be_quantised_pass(packages: Any, name: str) -> None:
    w8a8.require_traceable(packages.module(name), packages.network(name))
