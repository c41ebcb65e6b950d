from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from normlab.config.paths import shipped
from normlab.config.schema import DataConfig

FILES = sorted((shipped("configs") / "data").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_data_config_is_valid_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    plain = yaml.safe_load(text)
    assert text.startswith("# ") and "name" not in plain
    config = DataConfig(**plain, **({"paths": ["texts/*.txt"]} if plain["source"] == "files" else {}))
    assert config.tokenizer.kind in ("bpe", "hub")
    if config.source == "hub":
        assert "/" in str(config.hub_id)
