"""A contestant in a process of its own: it has the memory allocator, the threads and the compiled code that it would
have alone, and changes nobody else's."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

from normlab.errors import UserError

_PATIENCE = 10.0  # seconds until a process that should end is killed

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
        with _interrupts_ignored():  # inherited: a Ctrl-C is for who asks
            self._process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def __call__(self, method: str, *given: object) -> Any:
        with contextlib.suppress(OSError):  # it has ended: what there is to say comes from `_answer`
            self._pipe.send((method, given))
        return self._answer()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._pipe.close()  # at rest, it reads the end, and ends
        self._process.join(_PATIENCE)
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Apart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> Any:
        try:
            failed, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(_PATIENCE)
            code = self._process.exitcode
            why = "was killed; is memory short?" if code == -signal.SIGKILL else f"ended with {code}"
            raise UserError(f"a process of the benchmark {why}") from None
        if failed:
            raise answer
        return answer


def here(build: Callable[..., object], *given: object) -> Ask:
    """The same in this process: on a GPU, whose memory all share and where one allocator serves all alike."""
    contestant = build(*given)
    return lambda method, *arguments: getattr(contestant, method)(*arguments)


def _serve(pipe: Connection, threads: int, build: Callable[..., object], given: tuple[object, ...]) -> None:
    torch.set_num_threads(threads)

    def answer(function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        # What is there already is not looked at again: torch alone brings a million objects, a compiler as many.
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            pipe.send((False, function(*arguments)))
        except UserError as error:
            pipe.send((True, error))

    made: list[object] = []
    answer(lambda: made.append(build(*given)), ())
    with contextlib.suppress(EOFError):  # nobody asks any more
        while True:
            method, arguments = pipe.recv()
            answer(getattr(made[0], method), arguments)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
