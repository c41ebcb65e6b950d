"""Keys and tokens stay where they are: no configuration, log or error line repeats one.

A secret is the value of an environment variable whose name says so, a Hugging Face token, or a password in a URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

_SECRET_NAME = re.compile(
    r"(?!.*_(?:PATH|FILE|DIR)$)"  # where a secret lies is none
    r".*(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(?:_|$)",
    re.IGNORECASE,
)
_LEAST = 8  # characters; a shorter value is a word that may stand anywhere
_HF_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")  # huggingface.co/docs/hub/security-tokens
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")  # RFC 3986, section 3.2.1
_HIDDEN = "***"


def redact(text: str) -> str:
    """``text`` with every secret in it replaced by ``***``."""
    for value in _secret_variables().values():
        text = text.replace(value, _HIDDEN)
    return _LOGIN.sub(_HIDDEN, _HF_TOKEN.sub(_HIDDEN, text))


def find_secret(plain: Any) -> tuple[str, str] | None:
    """The dotted key of nested plain data whose text holds a secret, and what it is; None where there is none."""
    variables = _secret_variables()
    for key, text in _texts(plain, ""):
        for name, value in variables.items():
            if value in text:
                return key, f"the value of ${name}"
        if _HF_TOKEN.search(text):
            return key, "a Hugging Face token"
        if _LOGIN.search(text):
            return key, "a login in a URL"
    return None


def _secret_variables() -> dict[str, str]:
    """Longest first: one may be a part of another."""
    found = {name: value for name, value in os.environ.items() if _SECRET_NAME.match(name) and len(value) >= _LEAST}
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _texts(plain: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in nested data, with its dotted key; the names of keys are texts as well."""
    if isinstance(plain, dict):
        for name, value in plain.items():
            inner = f"{key}.{name}" if key else str(name)
            yield inner, str(name)
            yield from _texts(value, inner)
    elif isinstance(plain, list):
        for value in plain:
            yield from _texts(value, key)
    elif isinstance(plain, str):
        yield key, plain
