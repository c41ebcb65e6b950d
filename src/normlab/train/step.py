"""One optimizer step: forward, backward, clip, update. Nothing in it waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.model.gpt import GPT
from normlab.observe.gradients import StepProbe
from normlab.train.hardware import Hardware

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def objective(network: GPT, z_loss: float) -> Objective:
    """(tokens, targets) -> (what is minimised, cross-entropy). With ``z_loss`` the two differ by its penalty,
    z_loss * mean((log Z)^2): PaLM, Chowdhery et al. 2022 (arXiv 2204.02311), section 5."""

    def plain(tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        loss = network(tokens, targets)
        return loss, loss.detach()

    def penalised(tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = network(tokens).flatten(0, 1).float()
        loss = F.cross_entropy(logits, targets.flatten())
        return loss + z_loss * logits.logsumexp(-1).square().mean(), loss.detach()

    return penalised if z_loss else plain


class TrainingStep:
    """The network, its optimizer and how a batch moves them."""

    def __init__(
        self,
        network: GPT,
        optimizer: torch.optim.Optimizer,
        hardware: Hardware,
        z_loss: float,
        grad_clip: float | None,
        micro_batch_size: int,
    ) -> None:
        self.network, self.optimizer, self.hardware = network, optimizer, hardware
        self.parameters = list(network.parameters())
        self.grad_clip, self.micro_batch_size = grad_clip, micro_batch_size
        self._eager = objective(network, z_loss)
        self._objective = torch.compile(self._eager) if hardware.compiled else self._eager

    def warm_up(self, batch: Tensor) -> bool:
        """Compile on a batch whose gradients are thrown away. Returns False where compiling failed: eager then."""
        try:
            self._backward(batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            if self._objective is self._eager:
                raise
            print(f"warning: torch.compile failed here, training eagerly ({_last_line(error)})", flush=True)
            self._objective = self._eager
        self.optimizer.zero_grad(set_to_none=True)
        return self._objective is not self._eager

    def __call__(self, batch: Tensor, lr: float, probe: StepProbe | None = None) -> Tensor:
        """Train on ``batch`` (B, T + 1) and return (2,): its mean loss before the update, the unclipped gradient norm."""
        loss = self._backward(batch)
        if probe:
            probe.before()
        if self.grad_clip is None:
            norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None], foreach=True)
        else:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.grad_clip, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        if probe:
            probe.after()
        self.optimizer.zero_grad(set_to_none=True)
        return torch.stack((loss, norm))

    def _backward(self, batch: Tensor) -> Tensor:
        micro_batches = batch.split(self.micro_batch_size)
        total = torch.zeros((), device=batch.device)
        for micro in micro_batches:
            with self.hardware.autocast():
                minimised, loss = self._objective(micro[:, :-1], micro[:, 1:])
            (minimised / len(micro_batches)).backward()
            total += loss / len(micro_batches)
        return total


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Path(lines[0]).name if lines else type(error).__name__
