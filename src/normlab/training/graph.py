"""A training step as one CUDA graph: its kernels are launched together, by one call, instead of one by one from Python.

What a small network's step takes on a GPU is mostly those launches. The step is made for it: nothing in it waits for
the device, its learning rate and the mark of a broken run lie there, and it draws no random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from normlab.observe.updates import StepProbe
from normlab.training.step import TrainingStep, first_line

Work = Callable[[], Tensor]
# Before a capture: Adam makes its moments in the first, and libraries set themselves up (PyTorch's notes on CUDA graphs
# ask for a few on the stream of the capture).
EAGER_STEPS = 3


class Recorder(Protocol):
    """Where work is done before it is recorded, and how that is done."""

    def aside(self, work: Work) -> Tensor:
        """Do the work now, as it will be recorded."""

    def record(self, work: Work) -> Work:
        """What does the same again on the same memory, with the numbers that lie there then; nothing is done now."""


class GraphedStep:
    """``step`` with the same calls, and from the fourth one on as a graph. One that is probed is taken by itself.

    The graph holds its activations for itself, beside those of the steps that are probed.
    """

    def __init__(self, step: TrainingStep, recorder: Recorder | None = None) -> None:
        self.step = step
        self._recorder: Recorder | None = recorder or CudaRecorder()
        self._eager = EAGER_STEPS
        self._recorded: tuple[Tensor, Work] | None = None  # where its batch lies, and what does it

    def __call__(self, batch: Tensor, lr: float, probe: StepProbe | None = None) -> Tensor:
        """As ``TrainingStep``'s."""
        self.step.set_lr(lr)
        if probe or self._recorder is None:
            return self.step.take(batch, probe)
        if self._eager:
            self._eager -= 1
            return self._recorder.aside(lambda: self.step.take(batch))
        self._recorded = self._recorded or self._record(self._recorder, batch)
        if self._recorded is None:
            return self.step.take(batch)
        place, replay = self._recorded
        place.copy_(batch)
        return replay().clone()  # the next replay writes to the same place

    @property
    def graphed(self) -> bool:
        """Whether there is a graph; before the fourth step there is none."""
        return self._recorded is not None

    def _record(self, recorder: Recorder, batch: Tensor) -> tuple[Tensor, Work] | None:
        place = batch.clone()
        try:
            return place, recorder.record(lambda: self.step.take(place))
        except RuntimeError as error:  # out of memory too: a graph keeps its own
            cause: BaseException = error
            while cause.__context__ is not None:  # the end of a capture that failed only says that it did
                cause = cause.__context__
            print(f"warning: no CUDA graph of this step, going on without ({first_line(cause)})", flush=True)
        self.step.optimizer.zero_grad(set_to_none=True)  # of a backward pass that was only recorded
        self._recorder = None
        return None


def as_asked(step: TrainingStep) -> TrainingStep | GraphedStep:
    """``step``, as a graph where ``train.cuda_graph`` asks for one and there is a GPU."""
    return GraphedStep(step) if step.hardware.graphed else step


class CudaRecorder:
    """``torch.cuda.graph``, on a stream of its own."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def aside(self, work: Work) -> Tensor:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            found = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return found

    def record(self, work: Work) -> Work:
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                found = work()
        finally:
            torch.cuda.set_stream(before)  # where a capture fails, torch leaves its own in force

        def replay() -> Tensor:
            graph.replay()
            return found

        return replay
