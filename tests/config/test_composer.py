"""What is shared between configurations changes none: each is what Hydra alone would make of its overrides."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

from normlab.config import composer
from normlab.config.compose import compose, config_folders
from normlab.config.overrides import tidy
from normlab.errors import UserError


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["placement=hybrid", "optim.lr=1e-3"],
        ["optim.lr=1e-3", "optim=adamw", "scale=gpu", "train.steps=7"],  # a value stands, wherever its file is chosen
        ["preset=gemma2", "placement=hybrid", "model.n_layers=4"],
        ["placement.over={1: {attn: {pre: n}}}", "placement.attn.pre=n | c(1/sqrt(l))"],
        ["+placement.over.2={ffn: {pre: n}}", "++norm.options.momentum=0.5", "norm=batchnorm"],
        ["~data.text_field", "data=files", "data.paths=[a.txt,b.txt]"],
        ["hydra.job.name=mine", "model.d_model=64"],
        ["optim.lr=1e-2", "optim={lr: 3e-3}"],  # a mapping for a group is a value, in its place among the others
        ["optim={lr: 3e-3}", "optim.lr=1e-2", "optim=adamw"],
        ["optim.lr=2e-3", "++optim={lr: 1e-3}"],
        ["+launch.extra.a=1", "launch={extra: {a: 2}}"],
    ],
    ids=" ".join,
)
def test_as_hydra_composes(overrides):
    folders = config_folders()
    tidied = tidy(overrides)
    with composer._hydra(folders):
        whole = hydra_compose("config", tidied, return_hydra_config=True)
    for _ in range(2):  # the second time from what the first one left
        found, choices = composer.composed(tidied, folders)
        assert choices == dict(whole.hydra.runtime.choices)
        expected = OmegaConf.to_container(whole)
        assert OmegaConf.to_container(found) == {key: value for key, value in expected.items() if key != "hydra"}


def test_an_override_does_not_reach_the_next_configuration():
    first = compose(["placement.attn.pre=null", "data.paths=[a.txt]", "data=files"])
    second = compose(["data=files", "data.paths=[b.txt]"])
    assert first.placement.attn.pre is None and second.placement.attn.pre == "n"
    assert second.data.paths == ["b.txt"]


def test_an_edited_file_is_read_again(tmp_path: Path):
    file = tmp_path / "model" / "mine.yaml"
    file.parent.mkdir()
    for layers in (2, 3, 11):
        file.write_text(f"n_layers: {layers}\n")
        assert compose(["model=mine"], tmp_path).model.n_layers == layers
    (file.parent / ".#mine.yaml").symlink_to("somebody@somewhere.1")  # an editor's lock
    assert compose(["model=mine"], tmp_path).model.n_layers == 11
    file.unlink()
    with pytest.raises(UserError, match="unknown model 'mine'"):
        compose(["model=mine"], tmp_path)


def test_files_that_differ_are_merged_once_each():
    composer.forget()
    for lr in ("1e-3", "2e-3", "3e-3"):
        for placement in ("pre", "hybrid"):
            assert compose([f"placement={placement}", f"optim.lr={lr}"]).optim.lr == float(lr)
    assert composer._base.cache_info().misses == 2


def test_an_unknown_key_in_a_mapping_is_named():
    with pytest.raises(UserError, match=r"unknown key 'optim\.lrr'; did you mean 'optim\.lr'"):
        compose(["optim={lrr: 1}"])


def test_several_values_are_still_a_mistake():
    with pytest.raises(UserError, match="several values"):
        compose(["optim.lr=1e-3,2e-3"])
