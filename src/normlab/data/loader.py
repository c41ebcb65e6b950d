"""Batches without a state: batch = f(seed, step, rank)."""

from __future__ import annotations

import numpy as np

from normlab.data.tokenfile import TokenFile
from normlab.errors import UserError


class Loader:
    """Windows of ``seq_len + 1`` tokens in an order that the seed decides.

    Window i starts at token ``i * seq_len``: the last token of one is the first of the next, so every token
    is predicted once per epoch. Each epoch is a new permutation of the windows. The batch of a step is the
    same on any number of ranks; rank r takes its contiguous share. Nothing is remembered between calls, so
    resuming is asking for the next step.

    Raises UserError where the text is shorter than one window, or ``world`` does not divide ``batch_size``.
    """

    def __init__(self, tokens: TokenFile, seq_len: int, batch_size: int, seed: int, rank: int = 0, world: int = 1):
        if batch_size % world:
            near = max(world, round(batch_size / world) * world)
            raise UserError(f"train.batch_size={batch_size} is no multiple of {world} processes; the nearest is {near}")
        self.tokens, self.seq_len, self.batch_size, self.seed = tokens.tokens, seq_len, batch_size, seed
        self.n_windows = _count_windows(tokens, seq_len)
        self.share = batch_size // world  # sequences of this rank
        self._offset = rank * self.share
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def batch(self, step: int) -> np.ndarray:
        """Step 0 is the first. (batch_size / world, seq_len + 1) int64: inputs are [:, :-1], targets [:,
        1:].
        """
        first = step * self.batch_size + self._offset
        windows = [self._window(position) for position in range(first, first + self.share)]
        return _gather(self.tokens, windows, self.seq_len)

    def _window(self, position: int) -> int:
        """The window that stands at a position of the endless sequence of epochs."""
        epoch, place = divmod(position, self.n_windows)
        if epoch != self._epoch:  # a cache: the permutation is a function of seed and epoch alone
            key = np.array([self.seed, epoch], dtype=np.uint64)
            # The ranks of raw numbers, not Generator.permutation: of a later numpy, only the raw numbers are
            # promised to be the same.
            self._order = np.argsort(np.random.Philox(key=key).random_raw(self.n_windows), kind="stable")
            self._epoch = epoch
        return int(self._order[place])


def fixed_windows(tokens: TokenFile, seq_len: int, n: int) -> np.ndarray:
    """At most ``n`` windows spread evenly over the text, none overlapping another's targets, the same at
    every call: (min(n, available), seq_len + 1) int64.
    """
    available = _count_windows(tokens, seq_len)
    n = min(n, available)
    return _gather(tokens.tokens, [i * available // n for i in range(n)], seq_len)


def _count_windows(tokens: TokenFile, seq_len: int) -> int:
    """Windows of one epoch: all that are whole."""
    available = (len(tokens) - 1) // seq_len
    if available < 1:
        raise UserError(
            f"{tokens.path.name} has {len(tokens):,} tokens, but train.seq_len={seq_len} needs "
            f"{seq_len + 1:,}; use train.seq_len={max(2, len(tokens) - 1)} at most, or more text"
        )
    return available


def _gather(tokens: np.ndarray, windows: list[int], seq_len: int) -> np.ndarray:
    """(len(windows), seq_len + 1) int64."""
    return np.stack([tokens[w * seq_len : (w + 1) * seq_len + 1] for w in windows]).astype(np.int64)
