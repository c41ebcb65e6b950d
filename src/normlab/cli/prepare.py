"""``normlab prepare``."""

from __future__ import annotations

from collections.abc import Sequence

from normlab.cli.arguments import Arguments

HELP = """\
normlab prepare [KEY=VALUE ...]      read the text, train the tokenizer, write the tokens

  normlab prepare                                        the source of Python's standard library
  normlab prepare data=wikitext103                       from the Hugging Face hub
  normlab prepare data=tinystories data.max_bytes=20000000
  normlab prepare data=files 'data.paths=[texts/*.txt]' data.tokenizer.vocab_size=8192
  normlab prepare data=stdlib data.tokenizer.kind=bytes

  data=             a name            data.tokenizer.kind=bpe       bytes, bpe, file or hub
  data.max_bytes=   at most so much   data.tokenizer.vocab_size=4096
  data.cache_dir=   where to (else $NORMLAB_CACHE, else your cache folder)
  --config-dir DIR  your own groups besides ./configs
"""


def run(words: Sequence[str]) -> int:
    arguments = Arguments(HELP)
    arguments.add_argument("overrides", nargs="*")
    arguments.add_argument("--config-dir")
    given = arguments.read(words)

    from normlab.config.compose import compose

    config = compose(given.overrides, given.config_dir)
    from normlab.data import describe, prepare

    print(describe(prepare(config.data)))
    return 0
