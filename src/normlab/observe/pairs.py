"""What the rows and columns of a matrix over pairs of layers are, and what the first of each is called."""

from __future__ import annotations

Axes = dict[str, tuple[str, int]]

MATRIX_AXES: dict[str, Axes] = {
    "angular_distance": {"rows": ("blocks before, l", 0), "columns": ("blocks between, n", 1)}
}
_ANY_MATRIX: Axes = {"rows": ("layer", 1), "columns": ("layer", 1)}


def matrix_axes(quantity: str) -> Axes:
    """``rows`` and ``columns``: their title and the number of the first."""
    return MATRIX_AXES.get(quantity, _ANY_MATRIX)
