"""Which layers can bear which schemes?  A map of layers against schemes, coloured by what is left of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

import plotly.graph_objects as go

if TYPE_CHECKING:
    from coreml_pareto.search.stages.sensitivity import Effect, Sensitivity

LOW, HIGH = 0, 50
"""Ends of the colour scale, dB: below, the answer is noise; above, nothing is noticed."""

_COLOURS: Final = "Cividis"  # made for every kind of colour vision (Nuñez, Anderton & Renslow 2018)
_NOTHING: Final = "#d9d9d9"  # of cells without a value: no colour of the scale
_EACH: Final = 16
"""Pixels that one layer takes at least."""


def sensitivity_figure(found: Sensitivity, layers: Sequence[str], name: str) -> go.Figure:
    """Layers from the input downwards, schemes from many bits to few, signal-to-noise ratio of the logits as colour.

    Args:
        layers: all of the package in program order; a cell is grey where the layer would not get smaller.
    """
    schemes = found.compressions
    cells = {(effect.layer, effect.compression): effect for effect in found.effects}
    grid = [[cells.get((layer, scheme)) for scheme in schemes] for layer in layers]
    figure = go.Figure(
        go.Heatmap(
            z=[[None if effect is None else effect.logits_db for effect in row] for row in grid],
            text=[[_hover(layer, scheme, cells.get((layer, scheme)), found) for scheme in schemes] for layer in layers],
            x=schemes, y=[escape(layer, quote=False) for layer in layers], colorscale=_COLOURS,
            zmin=LOW, zmax=HIGH, hoverinfo="text", xgap=1, ygap=1,
            colorbar={"title": {"text": "logits SNR, dB"}},
        )
    )  # fmt: skip
    figure.update_layout(**_layout(found, layers, name, len(schemes)))
    return figure


def _layout(found: Sensitivity, layers: Sequence[str], name: str, schemes: int) -> dict[str, Any]:
    never = len(set(layers) - {effect.layer for effect in found.effects})
    told = (
        f"one layer compressed alone; {found.images} training images, top-1 {found.top1:.1%} uncompressed<br>"
        f"grey: the layer would not get smaller; {never} of {len(layers)} layers under none of these schemes"
    )
    return {
        "title": {"text": f"Which layers can bear which schemes: {escape(name, quote=False)}<br><sub>{told}</sub>"},
        "template": "plotly_white",
        "plot_bgcolor": _NOTHING,
        "xaxis": {"tickangle": -60, "side": "bottom", "type": "category", "showgrid": False},
        "yaxis": {"autorange": "reversed", "type": "category", "dtick": 1, "showgrid": False},
        "height": max(480, 240 + _EACH * len(layers)),
        "width": max(720, 340 + 28 * schemes),
        "margin": {"l": 10, "r": 10},
    }


def _hover(layer: str, scheme: str, effect: Effect | None, found: Sensitivity) -> str:
    if effect is None:
        return f"<b>{escape(layer, quote=False)} · {scheme}</b><br>would not get smaller"
    return "<br>".join(
        [
            f"<b>{escape(effect.layer, quote=False)} · {effect.applied}</b>",
            f"{effect.bits:.2f} bits per weight, weight SNR {effect.weight_db:.1f} dB",
            f"logits SNR {effect.logits_db:.1f} dB, divergence {effect.divergence:.2g} nats",
            f"top-1 {effect.top1:.1%} ({100 * (effect.top1 - found.top1):+.1f} points)",
        ]
    )
