"""Quantities as people write them: counts with a unit, durations."""

from __future__ import annotations

from typing import Any

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def count(number: float, digits: int = 3, gap: str = " ") -> str:
    """``1.23 M``: so many ``digits`` count."""
    for scale, unit in _UNITS:
        if number >= scale:
            return f"{number / scale:.{digits}g}{gap}{unit}"
    return f"{number:g}"


def as_number(value: Any) -> float | None:
    """A setting's value as a number, where it is one: 1e-3, which YAML reads as a word, too."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
