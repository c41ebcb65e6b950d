"""Parameter counts of the paper's models, Table 9 (with the 100352 embedding rows that its code pads to)."""

from __future__ import annotations

import pytest
import torch

from normlab import compose
from normlab.config.schema import Config
from normlab.model.gpt import GPT, count_parameters


def meta_parameters(config: Config, vocab_size: int) -> dict[str, int]:
    """Counted on a network that is never allocated: the largest would not fit in this machine."""
    with torch.device("meta"):
        return count_parameters(GPT(config, vocab_size))


TABLE_9 = {  # total and non-embedding parameters in millions
    "paper_151m": (151.4, 74.3),
    "paper_285m": (285.2, 182.5),
    "paper_550m": (550.5, 396.4),
    "paper_543m_deep": (543.7, 440.9),
    "paper_1.2b": (1276.9, 1071.4),
}


@pytest.mark.parametrize("size", TABLE_9)
def test_parameter_counts_are_the_table_s(size):
    config = compose([f"model={size}", "placement=none"])  # the matrices; norms add less than 0.01 %
    counts = meta_parameters(config, config.model.vocab_size)
    assert (round(counts["total"] / 1e6, 1), round(counts["non_embedding"] / 1e6, 1)) == TABLE_9[size]


def test_norm_parameters_of_hybrid_at_1_2b():
    """3 d_head + d per layer and a final norm: fewer than Pre-Norm's 2d, although the paper's appendix counts 4d."""
    config = compose(["model=paper_1.2b", "placement=hybrid"])
    assert meta_parameters(config, 1000)["norm"] == 16 * (3 * 64 + 2048) + 2048
