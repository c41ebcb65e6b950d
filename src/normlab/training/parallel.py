"""One run on several processes: what each of them holds, and how they agree.

``torchrun`` starts the processes. Each trains on its share of every batch, so that together they see exactly what one
process would. ``ddp``: every process holds the whole network, and gradients are averaged. ``fsdp`` (PyTorch's FSDP2,
``fully_shard``): weights, gradients and optimizer state are sharded by rows, block by block, and a block's weights are
gathered while it computes. Both keep weights and gradients in float32, and so does every reduction; bfloat16 is the
step's autocast, as on one process. Every process builds the whole network from the seed, on the CPU, before it is
sharded: the same numbers for any number of processes, for 4 bytes of host memory per parameter and process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from normlab.config.identity import sees_micro_batches
from normlab.config.schema import Config, TrainConfig
from normlab.errors import UserError
from normlab.training.processes import Processes

Network = TypeVar("Network", bound=nn.Module)
_PATIENCE = timedelta(hours=2)  # one machine may tokenize a large text for long, while the others wait for it
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Parallel(Processes):
    """One of ``world`` processes that train a run together. Alone, every method is trivial and costs nothing."""

    def __init__(self, kind: str = "none", rank: int = 0, world: int = 1) -> None:
        super().__init__(rank, world)
        self.kind = kind
        self._replica: nn.Module | None = None
        self._sharded: Any = None

    # Before the training

    def share_of(self, config: Config) -> Config:
        """The configuration with this process's own micro batches. Raises UserError where the batch does not divide."""
        if self.world == 1:
            return config
        train, world = config.train, self.world
        share, rest = divmod(train.batch_size, world)
        if rest:
            near = max(world, round(train.batch_size / world) * world)
            raise UserError(
                f"train.batch_size={train.batch_size} is no multiple of {world} processes; the nearest is {near}"
            )
        if train.micro_batch_size is None and sees_micro_batches(config):
            raise UserError(
                f"this model takes a number over each forward pass, and {world} processes have {world} of them: say "
                f"which, with train.micro_batch_size={share}"
            )
        micro = train.micro_batch_size or share
        if share % micro:
            fits = max(size for size in range(1, share + 1) if share % size == 0 and size <= micro)
            raise UserError(
                f"train.micro_batch_size={micro} does not divide the {share} sequences that each of {world} processes "
                f"has; train.micro_batch_size={fits} does"
            )
        return config.model_copy(update={"train": train.model_copy(update={"micro_batch_size": micro})})

    def check(self, config: Config, network: nn.Module) -> None:
        """Raise UserError for what would not be the same run on several processes."""
        if self.world == 1:
            return
        self.share_of(config)
        if config.train.cuda_graph:
            raise UserError("train.cuda_graph=true is for a run on one process; leave it out here")
        if config.norm.allow_noncausal:
            raise UserError("norm.allow_noncausal: such a norm's statistics are one process's; train it on one process")
        if self.kind != "fsdp":
            return
        numbers = [name for name, parameter in network.named_parameters() if parameter.ndim == 0]
        profiled = any(getattr(module, "profiled", False) for module in network.modules())
        if numbers or profiled:
            what = f"{numbers[0]} is a single number" if numbers else "v(profile) sets a weight in a forward pass"
            raise UserError(f"{what}, which sharded training cannot do; use train.parallel=ddp")

    def shard(self, network: Network, device: torch.device) -> Network:
        """The network on the device; under fsdp, this process's rows of it."""
        if self.kind != "fsdp":
            return network.to(device)
        from torch.distributed.fsdp import fully_shard

        mesh = dist.init_device_mesh(device.type, (self.world,))
        for block in network.blocks:  # type: ignore[union-attr]
            fully_shard(block, mesh=mesh)
        self._sharded = fully_shard(network, mesh=mesh)
        return network

    # The training step

    def gathered(self, network: nn.Module, objective: Objective) -> Objective:
        """Under fsdp, the objective as a forward pass of the sharded network."""
        if self._sharded is None:
            return objective
        from torch.distributed.fsdp import register_fsdp_forward_method

        network.objective = objective  # type: ignore[assignment]
        register_fsdp_forward_method(network, "objective")
        return network.objective  # type: ignore[return-value]

    def replicated(self, network: nn.Module, objective: Objective, idle: bool) -> Objective:
        """Under ddp, the objective with gradients averaged over processes. ``idle``: a parameter may have none."""
        if self.kind != "ddp":
            return objective
        self._replica = nn.parallel.DistributedDataParallel(
            _Forward(network, objective),
            gradient_as_bucket_view=True,
            find_unused_parameters=idle,
        )
        self._replica.broadcast_buffers = False  # every process computes the same ones
        return self._replica

    def give_up_compiling(self, why: str) -> None:
        """Raise UserError under fsdp, where a forward pass that was broken off cannot be taken back."""
        if self._sharded is not None:
            raise UserError(f"torch.compile failed here ({why}); use train.compile=off")

    @contextlib.contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Around forward and backward: gradients are exchanged once in a step, behind the ``last`` micro batch."""
        if self._sharded is not None:
            self._sharded.set_requires_gradient_sync(last)
        if self._replica is None or last:
            yield
        else:
            with self._replica.no_sync():  # type: ignore[operator]
                yield

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Around a forward pass that is not for training: eager, as on one process, where blocks are compiled."""
        if self._sharded is None:
            yield
            return
        with torch.compiler.set_stance("force_eager"):
            yield
        self._sharded.reshard()  # the root keeps its gathered weights for a backward pass that does not come


def compile_block(block: nn.Module) -> Callable[..., Any]:
    """Blocks of one kind share their code. Under fsdp only what is within the gathering of weights is compiled."""
    if not dist.is_initialized():
        return torch.compile(block, dynamic=False)
    from torch.distributed.fsdp import FSDPModule

    torch._dynamo.config.optimize_ddp = False  # which cuts what is compiled into DDP's buckets: blocks are small enough
    if not isinstance(block, FSDPModule):
        return torch.compile(block, dynamic=False)
    block.forward = torch.compile(block.forward, dynamic=False)
    return block


class _Forward(nn.Module):
    """A forward pass as DDP wants one: a module's."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.objective(tokens, targets)


@contextlib.contextmanager
def joined(train: TrainConfig) -> Iterator[Parallel]:
    """Join the processes that ``torchrun`` started, and be ``Parallel`` among them. Only the main one prints."""
    world = int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1
    if world == 1:
        if train.parallel in ("ddp", "fsdp"):
            print(f"note: one process, so train.parallel={train.parallel} is none; torchrun starts several", flush=True)
        yield Parallel()
        return
    if train.parallel == "none":
        raise UserError(f"train.parallel=none, but torchrun started {world} processes; use ddp or fsdp")
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    cuda = train.device != "cpu" and torch.cuda.is_available()
    if cuda:
        if local >= torch.cuda.device_count():
            started, seen = os.environ["LOCAL_WORLD_SIZE"], torch.cuda.device_count()
            raise UserError(
                f"torchrun started {started} processes here, but torch sees {seen} GPUs; --nproc-per-node={seen}"
            )
        torch.cuda.set_device(local)
    began = not dist.is_initialized()  # once in a process's life: a second rendezvous can meet what the first left
    if began:
        # Tensors on the CPU are flags and what checkpoints are planned with.
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
    kind = "ddp" if train.parallel == "auto" else train.parallel
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as quiet:
        if rank:
            quiet.enter_context(contextlib.redirect_stdout(nowhere))
        yield Parallel(kind, rank, world)
    if began:  # and not behind an error: the others may be waiting for something else
        atexit.register(dist.destroy_process_group)
