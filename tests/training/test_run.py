"""A run's life: the folder it leaves, exact resume after a cut anywhere, a divergence as a result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import normlab
from normlab.config.identity import run_dir
from normlab.config.schema import Config
from normlab.errors import UserError


def rows(config: Config, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (run_dir(config) / name).read_text().splitlines()]


def part(config: Config, step: int) -> Path:
    """The one file of a checkpoint of one process."""
    (path,) = (run_dir(config) / "checkpoints" / f"step_{step:07d}").iterdir()
    return path


def saved(config: Config, step: int) -> dict[str, torch.Tensor]:
    return load_file(part(config, step))


def test_the_folder_is_the_contract(tiny):
    config = normlab.compose(tiny("placement=hybrid"))
    summary = normlab.train(config)
    folder = run_dir(config)
    assert {path.name for path in folder.iterdir()} >= {
        "config.yaml", "metrics.jsonl", "probes.jsonl", "summary.json", "env.json", "checkpoints",
    }  # fmt: skip
    assert Config.model_validate(yaml.safe_load((folder / "config.yaml").read_text())) == config
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert (summary["status"], summary["steps"], summary["tokens"]) == ("done", 20, 20 * 4 * 64)
    assert [row["step"] for row in rows(config) if "loss" in row] == list(range(1, 21))
    assert [row["step"] for row in rows(config) if "val_loss" in row] == [0, 10, 20]
    assert summary["flops_per_token"] > 6 * summary["params"]["non_embedding"] and summary["mfu"] is None  # a CPU
    assert summary["final"]["val_loss"] == rows(config)[-1]["val_loss"] < summary["init_loss"]
    assert summary["final"]["train_loss"] == pytest.approx(
        sum(row["loss"] for row in rows(config) if row.get("step", 0) > 10 and "loss" in row) / 10
    )


def test_probes_have_a_value_per_layer(tiny):
    config = normlab.compose(tiny("placement=hybrid"))
    normlab.train(config)
    probes = {row.pop("step"): row for row in rows(config, "probes.jsonl")}
    assert list(probes) == [0, 1, 10, 20]
    assert "grad_norm" not in probes[0]
    for name in ("grad_norm", "update_ratio", "attn.rms_in", "attn.rms_branch", "attn.rms_sum", "attn.rms_out",
                 "ffn.rms_in", "ffn.rms_branch", "ffn.rms_sum", "ffn.rms_out", "attn.max_logit", "attn.entropy",
                 "attn.entropy_ratio"):  # fmt: skip
        assert len(probes[10][name]) == 2, name
        assert all(value == value for value in probes[10][name])
    assert probes[1]["attn.rms_out"] == pytest.approx([1.0, 1.0], rel=0.05)  # a post-norm with gain near 1
    # The blocks' and the kinds' gradients add up to the whole, which the training step measured by itself.
    whole = next(row["grad_norm"] for row in rows(config) if row["step"] == 10 and "loss" in row)
    assert sum(g**2 for g in probes[10]["grad_norm_group"].values()) ** 0.5 == pytest.approx(whole, rel=1e-5)


def test_a_finished_run_does_nothing(tiny, capsys):
    config = normlab.compose(tiny())
    first = normlab.train(config)
    written = (run_dir(config) / "metrics.jsonl").stat().st_mtime_ns
    assert normlab.train(config) == first
    assert (run_dir(config) / "metrics.jsonl").stat().st_mtime_ns == written
    assert "done already" in capsys.readouterr().out


def test_observing_changes_no_number(tiny):
    quiet = normlab.compose(tiny("experiment=quiet", "observe.probe_every=1000", "observe.probe_at=[]"))
    nosy = normlab.compose(
        tiny("experiment=nosy", "observe.probe_every=1", "observe.flush_every=3", "checkpoint.every=7")
    )
    for config in (quiet, nosy):
        normlab.train(config)
    assert rows(quiet) == rows(nosy)


def test_gradient_accumulation_is_the_same_step(tiny):
    whole, parts = (normlab.compose(tiny(f"train.micro_batch_size={size}", f"experiment=by{size}")) for size in (4, 1))
    losses = []
    for config in (whole, parts):
        normlab.train(config)
        losses.append(torch.tensor([(row["loss"], row["grad_norm"]) for row in rows(config) if "loss" in row]))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-3)


LAUNCH = "import sys, normlab; normlab.train(normlab.compose(sys.argv[1:]))"


def start(overrides: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", LAUNCH, *overrides], env=environment, stdout=subprocess.DEVNULL)


def wait_for_step(path: Path, step: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and f'"step": {step},' in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} never reached step {step}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_cut_run_continues_to_the_same_numbers(tiny, how):
    long = ["train.steps=300", "checkpoint.every=20", "observe.flush_every=5", "eval.every=50", "placement=hybrid"]
    whole = normlab.compose(tiny("experiment=whole", *long))
    normlab.train(whole)
    overrides = tiny("experiment=cut", *long)
    cut = normlab.compose(overrides)
    process = start(overrides)
    wait_for_step(run_dir(cut) / "metrics.jsonl", 60)
    process.send_signal(how)
    process.wait(30)
    status = json.loads((run_dir(cut) / "summary.json").read_text())["status"]
    assert status == {signal.SIGKILL: "running", signal.SIGTERM: "interrupted"}[how]
    assert normlab.train(cut)["status"] == "done"
    assert rows(cut) == rows(whole)
    assert rows(cut, "probes.jsonl") == rows(whole, "probes.jsonl")
    a, b = (saved(config, 300) for config in (whole, cut))
    assert all(torch.equal(a[name], b[name]) for name in a) and any(name.endswith("exp_avg_sq") for name in a)


def test_a_damaged_checkpoint_is_passed_over(tiny, capsys):
    config = normlab.compose(tiny("checkpoint.every=5"))
    whole = normlab.train(config)
    folder = run_dir(config)
    newest = part(config, 20)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    (folder / "summary.json").write_text(json.dumps({**whole, "status": "interrupted"}))
    again = normlab.train(config)
    assert "is damaged; going back" in capsys.readouterr().out
    assert again["final"] == whole["final"]


def test_a_run_cut_between_its_last_checkpoint_and_its_summary_only_sums_up(tiny):
    config = normlab.compose(tiny("placement=hybrid"))
    whole = normlab.train(config)
    before = rows(config)
    (run_dir(config) / "summary.json").write_text(json.dumps({**whole, "status": "running", "final": None}))
    again = normlab.train(config)
    assert (again["status"], again["final"], again["spikes"]) == ("done", whole["final"], whole["spikes"])
    assert rows(config) == before


def test_divergence_is_a_result(tiny):
    config = normlab.compose(tiny("placement=none", "optim.lr=1e6", "optim.grad_clip=null", "optim.warmup_steps=0"))
    summary = normlab.train(config)
    assert summary["status"] == "diverged"
    assert summary["outcome"] == "nan"
    assert summary["final"]["val_loss"] is None
    last = [row for row in rows(config) if "loss" in row][-1]
    assert last["step"] == summary["diverged_step"] and (last["loss"] is None or last["grad_norm"] is None)
    assert normlab.train(config) == summary  # final, as any other result


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"data": {"fingerprint": "another"}}, "the data changed since"), ({"precision": "bf16"}, "began in bf16")],
)
def test_a_run_never_goes_on_under_other_conditions(tiny, changed, message):
    config = normlab.compose(tiny("checkpoint.every=5"))
    summary = normlab.train(config)
    (run_dir(config) / "summary.json").write_text(json.dumps({**summary, "status": "interrupted", **changed}))
    for _ in range(2):  # being refused once must not make it forget
        with pytest.raises(UserError, match=message):
            normlab.train(config)


def test_text_and_model_that_do_not_fit_are_one_line(tiny):
    with pytest.raises(UserError, match=r"model\.vocab_size=100 is less than the tokenizer's 257"):
        normlab.train(normlab.compose(tiny("model.vocab_size=100")))


def test_many_passes_over_a_small_text_are_said(tiny, capsys):
    normlab.train(normlab.compose(tiny("train.batch_size=64", "train.steps=200", "eval.every=200", "train.seq_len=32")))
    assert "passes over" in capsys.readouterr().out


def test_an_unknown_norm_is_found_before_the_data(tiny, monkeypatch):
    monkeypatch.setattr("normlab.training.run.prepare", lambda *args: pytest.fail("prepared"))
    with pytest.raises(UserError, match="unknown norm 'rmsnrom'"):
        normlab.train(normlab.compose(tiny("norm.name=rmsnrom")))


def test_a_torn_checkpoint_is_swept_up(tiny):
    config = normlab.compose(tiny())
    torn = run_dir(config) / "checkpoints" / ".step_0000010.torn"
    torn.mkdir(parents=True)
    (torn / "part.safetensors").write_bytes(b"half")
    normlab.train(config)
    assert not torn.exists()


def test_a_failure_marks_the_run(tiny):
    config = normlab.compose(tiny("train.seq_len=128", "train.device=cpu"))
    run_dir(config).mkdir(parents=True)
    (run_dir(config) / "checkpoints").write_text("in the way of the folder")
    with pytest.raises(Exception):  # noqa: B017
        normlab.train(config)
    assert json.loads((run_dir(config) / "summary.json").read_text())["status"] == "failed"


def test_out_of_memory_names_the_fix(tiny, monkeypatch):
    def exhausted(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more lines")

    config = normlab.compose(tiny())
    monkeypatch.setattr("normlab.training.run.prepare", exhausted)
    with pytest.raises(UserError, match=r"smaller train\.micro_batch_size"):
        normlab.train(config)
    assert json.loads((run_dir(config) / "summary.json").read_text())["error"] == "out of memory"


def test_profiled_skips_are_set_before_the_first_step_and_once(tiny):
    config = normlab.compose(tiny("placement=admin", "train.steps=4", "checkpoint.every=2", "optim.lr=1e-9"))
    normlab.train(config)
    skips = [value for name, value in saved(config, 4).items() if ".skip." in name and "exp_avg" not in name]
    skips = [value for value in skips if value.ndim]
    assert len(skips) == 4 and all((skip - 1).abs().max() > 1e-3 for skip in skips[1:])


def test_a_schedule_follows_the_steps_done_and_validation_sees_it(tiny):
    """Branches that open within two steps and branches that never do differ from the first validation on."""
    fast, never = (
        normlab.compose(tiny("placement.attn.out=" + out, "placement.ffn.out=" + out, "train.steps=4", "eval.every=1"))
        for out in ("c(min(t/2, 1))", "c(min(t/1000000, 1))")
    )
    for config in (fast, never):
        normlab.train(config)
    losses = [{r["step"]: r["loss"] for r in rows(config) if "loss" in r} for config in (fast, never)]
    validations = [{r["step"]: r["val_loss"] for r in rows(config) if "val_loss" in r} for config in (fast, never)]
    assert losses[0][1] == losses[1][1] and validations[0][0] == validations[1][0]  # nothing is open yet
    assert abs(validations[0][1] - validations[1][1]) > 1e-4  # after one step t is 1
    assert abs(losses[0][2] - losses[1][2]) > 1e-4
