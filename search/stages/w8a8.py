"""How do weights and activations become int8? Calibrated in torch, trained on if asked, then traced and converted.

Weights are symmetric int8 per output channel, activations int8 per tensor (coremltools' `LinearQuantizer`, "vanilla"
algorithm; Jacob et al. 2018, arXiv:1712.05877). Normalisation and softmax stay in floating point. Activations in int8
need iOS 17. Where the range of an activation comes from is a choice:

- min-max: the extremes over all calibration images;
- moving-average: the batches' extremes, averaged with the factor `FACTOR`;
- percentile: what is left without the share `TAIL` of the values at either end (as Wu et al. 2020, arXiv:2004.09602).

coremltools' own moving averages are not used. They average over calls, and a quantiser is called several times per
batch where a tensor and its pooled or joined form share one range: the small values of the one would pull down the
range of the other. And their default factor, 0.01, would in truth take the first batch's range.

Training under quantisation (`train`) keeps the activations' ranges. The weights' scales follow the weights, from step
to step: with fixed scales a weight that leaves its range would be clipped, have no gradient, and never come back. For
the same reason integers are −127..127, as Jacob et al. have it: coremltools' −128..127 puts the largest weight of a
channel on 127.5, which counts as clipped. Rounding passes gradients on as they are (the straight-through estimator).

`torch.export` refuses quantised tensors, so this path uses `torch.jit.trace`. A defect of coremltools 9.0 is avoided:
its pass `int_op_canonicalization` replaces dequantize → reshape → quantize by a reshape of the integers without
comparing the scales, and the package is silently wrong; the pass is left out, and every package is compared with
the fake-quantised network by running it (`check`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.ao.quantization import FakeQuantize, MinMaxObserver
from torch.ao.quantization.observer import MovingAveragePerChannelMinMaxObserver
from torch.fx.proxy import TraceError

from coreml_pareto.objectives.program import Constant, Executor, Operation, Program, load
from coreml_pareto.objectives.program.constexpr import decode
from coreml_pareto.objectives.program.quiet import coremltools as ct
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.objectives.program.realised import W8A8, spellings
from coreml_pareto.objectives.program.record import heavy_weights, is_compressed
from coreml_pareto.search.stages.compress import Layer, record_of, signal_to_noise
from coreml_pareto.search.stages.convert import Classifier, Wrapping, on_cpu, save, to_program
from coreml_pareto.search.stages.folding import fold_batch_norm
from coreml_pareto.spaces.candidate import Calibration, Network
from coreml_pareto.spaces.errors import UserError

Images = Tensor | NDArray[np.uint8]
Train = Callable[[nn.Module], None]
"""Trains a network's parameters in place."""

BATCH = 32
FACTOR = 1 / 6
"""Share of the newest batch in the moving average. Few batches calibrate: with this factor 4 count as much as 2.5 in a
plain average would, 16 as much as 10.6 (1 / Σ weight²), nearly two thirds at either end; with 0.01 as 1.1 and 1.3."""

TAIL = 1e-4
"""Share of an activation's values that percentile gives up at either end. Five networks trained on digits, 32 to 512
images: with 10⁻⁴ the logits move 0.9 to 1.4 times as far as with min-max; with 10⁻³ 1.2 to 6.5, with 10⁻² 4 to 23 times."""

BINS = 2**15
"""Of an activation's histogram; even numbers of them can be merged when the range doubles."""

SETTINGS = {
    "quantization_scheme": "symmetric",
    "weight_per_channel": True,
    "weight_observer": "moving_average_min_max",  # with factor 1: the weight as it is now
    "activation_observer": "min_max",  # stands for ours, which coremltools' settings cannot name
    "milestones": [0, 1, 1, 0],  # steps: observe from the first, simulate int8 and stop observing at the second
}
CHECKED = 16
"""Images on which a package is compared with the network."""

ALLOWED = 0.1
"""Relative error of the logits that a package may have however little rounding moves the network's."""

NEAR = 10.0
"""Signal-to-noise ratio in dB of a weight and what it was stored as, at least; two layers' weights have about -3."""

ROUNDING = 2**-11
"""Largest relative error of rounding to fp16."""


class Extremes(MinMaxObserver):
    """The range of an activation, found batch by batch: here the extremes of all values."""

    def close_batch(self) -> None:
        """Take note that the network has been run on a batch."""

    def settle(self) -> None:
        """Write the range that was found."""

    def _write(self, low: Tensor, high: Tensor) -> None:
        self.min_val.copy_(low)
        self.max_val.copy_(high)


