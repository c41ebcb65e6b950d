"""What a slot's process runs: ``python -m normlab.sweep.serve``, cell after cell.

Imports, wandb's service and compiled code are paid for once. What else a cell could leave behind for the next is
undone in between, and after a cell that did not end well there is no next: the process ends with that cell's code.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import warnings
from collections.abc import Callable, Sequence

from normlab.allocator import give_back_memory
from normlab.errors import EXIT_DISK

_PLACEMENTS = 16  # whose compiled code is kept at once
_NO_LIMIT = 2**20


def serve(run: Callable[[Sequence[str]], int]) -> int:
    """Run the cells that come in on standard input, a line of JSON each, and answer each with a line.

    Returns 0 when the sweep has no more, or the exit code of the first cell that did not end with 0.
    """
    compiled = _CompiledCode()
    with socket.socket(fileno=os.dup(0)) as line, line.makefile("r") as orders:
        _point(0, os.devnull, os.O_RDONLY)
        for text in orders:
            order = json.loads(text)
            try:
                _point(1, order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            except OSError:
                return EXIT_DISK
            os.dup2(1, 2)
            compiled.expect(order["shapes"], order["placement"])
            with warnings.catch_warnings():  # also forgets which warnings have been shown
                if code := run(order["words"]):
                    return code
            _clean_up()
            try:
                line.sendall(b"done\n")
            except OSError:  # the sweep is gone
                break
    return 0


def _point(descriptor: int, path: str, flags: int) -> None:
    """Below Python, so that what C code and children write goes there too. Nothing is buffered: see ``Slot``."""
    opened = os.open(path, flags, 0o666)
    os.dup2(opened, descriptor)
    os.close(opened)


class _CompiledCode:
    """What ``torch.compile`` made for earlier cells serves the later ones, as long as it is what they would make.

    Where shapes change it is not: a size that has been seen with two values becomes a variable in the code.
    """

    def __init__(self) -> None:
        self._shapes: str | None = None
        self._placements: set[str] = set()

    def expect(self, shapes: str, placement: str) -> None:
        """The next cell's."""
        dynamo = sys.modules.get("torch._dynamo")
        self._placements.add(placement)
        if shapes != self._shapes or len(self._placements) > _PLACEMENTS:
            if dynamo:
                dynamo.reset()
            self._placements = {placement}
        self._shapes = shapes
        if dynamo:  # whose limits are for one network, and which goes on eagerly beyond them
            dynamo.config.recompile_limit = dynamo.config.accumulated_recompile_limit = _NO_LIMIT


def _clean_up() -> None:
    gc.collect()  # a network is full of cycles
    if (torch := sys.modules.get("torch")) and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    give_back_memory()


if __name__ == "__main__":
    from normlab.cli import main

    sys.exit(serve(main))
