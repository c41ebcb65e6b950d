"""Which documents are trained on and which are held out, decided by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

from normlab.config.schema import DataConfig
from normlab.data.sources import Source
from normlab.errors import UserError

Split = Literal["train", "val"]


def split_source(source: Source, config: DataConfig) -> Iterator[tuple[Split, str]]:
    """Every document with its split. ``max_bytes`` bounds what is read of the train text, and of a source's
    own validation text too: nobody wants to download more to validate on than to train on.
    """
    train = limited(source.train(), config.max_bytes)
    val = source.val()
    if val is None:
        return hold_out(train, config.val_fraction)
    first = next(val, None)  # now, and not after hours of train text, is the time to find fault with it
    if first is None:
        raise UserError(f"the validation text of data.source={config.source} is empty")
    val = limited(chain([first], val), config.max_bytes)
    return chain(_labelled("train", train), _labelled("val", val))


def _labelled(split: Split, texts: Iterable[str]) -> Iterator[tuple[Split, str]]:
    return ((split, text) for text in texts)


def limited(texts: Iterable[str], max_bytes: int | None) -> Iterator[str]:
    """Texts up to ``max_bytes`` of UTF-8; the one that crosses the bound is cut."""
    room = max_bytes
    for text in texts:
        if room is not None:
            raw = text.encode()
            if len(raw) >= room:
                yield raw[:room].decode(errors="ignore")
                return
            room -= len(raw)
        yield text


def hold_out(texts: Iterable[str], fraction: float) -> Iterator[tuple[Split, str]]:
    """Hold out the documents whose content hash, as a number in [0, 1), is below ``fraction``.

    The same document falls on the same side whatever stands beside it. Both sides get something: while all
    documents have fallen on one side, the one whose hash is nearest to the border is held back, and at the
    end of the text it changes sides. A single document is cut in two by characters, its end held out.
    """
    held: tuple[float, str] | None = None
    both_sides, n_documents = False, 0
    for text in texts:
        n_documents += 1
        position = _position(text)
        side: Split = "val" if position < fraction else "train"
        if both_sides:
            yield side, text
        elif held is None:
            held = position, text
        elif (held[0] < fraction) != (position < fraction):
            both_sides = True
            yield "train" if side == "val" else "val", held[1]
            yield side, text
        elif abs(position - fraction) < abs(held[0] - fraction):
            yield side, held[1]
            held = position, text
        else:
            yield side, text
    if both_sides or held is None:
        return
    if n_documents == 1:
        cut = len(held[1]) - max(1, round(len(held[1]) * fraction))
        yield "train", held[1][:cut]
        yield "val", held[1][cut:]
    else:
        yield "train" if held[0] < fraction else "val", held[1]


def _position(text: str) -> float:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