@final
class MovingAverage(Extremes):
    """The extremes of each batch, averaged with an exponentially fading memory."""

    average: Tensor | None = None

    def close_batch(self) -> None:
        """Move the average towards this batch's extremes."""
        seen = torch.stack((self.min_val, self.max_val))
        self.average = seen if self.average is None else self.average.lerp(seen, FACTOR)
        self.reset_min_max_vals()

    def settle(self) -> None:
        """Write the average."""
        if self.average is not None:
            self._write(*self.average)


@final
class Percentile(Extremes):
    """All values but `TAIL` of them at either end, from a histogram that doubles its range where values need it.

    A bin is at most 1/8192 of the extreme: less than int8's step unless an outlier is 30 times the rest. The bin that
    holds the last value to keep is kept whole, so a range may be one bin too wide and is never too narrow.
    """

    counts: Tensor
    edge = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Count the values of `x`."""
        super().forward(x)  # type: ignore[no-untyped-call]
        values = x.detach().float().reshape(-1)
        highest = float(values.abs().max())
        if self.edge == 0 and highest > 0:
            self.counts, self.edge = torch.zeros(BINS, dtype=torch.float64), highest
        while self.edge < highest:
            self._double()
        if self.edge > 0:
            self.counts += torch.histc(values, BINS, -self.edge, self.edge).double()
        return x

    def _double(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(1)
        self.counts, self.edge = nn.functional.pad(pairs, (BINS // 4, BINS // 4)), 2 * self.edge

    def settle(self) -> None:
        """Write the range without its tails."""
        if self.edge > 0:
            low, high = -self._reach(self.counts.flip(0)), self._reach(self.counts)
            self._write(self.min_val.clamp_min(low), self.max_val.clamp_max(high))
            del self.counts

    def _reach(self, counts: Tensor) -> float:
        """Upper end of the first bin with at most the tail above it."""
        below = counts.cumsum(0)
        bins = int((below < below[-1] * (1 - TAIL)).sum()) + 1
        return self.edge * (2 * bins / BINS - 1)


_OBSERVERS: Mapping[Calibration, type[Extremes]] = {
    "min-max": Extremes, "moving-average": MovingAverage, "percentile": Percentile
}  # fmt: skip


@final
@dataclass(frozen=True)
class Quantised:
    """A fake-quantised network, and the float weights that it rounds, by layer in the order in which they run."""

    network: nn.Module
    exact: Mapping[str, Tensor]


def quantize(
    module: nn.Module, images: Tensor, *, calibration: Calibration = "min-max", train: Train | None = None
) -> Quantised:
    """Return a copy of a network for inference, fake-quantised: it computes in fp32 what int8 would.

    Args:
        module: images to logits.
        images: calibration images [n, 3, side, side], normalised as the network expects them.
        calibration: where the ranges of the activations come from.
        train: gets the fake-quantised network, whose input is normalised images, in evaluation mode, and may train its
            parameters in place, on any device. The mode should stay: batch norms are folded, and those that could not
            be would forget their statistics.
    """
    folded = fold_batch_norm(module, images[:2])
    with quiet(), torch.no_grad():
        quantizer, prepared = _prepared(folded, images[:1])
        _calibrate(prepared, images, calibration, quantizer.step)
    if train is not None:
        with torch.enable_grad():
            train(prepared.requires_grad_(True))
        prepared.cpu().eval()
    with quiet(), torch.no_grad():
        exact = _weights_in_order(prepared, images[:1])
        return Quantised(quantizer.finalize().eval(), exact)


def _prepared(folded: nn.Module, example: Tensor) -> tuple[Any, nn.Module]:
    """coremltools' quantiser, and the network with a fake quantisation at every place that will be one of int8."""
    quantization = ct.optimize.torch.quantization
    settings = quantization.ModuleLinearQuantizerConfig(**SETTINGS)
    quantizer = quantization.LinearQuantizer(folded, quantization.LinearQuantizerConfig(global_config=settings))
    prepared = quantizer.prepare(example_inputs=(example,)).eval()
    for part in _weight_quantizers(prepared):
        observer = part.activation_post_process
        observer.averaging_constant = 1.0
        observer.quant_min = part.quant_min = -observer.quant_max
    return quantizer, prepared


def require_traceable(module: nn.Module, network: Network) -> None:
    """Refuse a network that cannot be quantised, whatever its weights are; takes a second or two.

    Raises:
        UserError: its forward pass depends on what it reads.
    """
    example = torch.randn(2, 3, network.resolution, network.resolution)
    with quiet(), torch.no_grad(), _refusing(network):
        _prepared(fold_batch_norm(on_cpu(module), example), example[:1])


