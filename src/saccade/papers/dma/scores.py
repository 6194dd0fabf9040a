"""The score of every key, made from the values of all key heads: what is added to its logits and ranks it.

    Delta = softplus(W [v_1 .. v_G]),    exp: b = exp(A Delta),    linear: b = A Delta

`exp` is the closed form exp(Delta A) of a decay over a step Delta, hence the paper's zero-order hold.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.checks import check_word

Form = Literal["exp", "linear"]


def key_bias(
    v: Float[Tensor, "b g m d"],
    weight: Tensor,
    a: Tensor,
    form: Form = "exp",
    offset: Tensor | None = None,
) -> Float[Tensor, "b g m"]:
    """The bias of every key, in float32 at least: in half precision the exponential overflows.

    weight   W, (g, g d)
    a        A, (g)
    offset   added to W v, (g); no published model has one
    Cost: 2 g^2 d FLOPs a key. Raises ValueError where sizes do not fit the key heads.
    """
    check_word(get_args(Form), form=form)
    _check_sizes(v, weight, a, offset)
    fine = torch.promote_types(v.dtype, torch.float32)
    joined = v.transpose(1, 2).flatten(2)  # (b m g*d)
    step = F.softplus(F.linear(joined, weight, offset).to(fine))
    bias = (step * a.to(fine)).mT
    return bias.exp() if form == "exp" else bias


class KeyBias(nn.Module):
    """The weights of `key_bias`, G (G d) + G of them.

    std   of the first A; 0 as in the first release, where every key has the same score at first
    """

    def __init__(self, kv_heads: int, head_dim: int, *, form: Form = "exp", std: float = 0.02) -> None:
        super().__init__()
        check_word(get_args(Form), form=form)
        self.form: Form = form
        self.dt_proj = nn.Linear(kv_heads * head_dim, kv_heads, bias=False)
        self.A = nn.Parameter(torch.empty(kv_heads).normal_(std=std) if std else torch.zeros(kv_heads))
        nn.init.normal_(self.dt_proj.weight, std=0.02)

    def forward(self, v: Float[Tensor, "b g m d"]) -> Float[Tensor, "b g m"]:
        """The bias of every key."""
        return key_bias(v, self.dt_proj.weight, self.A, self.form)


def _check_sizes(v: Tensor, weight: Tensor, a: Tensor, offset: Tensor | None) -> None:
    groups, head_dim = v.shape[1], v.shape[3]
    if tuple(weight.shape) != (groups, groups * head_dim):
        raise ValueError(
            f"weight {tuple(weight.shape)} must be ({groups}, {groups * head_dim}): one score for each of the "
            f"{groups} key heads, from their {groups} x {head_dim} values"
        )
    for name, each in (("a", a), ("offset", offset)):
        if each is not None and tuple(each.shape) != (groups,):
            raise ValueError(f"{name} {tuple(each.shape)} must be ({groups},): one number for each key head")
