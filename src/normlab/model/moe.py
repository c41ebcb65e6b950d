"""A mixture of experts in the FFN's place: each token goes to k of E experts, and no assignment is ever dropped."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from normlab.config.architecture import ModelConfig
from normlab.config.schema import NormConfig
from normlab.model.expert_linear import ExpertLinear
from normlab.model.ffn import activation_of
from normlab.model.slots import Slot
from normlab.placement.resolve import ResolvedSublayer


class Routing(NamedTuple):
    """How a router spread the tokens of one forward pass, the micro batch of training. The losses are unweighted.

    With f_e the share of the assignments that went to expert e (they sum to 1) and P_e the mean of its probability:

    balance  E sum_e f_e P_e: 1 where either is uniform. Switch Transformer, Fedus et al. 2021 (arXiv 2101.03961),
             Eq. 4-6; for k > 1 as in MegaBlocks, which OLMoE (arXiv 2409.02060) trained with, and in OLMo-core: over
             tokens * k. transformers' ``load_balancing_loss_func`` leaves out the k and is k times larger, so a
             weight that was published for one is not the other's. It also pools the layers before the product.
    z        mean over tokens of (log sum_e exp(logit_e))^2. ST-MoE, Zoph et al. 2022 (arXiv 2202.08906).
    load     f, (E,); without gradient.
    """

    balance: Tensor
    z: Tensor
    load: Tensor


class MoE(nn.Module):
    """y = sum over the k most probable experts e of p_e FFN_e(x), p = softmax(W_router x); OLMoE (arXiv 2409.02060).

    ``model.normalize_top_k`` divides the k weights by their sum, as Mixtral does and OLMoE does not.
    Dropless, as MegaBlocks (Gale et al. 2022, arXiv 2211.15841): without a capacity no later token can push an
    earlier one out of its expert, so the model stays causal. The router computes in float32 whatever the precision
    of the rest (Switch's selective precision). Norms and scales inside are the layer's, one for all its experts, and
    see each assignment as a sequence of one: what an expert is given is not a sequence.
    """

    def __init__(self, model: ModelConfig, slots: ResolvedSublayer, norm: NormConfig) -> None:
        super().__init__()
        if model.n_experts is None:
            raise ValueError("a mixture of experts needs model.n_experts")
        gated, self.activation = activation_of(model, slots)
        d, d_ff, experts = model.d_model, model.d_ff, model.n_experts
        self.top_k, self.normalize_top_k = model.top_k, model.normalize_top_k
        self.router = nn.Linear(d, experts, bias=False)
        self.up = ExpertLinear(experts, d, d_ff)
        self.gate = ExpertLinear(experts, d, d_ff) if gated else None
        self.gate_norm = Slot(slots.chain("gate"), d_ff, norm)
        self.up_norm = Slot(slots.chain("up"), d_ff, norm)
        self.hidden_norm = Slot(slots.chain("hidden"), d_ff, norm)
        self.down = ExpertLinear(experts, d_ff, d)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """(B, T, d_model) -> the same, and the routing of its B * T = N tokens."""
        tokens = x.flatten(0, -2)  # (N, d)
        logits = self._logits(tokens)  # (N, E)
        probability = logits.softmax(-1)
        weight, chosen = probability.topk(self.top_k)  # (N, k)
        if self.normalize_top_k:
            weight = weight / weight.sum(-1, keepdim=True)

        expert, order = chosen.flatten().sort(stable=True)  # (N k,): assignments, expert by expert
        back = order.argsort()
        every = torch.arange(logits.size(-1), device=x.device)
        ends = torch.searchsorted(expert, every, right=True, out_int32=True)  # (E,)

        rows = tokens.repeat_interleave(self.top_k, dim=0)  # (N k, d)
        rows = _Permute.apply(self._experts(_Permute.apply(rows, order, back), ends), back, order)
        y = (rows.unflatten(0, (-1, self.top_k)) * weight.unsqueeze(-1)).sum(1)  # (N, d)

        load = ends.diff(prepend=ends.new_zeros(1)).to(logits.dtype) / expert.numel()
        balance = logits.size(-1) * (load * probability.mean(0)).sum()
        return y.to(rows.dtype).view_as(x), Routing(balance, logits.logsumexp(-1).square().mean(), load)

    def _logits(self, tokens: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):
            return self.router(tokens.float() if tokens.dtype in (torch.bfloat16, torch.float16) else tokens)

    def _experts(self, x: Tensor, ends: Tensor) -> Tensor:
        """The FFN of each row's expert: (N k, d), sorted by expert -> the same."""
        up = _each(self.up_norm, self.up(x, ends))  # (N k, d_ff)
        gate = None if self.gate is None else _each(self.gate_norm, self.gate(x, ends))
        hidden = self.activation(up) if gate is None else self.activation(gate) * up
        return self.down(_each(self.hidden_norm, hidden), ends)


def _each(slot: Slot, rows: Tensor) -> Tensor:
    """A slot on rows that have no order in time: each is a sequence of one."""
    return slot(rows.unsqueeze(1)).squeeze(1)


class _Permute(torch.autograd.Function):
    """rows[order], whose backward is a gather by the inverse permutation.

    That of indexing is a sum by atomic additions in a compiled or a GPU's kernel, and not the same numbers twice.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None
