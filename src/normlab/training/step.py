"""One optimizer step: forward, backward, clip, update. Nothing in it waits for the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from normlab.model.gpt import GPT, cross_entropy
from normlab.observe.gradients import StepProbe
from normlab.training.hardware import Hardware

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def objective(network: GPT, z_loss: float, compiled: bool = False) -> Objective:
    """(tokens, targets) -> (what is minimised, cross-entropy). With ``z_loss`` the two differ by its penalty,
    z_loss * mean((log Z)^2): PaLM, Chowdhery et al. 2022 (arXiv 2204.02311), section 5.

    Compiled by regions: blocks of one kind share their code, so that compiling does not take longer with depth
    (6 layers on a CPU: 9 s against 27 s for the whole network at once, at the same speed per step).
    """

    def end(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = network.leave(x)
        loss = cross_entropy(logits, targets)
        if not z_loss:
            return loss, loss.detach()
        return loss + z_loss * logits.float().logsumexp(-1).square().mean(), loss.detach()

    blocks: list[Callable[[Tensor], Tensor]] = list(network.blocks)
    if compiled:
        # Layers that differ, as a placement may ask for, are one more compilation each, and not a reason to give up.
        dynamo = torch._dynamo.config
        dynamo.recompile_limit = max(dynamo.recompile_limit, len(blocks) + 1)
        blocks, end = [torch.compile(block, dynamic=False) for block in blocks], torch.compile(end, dynamic=False)

    def forward(tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        x = network.enter(tokens)
        for block in blocks:
            x = block(x)
        return end(x, targets)

    return forward


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
        self.z_loss, self.compiled = z_loss, hardware.compiled
        self._objective = objective(network, z_loss, hardware.compiled)

    def warm_up(self, batch: Tensor) -> None:
        """Compile on a batch whose gradients are thrown away; where that fails, go on eagerly and say so."""
        try:
            self._backward(batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            print(f"warning: torch.compile failed here, training eagerly ({_first_line(error)})", flush=True)
            self.compiled, self._objective = False, objective(self.network, self.z_loss)
        self.optimizer.zero_grad(set_to_none=True)

    def __call__(self, batch: Tensor, lr: float, probe: StepProbe | None = None) -> Tensor:
        """Train on ``batch`` (B, T + 1). Returns (2,): its mean loss before the update, the unclipped gradient norm."""
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


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
