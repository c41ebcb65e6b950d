"""How a run ends that meets an error, and what a divergence is looked for with."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

import normlab
from normlab.config.identity import run_dir
from normlab.errors import DiskError
from normlab.files import unwritable
from normlab.model.gpt import GPT
from normlab.observe.sinks import DiskSink
from normlab.training.folder import RunFolder

Tiny = Callable[..., list[str]]


def status(config: Any) -> str:
    return str(json.loads((run_dir(config) / "summary.json").read_text())["status"])


def test_what_goes_wrong_behind_the_end_takes_nothing_from_the_result(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = normlab.compose(tiny("train.steps=4"))

    def full(self: DiskSink, *args: object) -> None:
        raise unwritable(run_dir(config), OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(DiskSink, "finish", full)
    with pytest.raises(DiskError):
        normlab.train(config)
    assert status(config) == "done"
    folder = RunFolder(config)
    folder.metrics.write_bytes(b"")  # now it has no result that could be kept
    folder.mark_failed("why")
    assert status(config) == "failed"


def test_a_last_line_that_the_log_has_no_room_for_is_no_error(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("normlab.training.run._say_goodbye", full)
    config = normlab.compose(tiny("train.steps=4"))
    assert normlab.train(config)["status"] == status(config) == "done"


@pytest.mark.parametrize(
    ("number", "of_a_disk"),
    [("ENOSPC", True), ("EDQUOT", True), ("EROFS", True), ("EACCES", True), ("EPERM", True), ("EIO", True),
     ("EMFILE", False), ("EPIPE", False), ("ENOENT", False)],
)  # fmt: skip
def test_only_a_disks_errors_are_blamed_on_the_disk(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, number: str, of_a_disk: bool
) -> None:
    code = getattr(errno, number)

    def fails(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("normlab.training.run.prepare", fails)
    config = normlab.compose(tiny())
    with pytest.raises(DiskError if of_a_disk else OSError):
        normlab.train(config)
    assert status(config) == "failed"


def test_a_divergence_is_looked_at_with_the_schedules_of_its_step(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop sees it only at the next bulk read, when the schedules are further on."""
    config = normlab.compose(
        tiny("placement=none", "optim.lr=1e6", "optim.grad_clip=null", "optim.warmup_steps=0", "observe.probe_at=[]",
             "placement.attn.out=c(min(t/2, 1))")
    )  # fmt: skip
    moved: list[int] = []
    set_step = GPT.set_step
    monkeypatch.setattr(GPT, "set_step", lambda self, t: (moved.append(t), set_step(self, t)))
    summary = normlab.train(config)
    assert summary["status"] == "diverged" and summary["diverged_step"] < max(moved)
    assert moved[-1] == summary["diverged_step"] - 1
