"""The position-wise feed-forward network, with the norms that a placement puts inside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from normlab.config.architecture import ModelConfig
from normlab.config.schema import NormConfig
from normlab.errors import UserError
from normlab.model.slots import Slot
from normlab.placement.resolve import ResolvedSublayer


class Activation(NamedTuple):
    """``gated``: hidden = function(gate) * up, Shazeer 2020 (arXiv 2002.05202); else hidden = function(up)."""

    gated: bool
    function: Callable[[Tensor], Tensor]


def _gelu_tanh(x: Tensor) -> Tensor:
    """GELU by tanh, as the code of GPT-2 computes it (Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2)."""
    return F.gelu(x, approximate="tanh")


def _relu2(x: Tensor) -> Tensor:
    """Squared ReLU, So et al. 2021 (Primer, arXiv 2109.08668)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Activation] = {
    "swiglu": Activation(True, F.silu),
    "geglu": Activation(True, _gelu_tanh),
    "reglu2": Activation(True, _relu2),
    "gelu": Activation(False, F.gelu),
    "gelu_tanh": Activation(False, _gelu_tanh),
    "relu2": Activation(False, _relu2),
    "relu": Activation(False, F.relu),
}


def activation_of(model: ModelConfig, slots: ResolvedSublayer) -> Activation:
    """The model's kind of FFN. Raises UserError where the placement fills a gate's slot and there is no gate."""
    activation = ACTIVATIONS[model.ffn]
    if not activation.gated and slots.chain("gate"):
        kinds = ", ".join(name for name, kind in ACTIVATIONS.items() if kind.gated)
        raise UserError(f"placement.ffn.gate: model.ffn={model.ffn} has no gate; the kinds with one are {kinds}")
    return activation


class FFN(nn.Module):
    """W_down hidden(x), where hidden is of width d_ff and its kind is one of ``ACTIVATIONS``."""

    def __init__(self, model: ModelConfig, slots: ResolvedSublayer, norm: NormConfig) -> None:
        super().__init__()
        gated, self.activation = activation_of(model, slots)
        self.up = nn.Linear(model.d_model, model.d_ff, bias=model.bias)
        self.gate = nn.Linear(model.d_model, model.d_ff, bias=model.bias) if gated else None
        self.gate_norm = Slot(slots.chain("gate"), model.d_ff, norm)
        self.up_norm = Slot(slots.chain("up"), model.d_ff, norm)
        self.hidden_norm = Slot(slots.chain("hidden"), model.d_ff, norm)
        self.down = nn.Linear(model.d_ff, model.d_model, bias=model.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model) -> (B, T, d_model)."""
        up = self.up_norm(self.up(x))  # (B, T, d_ff)
        hidden = self.activation(up) if self.gate is None else self.activation(self.gate_norm(self.gate(x))) * up
        return self.down(self.hidden_norm(hidden))
