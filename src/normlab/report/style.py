"""One look for every figure: a placement has the same colour everywhere, and grey means context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# Okabe and Ito's eight for the methods most often compared; Tol's muted scheme for the others.
_COLOURS = {
    "pre": "#0072B2",
    "post": "#D55E00",
    "hybrid": "#009E73",
    "hybrid_star": "#CC79A7",
    "pre_qk": "#56B4E9",
    "sandwich": "#E69F00",
    "none": "#000000",
    "pre_qkv": "#332288",
    "qkv_pre": "#44AA99",
    "peri": "#882255",
    "olmo2": "#999933",
    "deepnorm": "#661100",
    "mix_ln": "#6A3D9A",
    "layernorm_scaling": "#117733",
    "parallel": "#CC6677",
}
_OTHERS = ("#DDCC77", "#88CCEE", "#AA4499", "#6699CC", "#B8860B", "#4D4D4D")
_STROKES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Look:
    """How one row is drawn in every figure."""

    colour: str
    stroke: Any
    marker: str


class HasPlacement(Protocol):
    """A row of a table, a group of runs: whatever belongs to a placement."""

    @property
    def placement(self) -> str: ...


def looks(rows: Sequence[HasPlacement]) -> list[Look]:
    """A look per row: the colour says the placement, the stroke tells rows of the same placement apart.

    Where all rows share one placement, colour has nothing to say about it and tells the rows apart instead.
    """
    placements = [row.placement for row in rows]
    unknown = sorted(set(placements) - _COLOURS.keys())
    palette = _COLOURS | {name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(unknown)}
    if len(set(placements)) == 1 and len(rows) > 1:
        colours = list(_COLOURS.values())
        return [Look(colours[i % len(colours)], "-", _MARKERS[i % len(_MARKERS)]) for i in range(len(rows))]
    found = []
    for index, placement in enumerate(placements):
        before = placements[:index].count(placement)
        found.append(Look(palette[placement], _STROKES[before % len(_STROKES)], _MARKERS[index % len(_MARKERS)]))
    return found
