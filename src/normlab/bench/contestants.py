"""Who trains: a run of ours, and the plain loop around the other networks. Both say what they are in plain data."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from normlab.bench.ours import OurTraining
from normlab.bench.shapes import vocabulary
from normlab.bench.theirs import Llama, copy_weights, plain_gpt, plain_loop
from normlab.config.schema import Config
from normlab.data import Loader, TokenFile
from normlab.model.gpt import GPT, count_parameters
from normlab.observe.throughput import flops_per_token


@dataclass(frozen=True)
class Other:
    """One way to train on the other side; ``library``: plain or transformers."""

    library: str
    bf16: bool
    compiled: bool

    @property
    def setting(self) -> str:
        return ("bf16" if self.bf16 else "fp32") + (", compiled" if self.compiled else "")

    @property
    def name(self) -> str:
        return f"{self.library}, {self.setting}"


class Ours:
    """A run, on the tokens in a file; its rows go to ``folder``."""

    def __init__(self, config: Config, tokens: Path, folder: Path, keep_memory: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self._training = OurTraining(config, TokenFile(tokens), folder, keep_memory)
        self.train, self.look = self._training.train, self._training.look

    def loss_at_start(self) -> float:
        return self._training.loss(*_first_batch(self._training.config, self._training.loader))

    def warm_up(self) -> None:
        self._training.warm_up()

    def facts(self) -> dict[str, Any]:
        """Precision, and what came of compiling; FLOPs of a token."""
        training = self._training
        return {
            "precision": training.hardware.precision, "compiled": training.step.compiled,
            "cuda_graph": training.take_step.graphed,
            "flops_per_token": _flops_per_token(training.network, training.config),
        }  # fmt: skip


class Theirs:
    """The plain loop around its own network or Llama's; with our weights where it computes what ours does."""

    def __init__(self, config: Config, tokens: Path, other: Other, device: str, alike: bool) -> None:
        network: nn.Module = plain_gpt(config) if other.library == "plain" else Llama(config)
        if alike:
            copy_weights(GPT(config, vocabulary(config)), network)  # type: ignore[arg-type]
        # transformers' Trainer takes the fused AdamW on every device, nanoGPT on a GPU.
        fused = device == "cuda" or other.library == "transformers"
        file = TokenFile(tokens)
        self._loader, self._config = Loader(file, config.train.seq_len, config.train.batch_size, config.seed), config
        self._loop = plain_loop(network, config, file.tokens, device, other.bf16, other.compiled, fused)
        self.train = self._loop.train

    def loss_at_start(self) -> float:
        return self._loop.loss(*_first_batch(self._config, self._loader))

    def problem(self) -> str | None:
        """Compile and take a step; what went wrong where something did, which is a result of its own."""
        try:
            self._loop.train(1)
        except torch.OutOfMemoryError:
            gc.collect()
            torch.cuda.empty_cache()
            return "out of memory"
        except torch._dynamo.exc.TorchDynamoException as error:
            return f"torch.compile failed: {type(error).__name__}"
        return None


def _first_batch(config: Config, loader: Loader) -> tuple[Tensor, Tensor]:
    batch = torch.from_numpy(np.asarray(loader.batch(0)))
    return batch[:, :-1].contiguous(), batch[:, 1:].contiguous()


def _flops_per_token(network: nn.Module, config: Config) -> int:
    counts, head = count_parameters(network), getattr(network, "head", None)
    weight: Tensor = network.embed.weight if head is None else head.weight  # type: ignore[union-attr,assignment]
    multiplied = counts["non_embedding"] + weight.numel() - (counts["total"] - counts["active"])
    return flops_per_token(multiplied, config.model, config.train.seq_len)
