"""The training loop: steps, and between them bulk reads, validation, probes, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from normlab.config.schema import Config
from normlab.data import Loader, Prepared, fixed_windows
from normlab.model.gpt import GPT
from normlab.model.profile import profile_skips
from normlab.observe.depth import step_scalars
from normlab.observe.gradients import initial_gradients
from normlab.observe.histograms import HistogramProbe, step_probe
from normlab.observe.layers import first_nonfinite, probe_activations, probe_deep
from normlab.observe.sinks import DiskSink, Row, Sink
from normlab.observe.throughput import ThroughputMeter
from normlab.observe.updates import StepProbe
from normlab.training.checkpoint import Saved, load_checkpoint, save_checkpoint
from normlab.training.console import TrainingView
from normlab.training.folder import RunFolder
from normlab.training.graph import as_asked
from normlab.training.hardware import Hardware
from normlab.training.held_out import mean_loss
from normlab.training.optim import build_optimizer
from normlab.training.parallel import Parallel
from normlab.training.schedule import learning_rate
from normlab.training.signals import StopRequest
from normlab.training.step import StepRow, TrainingStep


@dataclass
class Result:
    """How a loop ended."""

    status: str  # done, diverged, interrupted
    step: int  # the last step that counts
    nonfinite: dict[str, Any] | None = None  # of a diverged run: where its numbers stopped being finite
    signal: int | None = None
    seconds: float = 0.0
    tokens_per_s: float | None = None


class _Pending(NamedTuple):
    """A step whose scalars still lie on the device."""

    step: int
    lr: float
    values: Tensor


class Flushed(NamedTuple):
    """The steps of one bulk read, up to the first that is not finite."""

    steps: list[tuple[int, StepRow]]
    broken: bool  # the last one is not finite


class TrainingLoop:
    """One run from its last checkpoint to its end. Of several processes, all go through it side by side."""

    def __init__(
        self, config: Config, folder: RunFolder, network: GPT, data: Prepared, hardware: Hardware,
        parallel: Parallel | None = None,
    ) -> None:  # fmt: skip
        train = config.train
        self.config, self.folder, self.hardware, self.parallel = config, folder, hardware, parallel or Parallel()
        rank, world = self.parallel.rank, self.parallel.world
        share = self.parallel.share_of(config)
        self.network = self.parallel.shard(network, hardware.device)
        self.optimizer = build_optimizer(self.network, config.optim, hardware.graphed)
        self.micro_batch_size = share.train.sequences_per_forward
        self.step = TrainingStep(self.network, self.optimizer, hardware, share, self.parallel)
        self.take_step = as_asked(self.step)
        self.loader = Loader(data.train, train.seq_len, train.batch_size, config.seed, rank, world)
        self.validation = torch.from_numpy(fixed_windows(data.val, train.seq_len, config.eval.windows))
        # One frozen batch for every probe, the same for every run on this data.
        frozen = torch.from_numpy(fixed_windows(data.val, train.seq_len, config.observe.probe_sequences))
        self.probe_tokens, self.probe_targets = (part.to(hardware.device) for part in (frozen[:, :-1], frozen[:, 1:]))
        self.bytes_per_token = data.bytes_per_token
        saved = load_checkpoint(folder.checkpoints, self.network, self.optimizer, self.parallel) or Saved(0, 0.0, {})
        self.start, self.seconds, self.marks = saved.step, saved.seconds, saved.marks
        self._rate_before = saved.tokens_per_s  # of a run that is mended at its end no step is left to be timed
        self.meter = ThroughputMeter(train.batch_size * train.seq_len)
        self._pending: list[_Pending] = []

    def run(self, disk: DiskSink | None, mirrors: Sequence[Sink], stop: StopRequest, view: TrainingView) -> Result:
        """Train to the end, to a divergence, or to a request to stop. Only the main process has sinks."""
        self.begin(disk, mirrors, view)
        last = self.config.train.steps
        for step in range(self.start + 1, last + 1):
            probe = step_probe(self.step.map, self.config.wandb.histograms) if self._probes_at(step) else None
            self.advance(step, probe)

            signal = self.parallel.agreed(stop.signal)
            validate = step % self.config.eval.every == 0 or step == last
            save = step % self.config.checkpoint.every == 0 or step == last
            if not (signal or validate or save or probe or step % self.config.observe.flush_every == 0):
                continue
            flushed = self.flush()
            if flushed.broken:
                return self._diverged(flushed)
            if validate:
                self._validate(step)
            if probe:
                self.look(step, flushed.steps[-1][1], probe)
            if save or signal:
                self._save(step)
            if signal and step < last:
                return self._result("interrupted", step, signal=signal)
            self._clock = time.perf_counter()
        return self._result("done", last)

    def begin(self, disk: DiskSink | None, mirrors: Sequence[Sink], view: TrainingView) -> None:
        """Compile, and look at a network that has not made a step yet."""
        self.disk, self.view = disk, view
        self.sinks: list[Sink] = [*([disk] if disk else []), *mirrors]
        if self.start == 0:
            first = self.parallel.of_main(self.batch(1)[: self.micro_batch_size, :-1].contiguous())
            profile_skips(self.network, first)
        self.step.warm_up(self.batch(self.start + 1)[: self.micro_batch_size])
        if self.start == 0:
            self._validate(0)
            self.look(0)
        self.network.set_step(self.start)
        self._clock = time.perf_counter()

    def advance(self, step: int, probe: StepProbe | None = None) -> None:
        """Train on the batch of 1-based ``step``. Nothing waits for the device."""
        lr = learning_rate(self.config.optim, step, self.config.train.steps)
        self._pending.append(_Pending(step, lr, self.take_step(self.batch(step), lr, probe)))
        self.network.set_step(step)

    def batch(self, step: int) -> Tensor:
        """This process's share of the tokens of 1-based ``step``, (B / processes, T + 1)."""
        batch = torch.from_numpy(self.loader.batch(step - 1))
        if self.hardware.device.type == "cuda":
            return batch.pin_memory().to(self.hardware.device, non_blocking=True)
        return batch

    def _probes_at(self, step: int) -> bool:
        observe = self.config.observe
        if step % observe.probe_every == 0 or step == self.config.train.steps:
            return True
        return step in observe.probe_at or step in observe.deep_at

    def flush(self) -> Flushed:
        """Read the scalars of all steps since the last time, at once, and log those up to the first that is not finite:
        what comes after it says nothing."""
        pending, self._pending = self._pending, []
        read = self.step.read([each.values for each in pending])
        seconds = time.perf_counter() - self._clock
        self.seconds += seconds
        self.meter.update(len(read), seconds)
        self._clock = time.perf_counter()
        rows: list[Row] = []
        broken = False
        train, clip = self.config.train, self.config.optim.grad_clip
        for (step, lr, _), scalars in zip(pending, read, strict=True):
            loss, norm = scalars.measured["loss"], scalars.measured["grad_norm"]
            clipped = int(clip is not None and norm > clip)
            counted = {"clipped": clipped, "lr": lr, "tokens": step * train.batch_size * train.seq_len}
            rows.append({"step": step, **scalars.measured, **step_scalars(scalars.grad_norm), **counted})
            broken = not (math.isfinite(loss) and math.isfinite(norm))
            if broken:
                break
        self._log(rows)
        self.view.update(rows[-1]["step"], rows[-1]["loss"], rows[-1]["grad_norm"], self.meter.tokens_per_second)
        return Flushed([(row["step"], scalars) for row, scalars in zip(rows, read, strict=False)], broken)

    def _validate(self, step: int) -> None:
        rank, world, autocast = self.parallel.rank, self.parallel.world, self.hardware.autocast()
        self.network.eval()
        with self.parallel.looking():
            loss = mean_loss(self.network, self.validation, self.micro_batch_size, autocast, rank, world)
        self.network.train()
        self._log([{"step": step, "val_loss": loss, "val_bpb": loss / math.log(2) / self.bytes_per_token}])
        self.view.validation(step, loss)

    def look(self, step: int, scalars: StepRow | None = None, probe: StepProbe | None = None) -> None:
        """Write a row of what is seen inside the layers, of the step that was just made where ``probe`` watched it."""
        row: Row = {"step": step}
        if scalars is not None and probe is not None:
            row |= {**scalars.gradients(), **probe.read()}
        if step == 0 and (n := self.config.observe.init_batches):
            batches = (self.batch(number) for number in range(1, n + 1))
            row |= initial_gradients(self.step.backward, self.network, self.step.map, batches)
        with self.parallel.looking():
            row |= probe_activations(self.network, self.probe_tokens)
            if step in self.config.observe.deep_at or step == self.config.train.steps:
                row |= self._look_deep(step)
        self._write(row)
        if isinstance(probe, HistogramProbe):
            found = probe.histograms()
            for sink in self.sinks:
                sink.histograms(step, found)

    def _look_deep(self, step: int) -> Row:
        try:
            return probe_deep(self.network, self.probe_tokens, self.probe_targets)
        except torch.OutOfMemoryError:  # it is a backward pass in float32, for which a bfloat16 run may have no room
            if self.parallel.world > 1:  # the others are in the middle of it
                raise
            remedy = "observe.probe_sequences=1 takes the least"
            print(f"warning: no deep look at step {step}, the device is out of memory; {remedy}", flush=True)
            return {}

    def _diverged(self, flushed: Flushed) -> Result:
        """Keep the gradients by depth of the last steps, and say where in the network the first bad number is.

        That is looked for in another pass, in evaluation mode and on the cross-entropy alone.
        """
        *before, (broken, last) = flushed.steps
        for step, scalars in before:
            self._write({"step": step, **scalars.gradients()})
        # The weights are still those of that step, see TrainingStep; schedules have moved on.
        self.network.set_step(broken - 1)
        batch = self.batch(broken)
        with self.parallel.looking():
            seen = probe_activations(self.network, batch[: self.config.observe.probe_sequences, :-1])
        self._write({"step": broken, **last.gradients(), **seen})
        with self.parallel.looking(), self.hardware.autocast():
            found = (
                first_nonfinite(self.network, micro[:, :-1], micro[:, 1:])
                for micro in batch.split(self.micro_batch_size)
            )
            return self._result("diverged", broken, nonfinite=next(filter(None, found), None))

    def _write(self, row: Row) -> None:
        for sink in self.sinks:
            sink.probe(row)

    def _log(self, rows: list[Row]) -> None:
        for sink in self.sinks:
            sink.log(rows)

    def _save(self, step: int) -> None:
        marks = self.disk.sync() if self.disk else {}  # the checkpoint counts on the rows up to its step
        saved, keep = Saved(step, self.seconds, marks, self._rate()), self.config.checkpoint.keep
        save_checkpoint(self.folder.checkpoints, saved, self.network, self.optimizer, keep, self.parallel)

    def _rate(self) -> float | None:
        return self.meter.tokens_per_second or self._rate_before

    def _result(self, status: str, step: int, nonfinite: Row | None = None, signal: int | None = None) -> Result:
        return Result(status, step, nonfinite, signal, self.seconds, self._rate())
