"""The same weights in somebody else's code: Llama (pre) and OLMo 2 (olmo2) of `transformers`, logits and gradients."""

from __future__ import annotations

import pytest
import torch

from normlab import build_model, compose

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 32,
         "tie_word_embeddings": True}  # fmt: skip
OURS = ["model.d_model=64", "model.d_ff=96", "model.n_layers=3", "model.n_heads=4", "model.n_kv_heads=2",
        "model.vocab_size=128", "train.seq_len=32"]  # fmt: skip
MATRICES = {
    **{f"attn.branch.{name}": f"self_attn.{name}_proj" for name in "qkvo"},
    **{f"ffn.branch.{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")},
}
LLAMA = {**MATRICES, "attn.pre.0": "input_layernorm", "ffn.pre.0": "post_attention_layernorm"}
OLMO2 = {**MATRICES, "attn.branch.q_norm.0.inner": "self_attn.q_norm", "attn.branch.k_norm.0.inner": "self_attn.k_norm",
         "attn.out.0": "post_attention_layernorm", "ffn.out.0": "post_feedforward_layernorm"}  # fmt: skip


def theirs(kind: str):
    config, cls = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "olmo2": (transformers.Olmo2Config, transformers.Olmo2ForCausalLM),
    }[kind]
    torch.manual_seed(0)
    model = cls(config(**SIZES, rms_norm_eps=1e-5, rope_theta=10000.0, pad_token_id=None)).double().eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(("kind", "placement", "names"), [("llama", "pre", LLAMA), ("olmo2", "olmo2", OLMO2)])
def test_same_weights_same_logits_same_gradients(kind, placement, names):
    other = theirs(kind)
    torch.set_default_dtype(torch.float64)
    try:
        mine = build_model(compose([f"placement={placement}", *OURS]))
    finally:
        torch.set_default_dtype(torch.float32)
    pairs = {"embed.weight": "model.embed_tokens.weight", "final_norm.0.weight": "model.norm.weight"}
    for layer in range(3):
        pairs |= {f"blocks.{layer}.{a}.weight": f"model.layers.{layer}.{b}.weight" for a, b in names.items()}
    source = dict(other.named_parameters())
    assert set(pairs) == set(dict(mine.named_parameters()))
    mine.load_state_dict({name: source[pairs[name]].data for name in pairs}, strict=True)

    tokens = torch.randint(0, 128, (2, 32), generator=torch.Generator().manual_seed(1))
    ours, logits = mine(tokens), other(tokens).logits
    # Their RMSNorm and RoPE compute in float32 whatever the weights are.
    torch.testing.assert_close(ours, logits, rtol=1e-5, atol=1e-5)
    ours.square().mean().backward()
    logits.square().mean().backward()
    for name, parameter in mine.named_parameters():
        torch.testing.assert_close(parameter.grad, source[pairs[name]].grad, rtol=1e-4, atol=1e-6)