@contextmanager
def _refusing(network: Network) -> Iterator[None]:
    """Say for people what the tracer says for programmers."""
    try:
        yield
    except TraceError as error:
        raise UserError(
            "W8A8 is prepared on a network's trace, so a forward pass must not branch on values or shapes; that of "
            f"{network.backbone} does: take weights alone (int8/channel) for it, or leave it out of studies with w8a8"
        ) from error


def _calibrate(prepared: nn.Module, images: Tensor, calibration: Calibration, step: Callable[[], None]) -> None:
    """Find the activations' ranges and hold them; the weights' follow the weights."""
    ranges = {part: _exchange(part, _OBSERVERS[calibration]) for part in _activation_quantizers(prepared)}
    step()
    for batch in torch.split(images, BATCH):
        prepared(batch)
        for observer in ranges.values():
            observer.close_batch()
    step()
    for part, observer in ranges.items():
        observer.settle()
        for held, found in zip((part.scale, part.zero_point), part.calculate_qparams(), strict=True):
            held.copy_(found)
    for weight in _weight_quantizers(prepared):
        weight.enable_observer()


def _exchange(part: FakeQuantize, kind: type[Extremes]) -> Extremes:
    """Give a quantiser another observer for the same integers."""
    old = part.activation_post_process
    found = part.activation_post_process = kind(dtype=old.dtype, qscheme=old.qscheme)
    return found


def _weight_quantizers(prepared: nn.Module) -> Iterator[FakeQuantize]:
    return (part for part in _quantizers(prepared) if _observes_weights(part))


def _activation_quantizers(prepared: nn.Module) -> Iterator[FakeQuantize]:
    """Those with a range to be found: that of a sigmoid is known."""
    return (part for part in _quantizers(prepared) if not _observes_weights(part))


def _quantizers(prepared: nn.Module) -> Iterator[FakeQuantize]:
    return (part for part in prepared.modules() if type(part) is FakeQuantize)


def _observes_weights(part: FakeQuantize) -> bool:
    return isinstance(part.activation_post_process, MovingAveragePerChannelMinMaxObserver)


def _weights_in_order(prepared: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """The weights that are quantised by the names of their layers, in the order in which these run first."""
    names = {id(parameter): name.removesuffix(".weight") for name, parameter in prepared.named_parameters()}
    found: dict[str, Tensor] = {}

    def note(own: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor]) -> None:
            name = names.get(id(inputs[0]), own)  # a weight that is computed has no other name than its quantiser's
            found.setdefault(name, inputs[0].detach().clone())

        return hook

    parts = ((name, part) for name, part in prepared.named_modules() if part in set(_weight_quantizers(prepared)))
    handles = [part.register_forward_pre_hook(note(name)) for name, part in parts]
    prepared(example)
    for handle in handles:
        handle.remove()
    return found


def convert_w8a8(
    module: nn.Module,
    images: Images,
    wrapping: Wrapping,
    *,
    calibration: Calibration = "min-max",
    train: Train | None = None,
    minimum_os: int = 17,
    probe: bool = False,
) -> tuple[Any, Classifier]:
    """Quantise a trained network and convert it; the package carries the record of its layers.

    Args:
        images: calibration images of the training split, uint8 [n, side, side, 3].
        calibration, train: as `quantize` takes them.
        probe: only the size will be read: the package is not compared.

    Returns:
        The `MLModel`, and the fake-quantised `Classifier` that it must agree with.

    Raises:
        RuntimeError: the package computes something else than the fake-quantised network.
        UserError: the network cannot be traced.
    """
    plain = Classifier(on_cpu(module), wrapping.network).eval()
    with _refusing(wrapping.network):
        quantised = quantize(plain.network, plain.normalise(_pixels(images)), calibration=calibration, train=train)
    reference = Classifier(quantised.network, wrapping.network).eval()
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(reference, torch.zeros(wrapping.shape), check_trace=False)  # type: ignore[no-untyped-call]
    model = to_program(traced, wrapping, minimum_os=minimum_os, precision="fp16", passes=_passes())
    with TemporaryDirectory() as folder:  # the names of the weights are those of a saved package
        save(model, Path(folder) / "check.mlpackage")
        program = load(Path(folder) / "check.mlpackage")
        record = record_of(W8A8, layers_of(program, quantised.exact))
        if not probe:
            check(program, reference, images[:CHECKED])
    for key, text in record.items():
        model.user_defined_metadata[key] = text
    return model, reference


