"""``normlab train``: one run from its configuration to its summary, whatever state its folder is in."""

from __future__ import annotations

import contextlib
import errno
from typing import Any

import torch

from normlab.allocator import keep_freed_memory
from normlab.config.lock import run_lock
from normlab.config.schema import Config
from normlab.data import Prepared, prepare
from normlab.data.anchors import window_anchors
from normlab.errors import UserError
from normlab.files import unwritable
from normlab.mirror.sink import WandbSink, open_wandb
from normlab.model.gpt import GPT, count_parameters
from normlab.observe.depth import summarize_depth
from normlab.observe.diagnosis import diagnose
from normlab.observe.outcome import classify, first_bad_step
from normlab.observe.sinks import DiskSink, Sink, read_rows, rewind
from normlab.observe.spikes import clip_rate, startup_overshoot, summarize_spikes
from normlab.observe.throughput import flops_per_token, mfu
from normlab.results import FINISHED
from normlab.training.console import TrainingView
from normlab.training.folder import RunFolder
from normlab.training.hardware import resolve_hardware
from normlab.training.loop import Result, TrainingLoop
from normlab.training.parallel import Parallel, joined
from normlab.training.signals import StopRequest

# What a disk says that is full, broken or not ours to write; any other OSError is not about a disk.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_FINAL_SHARE = 0.05  # the final training loss is the mean over this share of the steps ...
_FINAL_LEAST = 10  # ... and over at least so many
_MANY_EPOCHS = 4  # beyond about four, repeated text is worth less than new: Muennighoff et al. 2023 (arXiv 2305.16264)


def train(config: Config) -> dict[str, Any]:
    """Train one run and return its summary: start it, resume it where it was cut, or do nothing if it is done.

    Started by ``torchrun``, one of several processes that train it together; each returns the summary. Raises
    UserError for whatever the user can mend. A divergence is a result, not an error.
    """
    folder = RunFolder(config)
    with joined(config.train) as parallel, contextlib.ExitStack() as held:
        parallel.first(lambda: held.enter_context(run_lock(folder.path)))
        if summary := parallel.first(folder.finished):
            print(f"{folder.path}: {summary['status']} already", flush=True)
            return summary
        try:
            return _train(config, folder, parallel)
        except torch.OutOfMemoryError as error:
            folder.mark_failed("out of memory")
            remedy = "a smaller train.micro_batch_size gives the same run in less memory"
            raise UserError(f"the device is out of memory: {remedy}") from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _OF_DISKS:  # even of printing
                folder.mark_failed(_one_line(error))
                raise unwritable(folder.path, error) from error
            if parallel.lost_another(error):
                if folder.summary().get("status") != "failed":  # by the one that knows why
                    folder.mark_failed("another process of the run ended")
                raise UserError("another process of this run ended; the same command goes on from here") from error
            folder.mark_failed(_one_line(error))
            raise


def _train(config: Config, folder: RunFolder, parallel: Parallel) -> dict[str, Any]:
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    hardware = resolve_hardware(config.train)
    if config.train.cuda_graph and hardware.device.type != "cuda":
        print("note: no GPU here, so train.cuda_graph=true changes nothing", flush=True)
    data = prepare(config.data)
    if hardware.device.type == "cpu":
        keep_freed_memory()
    parallel.first(lambda: _check_fit(config, data))
    if len(set(parallel.gather(data.fingerprint))) > 1:
        raise UserError("the processes of this run prepared different data; let data.cache_dir be one that all can see")
    network = GPT(config, config.model.vocab_size or data.vocab_size)
    parallel.first(lambda: parallel.check(config, network))
    parallel.first(lambda: folder.begin(hardware, parallel, data.fingerprint))
    params = count_parameters(network)
    loop = TrainingLoop(config, folder, network, data, hardware, parallel)
    parallel.first(lambda: rewind(folder.path, loop.marks))  # without a checkpoint the run starts anew

    base = folder.base_summary() | {
        "params": params,
        "precision": hardware.precision,
        "compiled": hardware.compiled,
        "cuda_graph": hardware.graphed,
        "device": hardware.name,
        "processes": parallel.world,
        "data": data.summary() | window_anchors(data.train, loop.validation.numpy(), data.vocab_size),
    }
    parallel.first(lambda: folder.write_summary(base))
    mirror = open_wandb(config, folder.path, resumed=loop.start > 0) if parallel.main else None
    disk = DiskSink(folder.path) if parallel.main else None
    mirrors: list[Sink] = [mirror] if mirror else []
    view = TrainingView(f"{config.placement.name} seed {config.seed}", loop.start, config.train.steps)
    exit_code = 1
    summary = base
    try:
        with StopRequest() as stop:
            result = loop.run(disk, mirrors, stop, view)
        base |= {"compiled": loop.step.compiled, "cuda_graph": loop.take_step.graphed}
        summary = parallel.first(
            lambda: _end(
                folder, base, _summarise(config, folder, result, base["data"]["unigram_ce"]), _speed(loop, result)
            )
        )
        exit_code = 0
    finally:
        view.close()
        for sink in (*mirrors, *([disk] if disk else [])):  # a full disk must not leave a mirror open
            sink.finish(summary, exit_code)
    with contextlib.suppress(OSError):  # a log on a disk that is full: the run itself is on it
        _say_goodbye(folder, summary, mirror)
    return summary


