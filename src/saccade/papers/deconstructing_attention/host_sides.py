"""The projections of a host's attention: Llama, Qwen2 and Qwen3 by four layers, GPT-2 by one for q, k and v.

Norms of q and k and rotary positions are the host's own code; keys that heads share are repeated; q is scaled so that
a map of q k / sqrt(e) has the host's scale.
"""

import sys
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]
Activation = Callable[[Tensor], Tensor]


class LlamaSides:
    """Of Llama's make."""

    entry = "input_layernorm"

    def __init__(self, attention: Any) -> None:
        self.attention = attention
        self.width = attention.q_proj.in_features
        self.sizes = tuple(layer.out_features for layer in (attention.q_proj, attention.k_proj, attention.v_proj))
        self.biased = attention.q_proj.bias is not None
        self.dropout: float = attention.attention_dropout
        self.window: int | None = getattr(attention, "sliding_window", None)

    def queries_keys(
        self, x: Float[Tensor, "b n d"], rotation: Rotation | None, activation: Activation | None = None
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h n e"]]:
        """q, after `activation`, and k, normalised where the host does; turned where there is a rotation."""
        host = self.attention
        q, k = host.q_proj(x), host.k_proj(x)
        q, k = (part.unflatten(-1, (-1, host.head_dim)) for part in (activation(q) if activation else q, k))
        if hasattr(host, "q_norm"):
            q, k = host.q_norm(q), host.k_norm(k)
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        if rotation is not None:
            q, k = sys.modules[type(host).__module__].apply_rotary_pos_emb(q, k, *rotation)
        return q * (host.scaling * host.head_dim**0.5), k.repeat_interleave(host.num_key_value_groups, dim=1)

    def values(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n e"]:
        """v by head."""
        v = self.attention.v_proj(x).unflatten(-1, (-1, self.attention.head_dim)).transpose(1, 2)
        return v.repeat_interleave(self.attention.num_key_value_groups, dim=1)

    def output(self, x: Float[Tensor, "b n k"]) -> Float[Tensor, "b n d"]:
        """The output projection."""
        return self.attention.o_proj(x)


class GPT2Sides:
    """Of GPT-2's make: biases throughout, no rotary positions, dropout behind the output projection."""

    entry = "ln_1"
    biased = True
    window: int | None = None

    def __init__(self, attention: Any) -> None:
        self.attention = attention
        self.width = attention.embed_dim
        self.sizes = (attention.embed_dim,) * 3
        self.dropout: float = attention.attn_dropout.p

    def queries_keys(
        self, x: Float[Tensor, "b n d"], rotation: Rotation | None, activation: Activation | None = None
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h n e"]]:
        """q, after `activation`, and k."""
        q, k, _ = self.attention.c_attn(x).chunk(3, dim=-1)
        q, k = (self._split(part) for part in (activation(q) if activation else q, k))
        return q * (self.attention.scaling * self.attention.head_dim**0.5), k

    def values(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n e"]:
        """v by head."""
        return self._split(self.attention.c_attn(x).chunk(3, dim=-1)[2])

    def output(self, x: Float[Tensor, "b n k"]) -> Float[Tensor, "b n d"]:
        """The output projection, and its dropout."""
        return self.attention.resid_dropout(self.attention.c_proj(x))

    def _split(self, x: Tensor) -> Float[Tensor, "b h n e"]:
        return x.unflatten(-1, (-1, self.attention.head_dim)).transpose(1, 2)


Sides = LlamaSides | GPT2Sides
KNOWN: dict[str, type[LlamaSides] | type[GPT2Sides]] = {
    "LlamaAttention": LlamaSides, "Qwen2Attention": LlamaSides, "Qwen3Attention": LlamaSides,
    "GPT2Attention": GPT2Sides,
}  # fmt: skip


def sides_of(attention: nn.Module, layer: int) -> Sides:
    """The projections of one attention; `layer` counts from one, for messages.

    Raises ValueError for attention of another kind, with dropout, or with a window.
    """
    name = type(attention).__name__
    if name not in KNOWN:
        raise ValueError(f"layer {layer} attends by a {name}; deconstruct knows {', '.join(KNOWN)}")
    found = KNOWN[name](attention)
    if found.dropout:
        raise ValueError(
            f"layer {layer} drops out {found.dropout:g} of its attention in training, which a replaced one cannot; "
            "load the model with attention_dropout=0, or attn_pdrop=0"
        )
    if found.window is not None:
        raise ValueError(
            f"layer {layer} has sliding_window={found.window}, which no variant has; give a layout keeping it"
        )
    return found
