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
_EAGER_STEPS = 3


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
        self._eager = _EAGER_STEPS
        self._recorded: tuple[Tensor, Work] | None = None  # where its batch lies, and what does it

    def __call__(self, batch: Tensor, lr: float, probe: StepProbe | None = None) -> Tensor:
        """As ``TrainingStep``'s."""
        self.step.set_lr(lr)
        if probe or self._recorder is None:
            return self.step.take(batch, probe)
        if self._eager:
            self._eager -= 1
            return self._recorder.aside(lambda: self.step.take(batch))
        if self._recorded is None:
            place = batch.clone()
            try:
                self._recorded = place, self._recorder.record(lambda: self.step.take(place))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                print(f"warning: no CUDA graph of this step, going on without ({first_line(error)})", flush=True)
                self.step.optimizer.zero_grad(set_to_none=True)  # of a backward pass that was only recorded
                self._recorder = None
                return self.step.take(batch)
        place, replay = self._recorded
        place.copy_(batch)
        return replay().clone()  # the next replay writes to the same place


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
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            found = work()

        def replay() -> Tensor:
            graph.replay()
            return found

        return replay
