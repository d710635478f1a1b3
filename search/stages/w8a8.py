"""How do weights and activations become int8? Post-training quantisation in torch, then the traced network converted.

Weights are symmetric int8 per output channel, activations uint8 per tensor, their ranges calibrated on training images
(coremltools' `LinearQuantizer`, "vanilla" algorithm; Jacob et al. 2018, arXiv:1712.05877). Normalisation and softmax
stay in floating point. Activations in int8 need iOS 17.

`torch.export` refuses quantised tensors, so this path uses `torch.jit.trace`. A defect of coremltools 9.0 is avoided:
its pass `int_op_canonicalization` replaces dequantize → reshape → quantize by a reshape of the integers without
comparing the scales, and the package is silently wrong; the pass is left out, and every package can be compared with
the fake-quantised network by running it (`disagreement`).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from coremltools.optimize.torch.quantization import (
    LinearQuantizer,
    LinearQuantizerConfig,
    ModuleLinearQuantizerConfig,
)
from torch import Tensor, nn

from coreml_pareto.objectives.program import Executor, load
from coreml_pareto.search.stages.convert import Classifier, Wrapping, on_cpu, save, to_program
from coreml_pareto.search.stages.folding import fold_batch_norm
from coreml_pareto.search.stages.quiet import coremltools as ct
from coreml_pareto.search.stages.quiet import quiet

BATCH = 32
WRONG = 0.35
"""Median relative error of the logits beyond which a package cannot be the network that was calibrated."""


def quantize(module: nn.Module, images: Tensor) -> nn.Module:
    """Return a copy of a network for inference, fake-quantised: it computes in fp32 what int8 would.

    Args:
        module: images to logits.
        images: calibration images [n, 3, side, side], normalised as the network expects them.
    """
    folded = fold_batch_norm(module, images[:2])
    settings = {"quantization_scheme": "symmetric", "milestones": [0, 1, 1, 0], "weight_per_channel": True}
    with quiet(), torch.no_grad():
        config = LinearQuantizerConfig(global_config=ModuleLinearQuantizerConfig(**settings))
        quantizer = LinearQuantizer(folded, config)
        prepared = quantizer.prepare(example_inputs=(images[:1],)).eval()
        quantizer.step()  # observe
        for batch in torch.split(images, BATCH):
            prepared(batch)
        quantizer.step()  # simulate int8, stop observing
        return quantizer.finalize().eval()  # type: ignore[no-any-return]


def convert_w8a8(module: nn.Module, images: Tensor, wrapping: Wrapping, *, minimum_os: int = 17) -> tuple[Any, nn.Module]:
    """Quantise a trained network and convert it.

    Args:
        images: calibration images of the training split, uint8 [n, side, side, 3].

    Returns:
        The `MLModel`, and the fake-quantised `Classifier` that it must agree with.

    Raises:
        RuntimeError: the package computes something else than the fake-quantised network.
    """
    pixels = images.permute(0, 3, 1, 2).float()
    ends = Classifier(nn.Identity(), wrapping.network)
    reference = Classifier(quantize(on_cpu(module), ends.normalise(pixels)), wrapping.network).eval()
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(reference, torch.zeros(wrapping.shape), check_trace=False)  # type: ignore[no-untyped-call]
    model = to_program(traced, wrapping, minimum_os=minimum_os, precision="fp16", passes=_passes())
    error = disagreement(model, reference, images[:8])
    if not error <= WRONG:
        raise RuntimeError(f"The W8A8 package differs from the network that was calibrated by {error:.2g} (at most {WRONG}).")
    return model, reference


def disagreement(model: Any, reference: nn.Module, images: Tensor) -> float:
    """Median over images of the relative error of the package's centred logits, run by the executor.

    Not zero for a right package: it rounds the calibrated scales to fp16, and a value on a rounding threshold may fall
    either way.
    """
    with TemporaryDirectory() as folder:
        save(model, Path(folder) / "check.mlpackage")
        program = load(Path(folder) / "check.mlpackage")
        got = Executor(program).run(images, [str(program.logits)])[str(program.logits)]
    with torch.no_grad():
        expected = reference(images.permute(0, 3, 1, 2).float()).clamp_min(1e-30).log()
    got, expected = (logits - logits.mean(1, keepdim=True) for logits in (got, expected))
    return float(((got - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(1e-6)).median())


def _passes() -> Any:
    """coremltools' default passes without the defective one."""
    passes = ct.PassPipeline.DEFAULT
    passes.remove_passes({"common::int_op_canonicalization"})
    return passes