def layers_of(program: Program, exact: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """What became of every weight, and how much noise rounding added to it.

    Args:
        exact: the float weights that were quantised, by their layers' names in torch, in the order in which these run.

    Returns:
        A row for each weight in program order; none at all if the program holds a weight that is none of these.
    """
    readers = heavy_weights(program)
    stored = {name: decode(program, name) for name in readers if is_compressed(program, name)}
    origins = _origins(stored, exact)
    if len(origins) < len(stored):
        return ()
    return tuple(
        _layer(program, name, reader, stored[name], *origins[name]) if name in stored else _left(name, reader)
        for name, reader in readers.items()
    )


def _origins(stored: Mapping[str, NDArray[Any]], exact: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """Name in torch and float weight of each stored one: the first left of its shape that it is near to."""
    left, found = dict(exact), {}
    for name, value in stored.items():
        alike = [called for called, weight in left.items() if weight.shape == value.shape]
        near = (called for called in alike if signal_to_noise(left[called].numpy(), value) > NEAR)
        if called := next(near, ""):
            found[name] = called, left.pop(called)
    return found


def _layer(program: Program, name: str, reader: Operation, value: NDArray[Any], called: str, exact: Tensor) -> Layer:
    """`called`: the layer's name in torch; the program has numbers for names."""
    row = partial(Layer, name, value.shape, W8A8, snr_db=signal_to_noise(exact.numpy(), value))
    found = spellings(program, name, reader)[0]
    if found == W8A8:
        return row(W8A8)
    x = reader.one("x")
    producer = program.producers.get(x) if isinstance(x, str) else None
    source = "the image" if producer is None else f"the result of {producer.kind}"
    return row(found, f"{called}: its input, {source}, stays in floating point")


def _left(name: str, reader: Operation) -> Layer:
    weight = cast("Constant", reader.one("weight"))
    return Layer(name, weight.type.shape, W8A8, None, "coremltools' quantiser leaves this layer in floating point")


def check(program: Program, reference: Classifier, images: Images) -> None:
    """Run the package and the fake-quantised network, and compare how far they are from each other.

    They never agree to the bit: the package rounds to fp16, values on a rounding threshold fall either way, and the next
    layers pass that on; converted in fp32, package and network agree to 10⁻⁵. How far that carries is measured on the
    network itself: every layer's result made larger, and smaller, by what fp16 rounds at most. The float network is no
    measure: training under quantisation moves away from it.

    On six networks trained for a moment and each calibration the package was 0.03 to 0.16 off, 0.7 to 1.3 times what
    rounding explains; a package of other weights is 1 off.

    Raises:
        RuntimeError: the package is off by more than twice what rounding explains, and by more than `ALLOWED`.
    """
    got = Executor(program).run(torch.as_tensor(images), [str(program.logits)])[str(program.logits)]
    with quiet(), torch.no_grad():
        pixels = _pixels(images)
        expected = reference.logits(pixels)
        moved = [_distance(_rounded(reference, pixels, by), expected) for by in (ROUNDING, -ROUNDING)]
    error, explained = _distance(got, expected), max(moved)
    if not error <= 2 * explained + ALLOWED:  # NaN is an error too
        raise RuntimeError(
            f"The W8A8 package's logits are {error:.2g} off those of the network that was calibrated; fp16's rounding "
            f"explains {explained:.2g}: the conversion went wrong."
        )


def _rounded(reference: Classifier, pixels: Tensor, by: float) -> Tensor:
    """Logits with the pixels, and what every convolution and linear layer computes, multiplied by 1 + `by`."""
    layers = [part for part in reference.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(lambda _, __, result: result * (1 + by)) for layer in layers]
    logits = reference.logits(pixels * (1 + by))
    for handle in handles:
        handle.remove()
    return logits


def _distance(logits: Tensor, expected: Tensor) -> float:
    """Median over images of the relative error of centred logits [n, classes]."""
    logits, expected = (rows - rows.mean(1, keepdim=True) for rows in (logits, expected))
    return float(((logits - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(1e-6)).median())


def _pixels(images: Images) -> Tensor:
    """uint8 [n, side, side, 3] to what `Classifier` takes: float [n, 3, side, side], 0..255."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float()


def _passes() -> Any:
    """coremltools' default passes without the defective one."""
    passes = ct.PassPipeline.DEFAULT
    passes.remove_passes({"common::int_op_canonicalization"})
    return passes
