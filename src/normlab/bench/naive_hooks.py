"""Watching a network as tutorials do: hooks in the training step itself, a value read at every one of them.

The other side of the comparison. It records less than a look of ours: the RMS and the largest entry of what every
sublayer returns, and the norm of every parameter's gradient, of every step. Every ``.item()`` waits for the device, and
hooks that read values cannot be compiled, so the network runs eagerly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from normlab.bench.ours import OurTraining
from normlab.config.schema import Config
from normlab.data import TokenFile


class NaiveTraining(OurTraining):
    """Trains the same network on the same batches; ``config`` has ``train.compile=off``."""

    def __init__(self, config: Config, tokens: TokenFile, folder: Path) -> None:
        super().__init__(config, tokens, folder)
        self.seen: dict[str, float] = {}
        self.log = folder / "naive.jsonl"

    def train_naively(self, n: int) -> None:
        """n steps with hooks, one line of JSON each."""
        hooks = [
            module.register_forward_hook(self._hook(name))
            for name, module in self.network.named_modules()
            if name.startswith("blocks.") and name.count(".") == 2 and name.endswith((".attn", ".ffn"))
        ]
        with self.log.open("a") as log:
            for _ in range(n):
                self._watched_step()
                log.write(json.dumps(self.seen) + "\n")
        for hook in hooks:
            hook.remove()

    def _watched_step(self) -> None:
        batch, lr = self.next()
        self.seen = {"step": self.done}
        self.seen["loss"] = self.step.backward(batch)[0].item()
        for name, parameter in self.network.named_parameters():
            if parameter.grad is not None:
                self.seen[f"grad_norm/{name}"] = parameter.grad.norm().item()
        if self.config.optim.grad_clip is not None:
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optim.grad_clip)
            self.seen["grad_norm"] = norm.item()
        self.update(lr)

    def _hook(self, name: str) -> Any:
        def record(module: nn.Module, inputs: Any, output: tuple[Tensor, object]) -> None:
            x = output[0].detach().float()
            self.seen[f"rms/{name}"] = x.square().mean().sqrt().item()
            self.seen[f"max/{name}"] = x.abs().max().item()

        return record
