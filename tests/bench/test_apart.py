"""A contestant in a process of its own answers as it would here, and its end is said in one line."""

from __future__ import annotations

import os

import pytest
import torch

from normlab.bench.apart import Apart, here
from normlab.errors import UserError


class Counter:
    def __init__(self, start: int) -> None:
        if start < 0:
            raise UserError("a counter starts at 0 or above")
        self.value = start

    def add(self, n: int) -> tuple[int, int, int]:
        self.value += n
        return self.value, torch.get_num_threads(), os.getpid()

    def refuse(self) -> None:
        raise UserError("not today")

    def die(self) -> None:
        os._exit(3)


def test_it_keeps_its_state_in_its_own_process():
    with Apart(1, Counter, 5) as ask:
        assert ask("add", 2)[:2] == (7, 1)
        value, _, process = ask("add", 1)
        assert value == 8 and process != os.getpid()


def test_here_is_the_same_without_a_process():
    ask = here(Counter, 5)
    assert ask("add", 2)[0] == 7 and ask("add", 1)[2] == os.getpid()


def test_what_goes_wrong_is_said_in_one_line():
    with pytest.raises(UserError, match="starts at 0"):
        Apart(1, Counter, -1)
    with Apart(1, Counter, 0) as ask:
        with pytest.raises(UserError, match="not today"):
            ask("refuse")
        assert ask("add", 1)[0] == 1  # and it goes on
        with pytest.raises(UserError, match="ended with 3"):
            ask("die")
