"""A run keeps its name for as long as its numbers do: what the hash counts, and what it does not."""

from __future__ import annotations

import hashlib
import json

import pytest

from normlab import compose
from normlab.config import identity
from normlab.config.identity import treatment, treatment_hash
from normlab.config.schema import Config


def test_the_defaults_are_those_of_this_generation():
    """A default that changes renames nothing, although every run that relied on it has other numbers from then on:
    whoever sees this fail adds one to ``_GENERATION``, or shows that no number changes, and writes the new digest."""
    text = json.dumps(treatment(Config()), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert (identity._GENERATION, digest) == (1, "ff238429fded")


def test_a_new_key_with_a_neutral_default_renames_nothing(monkeypatch):
    config = compose(["placement=hybrid", "model=nano"])
    before = treatment_hash(config)
    monkeypatch.setattr(identity, "treatment", lambda config: {**treatment(config), "new": {"key": None}})
    monkeypatch.setattr(identity, "_default_treatment", lambda: identity.treatment(Config()))
    assert treatment_hash(config) == before


@pytest.mark.parametrize(
    "override", ["optim.lr=1e-2", "placement.attn.q=n", "norm=layernorm", "model.n_layers=5", "init=megatron",
                 "norm.eps=1e-6", "placement.wiring=mhc", "placement.weights=unit", "train.z_loss=1e-4"]
)  # fmt: skip
def test_what_can_change_a_number_is_another_treatment(override):
    assert treatment_hash(compose([override])) != treatment_hash(compose([]))


@pytest.mark.parametrize(
    "override", ["seed=3", "experiment=x", "train.threads=1", "train.micro_batch_size=4", "placement.name=mine",
                 "observe.probe_every=7", "runs_dir=elsewhere"]
)  # fmt: skip
def test_what_cannot_is_the_same(override):
    assert treatment_hash(compose([override])) == treatment_hash(compose([]))


@pytest.mark.parametrize("kind", ["model.n_experts=4", "norm.allow_noncausal=true", "placement=admin"])
def test_micro_batches_count_where_a_number_is_taken_over_them(kind):
    assert treatment_hash(compose([kind, "train.micro_batch_size=4"])) != treatment_hash(compose([kind]))


def test_a_norm_is_its_type_and_what_differs_from_the_type_s_defaults():
    asked = [["norm=dyt"], ["norm.name=mine", "norm.type=dyt"], ["norm=dyt", "norm.options.alpha=0.5"]]
    assert len({treatment_hash(compose(overrides)) for overrides in asked}) == 1
    alphas = [["norm=dyt", f"norm.options.alpha={alpha}"] for alpha in ("1", "1.0")]
    assert len({treatment_hash(compose(overrides)) for overrides in alphas}) == 1
    assert treatment_hash(compose(["norm=dyt"])) != treatment_hash(compose(["norm=dyt_llama"]))


def test_an_edited_norm_of_the_user_is_another(tmp_path):
    (tmp_path / "norm").mkdir()
    hashes = set()
    for factor in (2, 3):
        (tmp_path / "norm" / "mine.py").write_text(
            "from torch import nn\nfrom normlab.model.norms import norm\n\n\n"
            f"@norm('mine')\nclass RMSNorm(nn.Module):\n    factor = {factor}\n"
        )
        hashes.add(treatment_hash(compose(["norm=mine"], tmp_path)))
        compose(["norm=rmsnorm"], tmp_path)  # the shipped class of that name is still there
    assert len(hashes) == 2


def test_a_recipe_by_its_name_is_the_same_treatment():
    asked = compose(["placement=hybrid", "init=megatron"])
    assert treatment_hash(asked) == treatment_hash(compose(["placement=hybrid"]))
