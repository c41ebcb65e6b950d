"""A sweep on a Ray cluster: the same pool, whose workers' processes stand on the cluster's nodes.

A node or a worker that dies takes its cell with it: the pool gives that to another, and it goes on from its last
checkpoint. Runs and prepared data have to lie in folders that all nodes share, and normlab on each of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from normlab.config.launch import LaunchConfig
from normlab.errors import EXIT_DISK, UserError
from normlab.sweep.slots import Slot
from normlab.sweep.worker import Worker, WorkerLost

# What a cell reads from its environment and a node may not have; no keys or tokens, which a cluster keeps and shows.
_PLACEMENTS = 3  # that fail in a row, after which the cluster is taken to be the reason
_PASSED_ON = ("NORMLAB_CACHE", "WANDB_MODE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@contextlib.contextmanager
def ray_workers(launch: LaunchConfig, device: str) -> Iterator[list[RayWorker]]:
    """As many workers as ``launch.jobs``, else as the cluster has room for. Raises UserError where there is none."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # ray would send them to its makers
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("launch=ray needs ray: pip install 'normlab[ray]'") from None
    try:
        ray.init(address=launch.address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"at {launch.address}" if launch.address else "here"
        raise UserError(f"no Ray cluster {where}: {str(error).splitlines()[0]}") from None
    try:
        needs = {"num_cpus": launch.threads, "num_gpus": _gpus_per_cell(ray.cluster_resources(), launch, device)}
        room = sum(_room(node["Resources"], needs) for node in ray.nodes() if node["Alive"])
        if not room and not launch.jobs:
            raise UserError(f"no node of the Ray cluster has {launch.threads} CPUs for a cell: set launch.threads")
        settings = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        actor = ray.remote(num_cpus=needs["num_cpus"], num_gpus=needs["num_gpus"], max_restarts=0)(_OnNode)
        slot = Slot(launch.threads)
        yield [RayWorker(ray, actor, slot, settings) for _ in range(launch.jobs or room)]
    finally:
        ray.shutdown()


def _gpus_per_cell(resources: Mapping[str, float], launch: LaunchConfig, device: str) -> float:
    return 1 / launch.per_gpu if device != "cpu" and resources.get("GPU") else 0


def _room(resources: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """How many cells a node has room for."""
    room = int(resources.get("CPU", 0) / needs["num_cpus"])
    return min(room, int(resources.get("GPU", 0) / needs["num_gpus"])) if needs["num_gpus"] else room


class _OnNode:
    """What Ray runs on a node: a worker, which starts its process where this one stands."""

    def __init__(self, folder: str, slot: Slot, settings: Mapping[str, str]) -> None:
        os.environ.update(settings)
        os.chdir(folder)
        self._worker = Worker(slot)

    def is_here(self) -> bool:
        return True

    def run(self, *order: Any) -> None:
        self._worker.run(*order)

    def poll(self) -> int | None:
        return self._worker.poll()

    def interrupt(self) -> None:
        self._worker.interrupt()


class RayWorker(Worker):
    """A worker whose process Ray has placed. Nothing here waits for the cluster but ``end``."""

    def __init__(self, ray: Any, actor: Any, slot: Slot, settings: Mapping[str, str]) -> None:
        super().__init__(slot)
        self._ray, self._class, self._settings = ray, actor, settings
        self._actor: Any = None  # on a node, or on its way
        self._placed: Any = None  # what says that it is there
        self._answer: Any = None  # what the running cell will say next
        self._failures = 0  # of placements, in a row

    @property
    def is_ready(self) -> bool:
        if self._actor is None:
            self._actor = self._class.remote(os.getcwd(), self.slot, self._settings)
            self._placed = self._actor.is_here.remote()
        try:
            if not self._seen(self._placed):
                return False
            self._ray.get(self._placed)
        except self._ray.exceptions.RayActorError as error:
            self._actor, self._failures = None, self._failures + 1
            if self._failures < _PLACEMENTS:
                return False
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            where = "normlab, runs and prepared data have to lie in folders that all nodes share"
            raise UserError(f"no worker can start on the Ray cluster: {reason}; {where}") from None
        self._failures = 0
        return True

    def run(self, words: Sequence[str], log: Path, needs: str, shapes: str, placement: str) -> None:
        log.touch()
        self._answer = self._actor.run.remote(words, log.absolute(), needs, shapes, placement)

    def poll(self) -> int | None:
        if not self._seen(self._answer):
            return None
        try:
            code: int | None = self._ray.get(self._answer)
        except self._ray.exceptions.RayActorError:
            self._actor = self._answer = None
            raise WorkerLost("its Ray worker was lost") from None
        except OSError:  # the folder cannot be written there
            code = EXIT_DISK
        self._answer = self._actor.poll.remote() if code is None else None
        return code

    def interrupt(self) -> None:
        if self._answer is not None:
            self._actor.interrupt.remote()

    def dismiss(self) -> None:
        """No more cells: what it holds of the cluster is free for others."""
        if self._actor is not None and self._answer is None:
            self._ray.kill(self._actor)
            self._actor = None

    @property
    def is_gone(self) -> bool:
        """Whether no cell runs: of a node's process no more can be seen."""
        if self._answer is None:
            return True
        with contextlib.suppress(WorkerLost):
            return self.poll() is not None
        return True

    def end(self, patience: float = 0.0) -> None:
        if self._actor is not None:
            self._ray.kill(self._actor)
            self._actor = self._answer = None

    def _seen(self, promise: Any) -> bool:
        done, _ = self._ray.wait([promise], timeout=0)
        return bool(done)
