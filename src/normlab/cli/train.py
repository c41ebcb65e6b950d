"""``normlab train``."""

from __future__ import annotations

from collections.abc import Sequence

from normlab.cli.arguments import Arguments, refuse_torchrun
from normlab.errors import UserError

HELP = """\
normlab train [KEY=VALUE ...]        train one run; again: resume it, or do nothing if it is done

  normlab train                                          Pre-Norm, RMSNorm, about a minute on one CPU core
  normlab train placement=hybrid scale=smoke             seconds: does it run?
  normlab train placement=post norm=layernorm optim.lr=1e-3 seed=1
  normlab train placement=hybrid placement.attn.v=null   HybridNorm without the norm on the values
  normlab train 'placement.attn.pre=n | c(1/sqrt(l))'    a formula in a slot
  normlab train data=files 'data.paths=[texts/*.txt]'    your own text

  placement=  norm=  model=  data=  optim=  scale=  wandb=   a name; a wrong one is answered with the valid ones
                    (`normlab placements` lists the placements)
  seed=0            optim.lr=3e-3         train.steps=400     experiment=scratch
  init=recipe       optim.warmup_steps=   train.batch_size=   runs_dir=runs
  wandb=offline     optim.schedule=       train.seq_len=      train.device=auto

  torchrun --nproc-per-node 8 -m normlab train ...       one run on several devices (train.parallel=ddp or fsdp)

  --cfg job         print the configuration that would run, whole and checked, and stop
  -m, --multirun    several values are a sweep: normlab train -m placement=pre,post seed=0,1
  --config-dir DIR  your own groups, for example DIR/placement/mine.yaml; ./configs is searched by itself
  --info WHAT       what Hydra did: defaults, defaults-tree, searchpath, plugins, config, all
"""
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def run(words: Sequence[str]) -> int:
    """Exit code 0 when the run is done or has diverged, which is a result; 130 or 143 when it was stopped."""
    arguments = Arguments(HELP)
    arguments.add_argument("overrides", nargs="*")
    arguments.add_argument("--cfg", choices=["job"])
    arguments.add_argument("--info", choices=_INFO)
    arguments.add_argument("--config-dir")
    arguments.add_argument("-m", "--multirun", action="store_true")
    given = arguments.read(words)

    if given.multirun:
        refuse_torchrun()
    if given.cfg and given.multirun:
        raise UserError("--cfg shows one run: leave out --multirun and give every key one value")

    from normlab.config.compose import compose, user_config_dir

    if given.cfg:
        import yaml

        config = compose(given.overrides, given.config_dir)
        print(yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False), end="")
        return 0
    from normlab.cli.hydra_app import run_hydra

    with user_config_dir(given.config_dir):
        return run_hydra(given.overrides, *(["--info", given.info] if given.info else []), sweep=given.multirun)
