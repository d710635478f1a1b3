"""How does a trained network become an `.aimodel` for Apple's Core AI?  `torch.export`, then coreai-torch (an extra).

As in a Core ML package the normalisation and the softmax are inside: pixels 0 to 255, [1, 3, side, side], to probabilities
[1, classes]. The format has no place for labels and for the pre-processing rule, so they go into its free metadata.
coreai-torch 0.4.3 names torch up to 2.13 as validated and warns of newer ones; with 2.15 it converts.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

import torch

from coreml_pareto.objectives.program.quiet import quiet
from coreml_pareto.search.stages.convert import INPUT, Classifier, on_cpu
from coreml_pareto.search.stages.trained import Trained

OUTPUT: Final = "probabilities"


def convert_for_coreai(trained: Trained, file: Path, description: str, facts: Mapping[str, Any]) -> None:
    """Convert a training and save it as a new folder `file`; whatever coreai-torch raises is passed on.

    Args:
        description: of the model, for people.
        facts: for its metadata: values as JSON has them.
    """
    side = trained.network.resolution
    classifier = Classifier(on_cpu(trained.module()), trained.network).eval()
    with quiet(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # it draws its progress there
        from coreai.runtime import AIModelAssetMetadata
        from coreai_torch import TorchConverter, get_decomp_table

        exported = torch.export.export(classifier, (torch.zeros(1, 3, side, side),))
        converter = TorchConverter(mode=TorchConverter.Mode.RELEASE).add_exported_program(
            exported.run_decompositions(get_decomp_table()), input_names=[INPUT], output_names=[OUTPUT]
        )
        metadata = AIModelAssetMetadata()
        metadata.author, metadata.model_description = "coreml-pareto", description
        for name, value in facts.items():
            metadata.set_custom(name, value)
        converter.to_coreai().save_asset(file, metadata)
