"""How do weights and activations become int8? Post-training quantisation in torch, then the traced network converted.

Weights are symmetric int8 per output channel, activations int8 per tensor, their ranges the extremes over the training
images given (coremltools' `LinearQuantizer`, "vanilla" algorithm; Jacob et al. 2018, arXiv:1712.05877). Its default, a
moving average with factor 0.01, would in truth take the first batch's range. Normalisation and softmax stay in
floating point. Activations in int8 need iOS 17.

`torch.export` refuses quantised tensors, so this path uses `torch.jit.trace`. A defect of coremltools 9.0 is avoided:
its pass `int_op_canonicalization` replaces dequantize → reshape → quantize by a reshape of the integers without
comparing the scales, and the package is silently wrong; the pass is left out, and every package is compared with
the fake-quantised network by running it (`check`).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from coreml_pareto.objectives.program import Executor, load
from coreml_pareto.objectives.program.quiet import coremltools as ct
from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.stages.convert import Classifier, Wrapping, on_cpu, save, to_program
from coreml_pareto.search.stages.folding import fold_batch_norm

Images = Tensor | NDArray[np.uint8]
BATCH = 32
SETTINGS = {
    "quantization_scheme": "symmetric",
    "weight_per_channel": True,
    "weight_observer": "min_max",
    "activation_observer": "min_max",
    "milestones": [0, 1, 1, 0],  # steps: observe from the first, simulate int8 and stop observing at the second
}
CHECKED = 16
"""Images on which a package is compared with the network."""

ALLOWED = 0.1
"""Relative error of the logits that a package may have however well the network takes to int8."""


def quantize(module: nn.Module, images: Tensor) -> nn.Module:
    """Return a copy of a network for inference, fake-quantised: it computes in fp32 what int8 would.

    Args:
        module: images to logits.
        images: calibration images [n, 3, side, side], normalised as the network expects them.
    """
    folded = fold_batch_norm(module, images[:2])
    with quiet(), torch.no_grad():
        quantization = ct.optimize.torch.quantization
        settings = quantization.ModuleLinearQuantizerConfig(**SETTINGS)
        quantizer = quantization.LinearQuantizer(folded, quantization.LinearQuantizerConfig(global_config=settings))
        prepared = quantizer.prepare(example_inputs=(images[:1],)).eval()
        quantizer.step()
        for batch in torch.split(images, BATCH):
            prepared(batch)
        quantizer.step()
        return quantizer.finalize().eval()  # type: ignore[no-any-return]


def convert_w8a8(
    module: nn.Module, images: Images, wrapping: Wrapping, *, minimum_os: int = 17, probe: bool = False
) -> tuple[Any, Classifier]:
    """Quantise a trained network and convert it.

    Args:
        images: calibration images of the training split, uint8 [n, side, side, 3].
        probe: only the size will be read: the package is not compared.

    Returns:
        The `MLModel`, and the fake-quantised `Classifier` that it must agree with.

    Raises:
        RuntimeError: the package computes something else than the fake-quantised network.
    """
    plain = Classifier(on_cpu(module), wrapping.network).eval()
    quantised = quantize(plain.network, plain.normalise(_pixels(images)))
    reference = Classifier(quantised, wrapping.network).eval()
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(reference, torch.zeros(wrapping.shape), check_trace=False)  # type: ignore[no-untyped-call]
    model = to_program(traced, wrapping, minimum_os=minimum_os, precision="fp16", passes=_passes())
    if not probe:
        check(model, reference, plain, images[:CHECKED])
    return model, reference


def check(model: Any, reference: Classifier, plain: Classifier, images: Images) -> None:
    """Run the package and compare how far it and the fake-quantised network are from the float network.

    They never agree to the bit: the package rounds the calibrated scales to fp16, values on a rounding threshold fall
    either way, and the next layers pass that on (seen: multiplying a MobileNetV3's input by 1 + 2⁻¹² moves its
    fake-quantised logits as far as quantising did; converted in fp32, package and network agree to 10⁻⁵). So a right
    package carries another draw of the same noise, and a wrong one is far from both.

    Raises:
        RuntimeError: the package is more than twice as far from the float network, and by more than `ALLOWED`.
    """
    with TemporaryDirectory() as folder:
        save(model, Path(folder) / "check.mlpackage")
        program = load(Path(folder) / "check.mlpackage")
        got = Executor(program).run(torch.as_tensor(images), [str(program.logits)])[str(program.logits)]
    with quiet(), torch.no_grad():
        quantised, exact = reference.logits(_pixels(images)), plain.logits(_pixels(images))
    error, price = _distance(got, exact), _distance(quantised, exact)
    if not error <= 2 * price + ALLOWED:  # NaN is an error too
        raise RuntimeError(
            f"The W8A8 package is {error:.2g} from the float network, the network that was calibrated {price:.2g}: "
            "the conversion went wrong."
        )


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
