"""Quantities as people write them: counts with a unit, durations."""

from __future__ import annotations

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def count(number: float, digits: int = 3, gap: str = " ") -> str:
    """``1.23 M``: so many ``digits`` count."""
    for scale, unit in _UNITS:
        if number >= scale:
            return f"{number / scale:.{digits}g}{gap}{unit}"
    return f"{number:g}"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
