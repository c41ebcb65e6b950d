from __future__ import annotations

import numpy as np
import pytest

from normlab.data import Loader, TokenFile, fixed_windows
from normlab.data.tokenfile import TokenWriter
from normlab.errors import UserError

T = 8
N_WINDOWS = 37


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    """Token i is i, so that a window tells where it starts; a tail too short for a window."""
    path = tmp_path_factory.mktemp("tokens") / "train.tokens"
    with TokenWriter(path, 1000) as writer:
        writer.begin_document()
        writer.write(np.arange(N_WINDOWS * T + 4, dtype=np.uint16), 0)
        writer.finish({})
    return TokenFile(path)


def starts(batches: list[np.ndarray]) -> list[int]:
    return [int(row[0]) for batch in batches for row in batch]


def test_a_batch_holds_whole_windows_at_multiples_of_seq_len(tokens: TokenFile) -> None:
    batch = Loader(tokens, T, 4, seed=0).batch(0)
    assert batch.shape == (4, T + 1) and batch.dtype == np.int64
    for row in batch:
        assert row[0] % T == 0
        assert row.tolist() == list(range(row[0], row[0] + T + 1))


def test_every_window_once_per_epoch_in_another_order_each_time(tokens: TokenFile) -> None:
    loader = Loader(tokens, T, 1, seed=3)
    epochs = [starts([loader.batch(e * N_WINDOWS + i) for i in range(N_WINDOWS)]) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == [i * T for i in range(N_WINDOWS)]
    assert epochs[0] != epochs[1] != epochs[2]


def test_epochs_that_end_inside_a_batch(tokens: TokenFile) -> None:
    one_by_one, by_ten = Loader(tokens, T, 1, seed=3), Loader(tokens, T, 10, seed=3)
    expected = starts([one_by_one.batch(i) for i in range(120)])
    assert starts([by_ten.batch(i) for i in range(12)]) == expected
    assert starts([Loader(tokens, T, 120, seed=3).batch(0)]) == expected  # more than three epochs in one batch


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_batch_of_one_rank(tokens: TokenFile, world: int) -> None:
    whole = Loader(tokens, T, 8, seed=1)
    ranks = [Loader(tokens, T, 8, seed=1, rank=rank, world=world) for rank in range(world)]
    for step in range(12):  # across epochs
        parts = [rank.batch(step) for rank in ranks]
        assert all(part.shape == (8 // world, T + 1) for part in parts)
        assert np.array_equal(np.concatenate(parts), whole.batch(step))


def test_a_batch_depends_on_seed_and_step_alone(tokens: TokenFile) -> None:
    straight = [Loader(tokens, T, 8, seed=1).batch(step) for step in range(12)]
    loader = Loader(tokens, T, 8, seed=1)
    for step in (11, 3, 0, 7, 4, 5):  # resumed anywhere, asked in any order
        assert np.array_equal(loader.batch(step), straight[step])
    assert not np.array_equal(Loader(tokens, T, 8, seed=2).batch(0), straight[0])


def test_the_order_is_fixed_for_good(tokens: TokenFile) -> None:
    """Runs of different versions of normlab are compared, so the order of the tokens must not change."""
    assert starts([Loader(tokens, T, 8, seed=0).batch(0)]) == GOLDEN


GOLDEN = [0, 168, 16, 88, 160, 136, 72, 8]


def test_fixed_windows_are_spread_over_the_text_and_never_overlap(tokens: TokenFile) -> None:
    windows = fixed_windows(tokens, T, 10)
    assert windows.shape == (10, T + 1) and windows.dtype == np.int64
    first = windows[:, 0]
    assert first[0] == 0 and first[-1] >= (N_WINDOWS - 5) * T
    assert all(gap >= T for gap in np.diff(first)) and max(np.diff(first)) - min(np.diff(first)) <= T
    assert np.array_equal(windows, fixed_windows(tokens, T, 10))
    assert fixed_windows(tokens, T, 1000)[:, 0].tolist() == [i * T for i in range(N_WINDOWS)]


def test_too_short_a_text_and_a_batch_that_cannot_be_shared(tokens: TokenFile) -> None:
    for make in (lambda: Loader(tokens, 400, 4, 0), lambda: fixed_windows(tokens, 400, 4)):
        with pytest.raises(UserError) as error:
            make()
        assert "train.tokens has 300 tokens, but train.seq_len=400 needs 401" in str(error.value)
    assert Loader(tokens, 299, 2, 0).batch(0).shape == (2, 300)
    with pytest.raises(UserError, match=r"train\.batch_size=10 is no multiple of 4 processes; the nearest is 8"):
        Loader(tokens, T, 10, seed=0, world=4)
