"""Which layers a key of ``over`` names."""

from __future__ import annotations

import re

from normlab.errors import UserError
from normlab.placement.expression import evaluate


def layers_of(text: str, n_layers: int) -> list[int]:
    """The 1-based layers that a key of ``over`` names: ``1``, ``1..ceil(L/4)``, ``even``, ``odd``, ``1,2,L``."""
    where = f"placement.over['{text}']"
    layers: list[int] = []
    for part in re.split(r",(?![^(]*\))", text):
        part = part.strip()
        if part in ("even", "odd"):
            layers += [layer for layer in range(1, n_layers + 1) if layer % 2 == (part == "odd")]
            continue
        ends = [_layer_number(end, n_layers, where) for end in part.split("..")]
        if len(ends) > 2:
            raise UserError(f"{where}: write layers as 1, 1..ceil(L/4), even or odd")
        if ends[0] < 1 or ends[-1] > n_layers:
            raise UserError(f"{where}: names no layer between 1 and {n_layers}")
        layers += range(ends[0], ends[-1] + 1)
    if not layers:
        raise UserError(f"{where}: names no layer between 1 and {n_layers}")
    return layers


def _layer_number(text: str, n_layers: int, where: str) -> int:
    try:
        number = evaluate(text, {"L": n_layers})
    except UserError as error:
        raise UserError(f"{where}: {error}; write layers as 1, 1..ceil(L/4), even or odd") from None
    if number != int(number):
        raise UserError(f"{where}: '{text}' is {number:g} at L={n_layers}, not a layer; use ceil(...) or floor(...)")
    return int(number)
