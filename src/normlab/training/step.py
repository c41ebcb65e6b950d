"""One optimizer step: forward, backward, clip, update. Nothing in it waits for the device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from normlab.config.schema import Config
from normlab.model.gpt import GPT, router_losses
from normlab.model.loss import Piece
from normlab.model.moe import Routing
from normlab.observe.gradients import ParameterMap, leaving_no_trace
from normlab.observe.updates import StepProbe
from normlab.training.hardware import Hardware
from normlab.training.parallel import Objective, Parallel, compile_block

MEASURED = ("loss", "balance_loss", "router_z_loss")  # of a sparse network; of a dense one the first


class StepRow(NamedTuple):
    """One step's scalars, read from what ``TrainingStep`` returned."""

    measured: dict[str, float]  # of ``MEASURED``, and ``grad_norm``, all before the update and unclipped
    grad_norm: list[float]  # by block
    grad_norm_group: dict[str, float]  # by kind of matrix

    def gradients(self) -> dict[str, Any]:
        """What of it stands in probes.jsonl."""
        return {"grad_norm": self.grad_norm, "grad_norm_group": self.grad_norm_group}


def objective(network: GPT, config: Config, compiled: bool = False) -> Objective:
    """(tokens, targets) -> (what is minimised, what of ``MEASURED`` there is, beginning with the cross-entropy).

    With ``train.z_loss``, z_loss * mean((log Z)^2) is added: PaLM, Chowdhery et al. 2022 (arXiv 2204.02311), section 5.
    A sparse network adds its routers' losses, each the mean over layers times its weight in ``model``.

    Compiled by regions: blocks of one kind share their code, so that compiling does not take longer with depth
    (6 layers on a CPU: 9 s against 27 s for the whole network at once, at the same speed per step).
    """
    model, z_loss = config.model, config.train.z_loss

    def end(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return network.losses(hidden(x), targets, z_loss, piece)

    hidden = network.hidden
    piece: Piece = functools.partial(network.piece_losses, z_loss=z_loss)
    blocks: list[Callable[[Tensor], tuple[Tensor, Routing | None]]] = list(network.blocks)
    if compiled:
        # Layers that differ, as a placement may ask for, are one more compilation each, and not a reason to give up.
        dynamo = torch._dynamo.config
        dynamo.recompile_limit = max(dynamo.recompile_limit, len(blocks) + 1)
        blocks = [compile_block(block) for block in network.blocks]
        if network.piece_of(config.train.sequences_per_forward * config.train.seq_len):
            hidden, piece = torch.compile(hidden, dynamic=False), torch.compile(piece)
        else:
            end = torch.compile(end, dynamic=False)

    def forward(tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        x = network.enter(tokens)
        routings = []
        for block in blocks:
            x, routing = block(x)
            routings += [] if routing is None else [routing]
        minimised, loss = end(x, targets)
        if not routings:
            return minimised, loss[None]
        router = router_losses(routings)
        minimised = minimised + model.balance_loss * router.balance + model.router_z_loss * router.z
        return minimised, torch.stack((loss, router.balance.detach(), router.z.detach()))

    return forward


class TrainingStep:
    """The network, its optimizer and how a batch moves them."""

    graphed = False  # see ``GraphedStep``

    def __init__(
        self, network: GPT, optimizer: torch.optim.Optimizer, hardware: Hardware, config: Config,
        parallel: Parallel | None = None,
    ) -> None:  # fmt: skip
        """``config``: with the micro batches of this process, ``Parallel.share_of``; ``network``: as it has it."""
        self.network, self.optimizer, self.hardware, self.config = network, optimizer, hardware, config
        self.parallel = parallel or Parallel()
        self.map = ParameterMap(network, config.model.n_layers)
        self.parameters = self.map.parameters
        self.compiled = hardware.compiled
        self._objective = self.parallel.gathered(network, objective(network, config, hardware.compiled))
        self._broken = torch.zeros((), device=hardware.device)

    def warm_up(self, batch: Tensor) -> None:
        """Compile on a batch that leaves no trace; where that fails, go on eagerly and say so."""
        with leaving_no_trace(self.network):
            try:
                self.backward(batch)
            except torch._dynamo.exc.TorchDynamoException as error:
                self.parallel.give_up_compiling(first_line(error))
                print(f"warning: torch.compile failed here, training eagerly ({first_line(error)})", flush=True)
                self.compiled, self._objective = False, objective(self.network, self.config)
                self.backward(batch)
            idle = any(parameter.grad is None for parameter in self.parameters)
        self._objective = self.parallel.replicated(self.network, self._objective, idle)

    def __call__(self, batch: Tensor, lr: float, probe: StepProbe | None = None) -> Tensor:
        """Train on ``batch`` (B, T + 1). Returns every scalar of the step in one tensor, for ``read``."""
        self.set_lr(lr)
        return self.take(batch, probe)

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):  # where a graph reads it
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def take(self, batch: Tensor, probe: StepProbe | None = None) -> Tensor:
        """The step at the learning rate that is set."""
        measured = self.backward(batch)
        gradients = self.map.gradient_norms()
        norm = torch.linalg.vector_norm(gradients)
        limit = self.config.optim.grad_clip
        if limit is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, limit, norm, foreach=True)
        # From the first loss or gradient that is not finite the weights stay as they are, to be looked at: AdamW skips
        # its update where this is 1, on the device, as it does for torch.amp.GradScaler. Of several processes only the
        # gradient counts: each has a loss of its own, but all the same norm, and their weights must not part.
        finite = norm.isfinite()
        if self.parallel.world == 1:
            finite = finite & measured[0].isfinite()
        self._broken.copy_(torch.maximum(self._broken, finite.logical_not()))
        self.optimizer.found_inf = self._broken  # type: ignore[attr-defined]
        if probe:
            probe.before()
        self.optimizer.step()
        self.network.after_update()
        if probe:
            probe.after(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        blocks, kinds = self.map.by_block_and_kind(gradients.square())
        return torch.cat((measured, norm[None], blocks.sqrt(), kinds.sqrt()))

    def read(self, steps: Sequence[Tensor]) -> list[StepRow]:
        """The scalars of several steps, in one transfer; losses are means over all processes."""
        n_groups = self.map.n_layers + len(self.map.kinds)
        rows = []
        for values in self.parallel.mean(torch.stack(list(steps))).tolist():
            *measured, norm = values[:-n_groups]
            named = {**dict(zip(MEASURED, measured, strict=False)), "grad_norm": norm}
            blocks, kinds = values[-n_groups : -len(self.map.kinds)], values[-len(self.map.kinds) :]
            rows.append(StepRow(named, blocks, dict(zip(self.map.kinds, kinds, strict=True))))
        return rows

    def backward(self, batch: Tensor) -> Tensor:
        """Add the gradient of the mean loss over ``batch``; returns what of ``MEASURED`` there is, of this process."""
        micro_batches = batch.split(self.config.train.sequences_per_forward)
        total = torch.zeros((), device=batch.device)
        for number, micro in enumerate(micro_batches, 1):
            with self.parallel.micro_batch(last=number == len(micro_batches)):
                with self.hardware.autocast():
                    minimised, measured = self._objective(micro[:, :-1], micro[:, 1:])
                (minimised / len(micro_batches)).backward()
            total = total + measured / len(micro_batches)
        return total


def first_line(error: BaseException) -> str:
    """Of what it says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
