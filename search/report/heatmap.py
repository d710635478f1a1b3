"""Which layers can bear which schemes?  A map of layers against schemes, coloured by what is left of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import plotly.graph_objects as go

if TYPE_CHECKING:
    from coreml_pareto.search.stages.sensitivity import Effect, Sensitivity

LOW, HIGH = 0, 50
"""Ends of the colour scale, dB: below, the answer is noise; above, nothing is noticed."""

_COLOURS: Final = "Cividis"  # made for every kind of colour vision (Nuñez, Anderton & Renslow 2018)
_EACH: Final = 16
"""Pixels that one layer takes at least."""


def sensitivity_figure(found: Sensitivity, name: str) -> go.Figure:
    """Layers from the input downwards, schemes from many bits to few, signal-to-noise ratio of the logits as colour."""
    layers = list(dict.fromkeys(effect.layer for effect in found.effects))
    schemes = found.compressions
    cells = {(effect.layer, effect.compression): effect for effect in found.effects}
    grid = [[cells.get((layer, scheme)) for scheme in schemes] for layer in layers]
    figure = go.Figure(
        go.Heatmap(
            z=[[None if effect is None else effect.logits_db for effect in row] for row in grid],
            text=[["" if effect is None else _hover(effect, found) for effect in row] for row in grid],
            x=schemes, y=layers, colorscale=_COLOURS, zmin=LOW, zmax=HIGH, hoverinfo="text", xgap=1, ygap=1,
            colorbar={"title": {"text": "logits SNR, dB"}},
        )
    )  # fmt: skip
    figure.update_layout(**_layout(found, name, len(layers), len(schemes)))
    return figure


def _layout(found: Sensitivity, name: str, layers: int, schemes: int) -> dict[str, Any]:
    told = (
        f"one layer compressed alone; {found.images} training images, top-1 {found.top1:.1%} uncompressed; "
        "layers that get no smaller are left out"
    )
    return {
        "title": {"text": f"Which layers can bear which schemes: {name}<br><sub>{told}</sub>"},
        "template": "plotly_white",
        "xaxis": {"tickangle": -60, "side": "bottom", "type": "category"},
        "yaxis": {"autorange": "reversed", "type": "category", "dtick": 1},
        "height": max(480, 240 + _EACH * layers),
        "width": max(720, 340 + 28 * schemes),
        "margin": {"l": 10, "r": 10},
    }


def _hover(effect: Effect, found: Sensitivity) -> str:
    return "<br>".join(
        [
            f"<b>{effect.layer} · {effect.applied}</b>",
            f"{effect.bits:.2f} bits per weight, weight SNR {effect.weight_db:.1f} dB",
            f"logits SNR {effect.logits_db:.1f} dB, divergence {effect.divergence:.2g} nats",
            f"top-1 {effect.top1:.1%} ({100 * (effect.top1 - found.top1):+.1f} points)",
        ]
    )