def _check_fit(config: Config, data: Prepared) -> None:
    """What the configuration alone cannot tell: do this text and this model suit each other?"""
    rows = config.model.vocab_size
    if rows and rows < data.vocab_size:
        raise UserError(f"model.vocab_size={rows} is less than the tokenizer's {data.vocab_size}; null takes that")
    if config.placement.weights == "unit" and config.optim.weight_decay:
        print("note: weights of unit length undo weight decay; nGPT trains with optim.weight_decay=0", flush=True)
    epochs = config.train.steps * config.train.batch_size * config.train.seq_len / data.train_tokens
    if epochs > _MANY_EPOCHS:
        print(
            f"note: {epochs:.0f} passes over {data.train_tokens:,} train tokens; a larger text: data=fineweb_edu",
            flush=True,
        )


def _end(folder: RunFolder, *parts: dict[str, Any]) -> dict[str, Any]:
    """Write the summary that ``parts`` make, with what they say of a run that failed."""
    summary: dict[str, Any] = {}
    for part in parts:
        summary |= part
    summary["diagnosis"] = diagnose(summary, read_rows(folder.metrics), read_rows(folder.probes))
    folder.write_summary(summary)
    return summary


def _summarise(config: Config, folder: RunFolder, result: Result, unigram_ce: float) -> dict[str, Any]:
    """Everything that follows from the rows on disk, the run's end included."""
    rows = read_rows(folder.metrics)
    steps = [row for row in rows if "loss" in row]
    validations = [row for row in rows if "val_loss" in row]
    losses = [row["loss"] for row in steps]
    val_losses = [row["val_loss"] for row in validations]
    init_loss = val_losses[0]  # step 0 is validated before anything can go wrong
    ended = result.status in FINISHED
    diverged_step = result.step if result.status == "diverged" else None
    if ended and diverged_step is None:  # a validation may be what was not finite
        diverged_step = next((row["step"] for row in validations if row["val_loss"] is None), None)
    outcome = classify(losses, val_losses, init_loss, unigram_ce, diverged_step) if ended else None
    healthy = ended and diverged_step is None
    last = losses[-max(_FINAL_LEAST, round(_FINAL_SHARE * len(losses))) :]
    return {
        "status": "diverged" if ended and not healthy else result.status,
        "outcome": outcome,
        "diverged_step": diverged_step,
        "first_bad_step": first_bad_step(outcome, losses, init_loss, diverged_step),
        "nonfinite": result.nonfinite,
        "signal": result.signal,
        "steps": result.step,
        "final": {
            "train_loss": sum(last) / len(last) if healthy else None,
            "val_loss": val_losses[-1] if healthy else None,
            "val_bpb": validations[-1]["val_bpb"] if healthy else None,
        },
        "best_val_loss": min((loss for loss in val_losses if loss is not None), default=None),
        "init_loss": init_loss,
        "spikes": summarize_spikes(losses, [row["grad_norm"] for row in steps]),
        "depth": summarize_depth(read_rows(folder.probes)),
        "startup_overshoot": None if init_loss is None else startup_overshoot(losses, init_loss),
        "clip_rate": clip_rate([row["clipped"] for row in steps]) if steps else None,
        "tokens": result.step * config.train.batch_size * config.train.seq_len,
        "tokens_per_s": result.tokens_per_s,
        "seconds": result.seconds,
        "error": None,
    }


def _speed(loop: TrainingLoop, result: Result) -> dict[str, Any]:
    """``flops_per_token``, and ``mfu`` against the devices' peak; null where that is not known."""
    network, config = loop.network, loop.config
    head = network.embed if network.head is None else network.head
    counts = count_parameters(network)
    multiplied = counts["non_embedding"] + head.weight.numel() - (counts["total"] - counts["active"])
    flops = flops_per_token(multiplied, config.model, config.train.seq_len)
    rate = result.tokens_per_s and result.tokens_per_s / loop.parallel.world  # of each device
    return {"flops_per_token": flops, "mfu": mfu(rate, flops, loop.hardware.name)}


def _say_goodbye(folder: RunFolder, summary: dict[str, Any], mirror: WandbSink | None) -> None:
    why = summary.get("diagnosis")
    match summary["status"]:
        case "diverged":
            print(f"diverged at step {summary['diverged_step']}; that is a result, kept in {folder.path}")
        case "interrupted":
            print(f"interrupted after step {summary['steps']}, saved; the same command goes on from there")
        case _:
            print(f"validation loss {summary['final']['val_loss']:.4f}  {folder.path}")
    if why:
        print(why["text"])
    if mirror:
        print(f"wandb: {mirror.url}" if mirror.url else f"to upload this run: {mirror.sync_hint()}", flush=True)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
