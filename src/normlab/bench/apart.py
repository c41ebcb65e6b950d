"""A contestant in a process of its own: it has the memory allocator, the threads and the compiled code that it would
have alone, and changes nobody else's."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

from normlab.errors import UserError

Ask = Callable[..., Any]  # ("method", *arguments) -> what the contestant's method returns


class Apart:
    """``ask = Apart(threads, build, *given)``: ``ask("train", 3)`` is ``build(*given).train(3)`` in that process, which
    waits between.

    ``build``, what it is given and what its methods take and return are pickled. Raises UserError as they do, and where
    the process ends.
    """

    def __init__(self, threads: int, build: Callable[..., object], *given: object) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would have this process's allocator and locks
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, threads, build, given), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def __call__(self, method: str, *given: object) -> Any:
        self._pipe.send((method, given))
        return self._answer()

    def __enter__(self) -> Apart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()  # it reads the end, and ends
        self._process.join(10)
        self._process.kill()

    def _answer(self) -> Any:
        try:
            failed, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(10)
            raise UserError(
                f"a process of the benchmark ended with {self._process.exitcode}; is memory short?"
            ) from None
        if failed:
            raise answer
        return answer


def here(build: Callable[..., object], *given: object) -> Ask:
    """The same in this process: on a GPU, whose memory all share and where one allocator serves all alike."""
    contestant = build(*given)
    return lambda method, *arguments: getattr(contestant, method)(*arguments)


def _serve(pipe: Connection, threads: int, build: Callable[..., object], given: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for who asks
    torch.set_num_threads(threads)
    contestant: object = None
    method: str | None = None
    arguments: tuple[object, ...] = ()
    while True:
        try:
            answer = None
            if method is None:
                contestant = build(*given)
                gc.collect()
                gc.freeze()  # collections look at what is new; torch alone brings a million objects
            else:
                gc.collect()
                gc.disable()
                answer = getattr(contestant, method)(*arguments)
                gc.enable()
            pipe.send((False, answer))
        except UserError as error:
            pipe.send((True, error))
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
