"""The data path: text -> tokenizer -> token file -> batch(seed, step, rank)."""

from normlab.data.loader import Loader, fixed_windows
from normlab.data.prepare import prepare
from normlab.data.prepared import Prepared, describe
from normlab.data.tokenfile import TokenFile
from normlab.data.tokenizer import vocab_size_of

__all__ = ["Loader", "Prepared", "TokenFile", "describe", "fixed_windows", "prepare", "vocab_size_of"]
