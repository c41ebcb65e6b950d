"""``normlab placements``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normlab.cli.arguments import Arguments
from normlab.errors import UserError, nearest

if TYPE_CHECKING:
    from normlab.placement.resolve import ResolvedOp

HELP = """\
normlab placements [show NAME]       where norms can sit

  normlab placements                 all of them, with paper and equation
  normlab placements show hybrid     its file, and what stands in each slot of a network of four layers
  normlab placements show hybrid_star --layers 12

  --layers N        layers of the network that is shown (4)
  --config-dir DIR  your own groups besides ./configs

A placement is a file of a few lines; your own goes to configs/placement/mine.yaml: placement=mine.
"""
_WIDTH = 256  # of the network that is shown; only formulas with `d` depend on it


def run(words: Sequence[str]) -> int:
    arguments = Arguments(HELP)
    arguments.add_argument("words", nargs="*")
    arguments.add_argument("--layers", type=int, default=4)
    arguments.add_argument("--config-dir")
    given = arguments.read(words)

    from normlab.config.compose import config_folders, user_config_dir

    with user_config_dir(given.config_dir):
        # The first folder that has a name wins, as in a run.
        files = {
            path.stem: path
            for folder in reversed(config_folders())
            for path in sorted((folder / "placement").glob("*.yaml"))
        }
        match given.words:
            case []:
                _list(files)
            case ["show", name]:
                if name not in files:
                    raise UserError(f"unknown placement '{name}'; {nearest(name, files)}")
                _show(files[name], name, given.layers)
            case _:
                raise UserError(f"cannot read '{' '.join(given.words)}': write normlab placements, or ... show NAME")
    return 0


def _list(files: dict[str, Path]) -> None:
    for name in sorted(files):
        comments = [line.lstrip("# ") for line in files[name].read_text().splitlines() if line.startswith("#")]
        for number, line in enumerate([*comments, "", ""][:2]):
            print(f"{'' if number else name:<18} {line}".rstrip())


def _show(path: Path, name: str, n_layers: int) -> None:
    from normlab.config.compose import compose
    from normlab.placement import resolve

    if n_layers < 1:
        raise UserError(f"--layers {n_layers}: a network has at least one layer")
    placement = compose([f"placement={name}"]).placement
    resolved = resolve(placement, n_layers, _WIDTH)
    print(f"# {path}\n{path.read_text().rstrip()}\n")
    print(f"in a network of {n_layers} layers:")
    print(f"  embed    {_chain(resolved.embed)}")
    for number, block in enumerate(resolved.blocks, start=1):
        for kind, sublayer in (("attn", block.attn), ("ffn", block.ffn)):
            slots = [f"{slot}: {_chain(chain)}" for slot, chain in sublayer.slots.items()]
            slots += [f"read: {sublayer.read}"] if sublayer.read != "x" else []
            slots += [f"from: {sublayer.skip_from}"] if sublayer.skip_from != "x" else []
            print(f"  {number:>2} {kind:<5} {',  '.join(slots) or '-'}")
    print(f"  final    {_chain(resolved.final)}")
    init = placement.init if isinstance(placement.init, str) else placement.init.model_dump(exclude_defaults=True)
    print(f"  init     {init}")


def _chain(chain: Sequence[ResolvedOp]) -> str:
    """A slot's operations with their numbers: ``n | c(0.7071)``."""
    return " | ".join(_op(resolved) for resolved in chain) or "-"


def _op(resolved: ResolvedOp) -> str:
    from normlab.placement.ops import Norm, Share

    op = resolved.op
    if isinstance(op, Share):
        return f"={op.sublayer}.{op.slot}"
    if isinstance(op, Norm):
        options = [f"gain={resolved.value:.4g}"] if resolved.value != 1 else []
        options += [] if op.affine else ["affine=no"]
        options += [
            f"{key}={value}" for key, value in (("scope", op.scope), ("at", op.at)) if value in ("full", "post_rope")
        ]
        return f"n({', '.join(options)})" if options else "n"
    return f"{op.kind}({resolved.value:.4g})"
