"""Our side: what a run does between two validations, from the run's own parts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from normlab.allocator import keep_freed_memory
from normlab.bench.shapes import vocabulary
from normlab.config.schema import Config
from normlab.data import Loader, TokenFile
from normlab.data.tokenfile import TokenWriter
from normlab.model.gpt import GPT
from normlab.observe.depth import step_scalars
from normlab.observe.layers import probe_activations
from normlab.observe.sinks import DiskSink, Row
from normlab.observe.updates import StepProbe
from normlab.training.graph import EAGER_STEPS, as_asked
from normlab.training.hardware import resolve_hardware
from normlab.training.optim import build_optimizer
from normlab.training.schedule import learning_rate
from normlab.training.step import StepRow, TrainingStep

_WINDOWS = 64  # batches of a token file


class OurTraining:
    """One run's network and optimizer, with its batches, its rows on disk and its looks inside.

    ``folder`` gets metrics.jsonl and probes.jsonl. ``keep_memory``: as a run does, for all of this process.
    """

    def __init__(self, config: Config, tokens: TokenFile, folder: Path, keep_memory: bool = True) -> None:
        self.config, self.hardware = config, resolve_hardware(config.train)
        if keep_memory and self.hardware.device.type == "cpu":
            keep_freed_memory()
        self.network = GPT(config, vocabulary(config)).to(self.hardware.device)
        optimizer = build_optimizer(self.network, config.optim, self.hardware.graphed)
        self.step = TrainingStep(self.network, optimizer, self.hardware, config)
        self.take_step = as_asked(self.step)
        self.loader = Loader(tokens, config.train.seq_len, config.train.batch_size, config.seed)
        self.disk = DiskSink(folder)
        self.probe_tokens = self.batch()[: config.observe.probe_sequences, :-1]
        self.done = 0

    def warm_up(self) -> None:
        """Compile, and make the graph where there is to be one; a second call is a step that nobody needs."""
        self.step.warm_up(self.batch()[: self.config.train.sequences_per_forward])
        if self.hardware.graphed:
            self.train(EAGER_STEPS + 1)

    def batch(self, step: int = 0) -> Tensor:
        batch = torch.from_numpy(self.loader.batch(step))
        if self.hardware.device.type == "cuda":
            return batch.pin_memory().to(self.hardware.device, non_blocking=True)
        return batch

    def train_unobserved(self, n: int) -> None:
        """n steps that measure nothing: the norm that clipping needs, and no more."""
        for _ in range(n):
            batch, lr = self.next()
            self.step.backward(batch)
            if self.config.optim.grad_clip is not None:
                nn.utils.clip_grad_norm_(self.step.parameters, self.config.optim.grad_clip, foreach=True)
            self.update(lr)

    def train(self, n: int) -> None:
        """n steps; the scalars of each are read and written in bulk, as a run does it."""
        pending: list[Tensor] = []
        for number in range(1, n + 1):
            pending.append(self._step(None))
            if number % self.config.observe.flush_every == 0 or number == n:
                self._flush(pending)
                pending = []

    def look(self, n: int) -> None:
        """n steps that look inside the layers, as a run does it every ``observe.probe_every`` steps."""
        for _ in range(n):
            probe = StepProbe(self.step.map)
            scalars = self._flush([self._step(probe)])[0]
            row: Row = {"step": self.done, "grad_norm": scalars.grad_norm, "grad_norm_group": scalars.grad_norm_group}
            row |= {**probe.read(), **probe_activations(self.network, self.probe_tokens)}
            self.disk.probe(row)

    @contextlib.contextmanager
    def gradients_given(self) -> Iterator[None]:
        """Within it a step gets the same gradients every time, without forward and backward: what is left of it is
        short enough for a few microseconds to show on a machine that is not quiet."""
        backward = self.step.backward
        measured = backward(self.batch())
        given = [None if p.grad is None else p.grad.clone() for p in self.step.parameters]

        def give(batch: Tensor) -> Tensor:
            for parameter, gradient in zip(self.step.parameters, given, strict=True):
                parameter.grad = None if gradient is None else gradient.clone()  # clipping works in place
            return measured

        self.step.backward = give  # type: ignore[method-assign]
        try:
            yield
        finally:
            self.step.backward = backward  # type: ignore[method-assign]
            self.step.optimizer.zero_grad(set_to_none=True)

    def loss(self, tokens: Tensor, targets: Tensor) -> float:
        """The loss on a batch, without training on it."""
        device = self.hardware.device
        with torch.no_grad(), self.hardware.autocast():
            return float(self.network(tokens.to(device), targets.to(device)))

    def next(self) -> tuple[Tensor, float]:
        """The batch of the next step and its learning rate."""
        self.done += 1
        within = (self.done - 1) % self.config.train.steps + 1  # a benchmark may last longer than the run
        self.network.set_step(within - 1)
        lr = learning_rate(self.config.optim, within, self.config.train.steps)
        return self.batch(self.done - 1), lr

    def update(self, lr: float) -> None:
        """What follows the gradients in a training loop that measures nothing."""
        self.step.set_lr(lr)
        self.step.optimizer.step()
        self.network.after_update()
        self.step.optimizer.zero_grad(set_to_none=True)

    def _step(self, probe: StepProbe | None) -> Tensor:
        return self.take_step(*self.next(), probe)

    def _flush(self, pending: list[Tensor]) -> list[StepRow]:
        first = self.done - len(pending) + 1
        read = self.step.read(pending)
        numbered = enumerate(read, first)
        self.disk.log([{"step": step, **row.measured, **step_scalars(row.grad_norm)} for step, row in numbered])
        return read


def random_tokens(config: Config, folder: Path) -> TokenFile:
    """A token file of uniformly drawn tokens: speed does not depend on what the text says."""
    vocab, train = vocabulary(config), config.train
    path = folder / f"tokens-{vocab}-{train.batch_size}-{train.seq_len}"
    if not path.exists():
        n = _WINDOWS * train.batch_size * train.seq_len + 1
        with TokenWriter(path, vocab) as writer:
            writer.begin_document()
            writer.write(np.random.default_rng(0).integers(vocab, size=n).astype(writer.dtype), n)
            writer.finish({})
    return TokenFile(path)
