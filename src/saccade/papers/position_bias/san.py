"""The self-attention network on which the theory is tried: attention layers alone, then the last token is read.

    x -> (single head, q k v without bias, no projection, no norm) x depth -> last token -> 3 x (linear, ReLU) -> linear

Source: the released code, xinyiwu98/position-bias-in-attention.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.core.checks import check_word
from saccade.models.architecture import Architecture, check_config
from saccade.models.checkpoint_names import Names
from saccade.nn.positions import BASE
from saccade.papers.position_bias.maps import slope_of
from saccade.papers.position_bias.masks import Causal, Full, Graph, Prefix, Window
from saccade.papers.position_bias.rotary import angles, rotated, sinusoid

Positions = Literal["none", "rope", "sin"]
MaskKind = Literal["causal", "window", "prefix", "full"]
READERS = 3


@dataclass(frozen=True, kw_only=True)
class SANConfig:
    """Sizes, mask and positions.

    depth, width   layers of attention, channels of a token
    labels      to choose from
    mask        "causal", "window", "prefix", "full"; `window` and `prefix` are their sizes
    gamma       decay by gamma^(i - j), added to the scaled scores as its logarithm; 1 is none
    positions   "rope", by `base`; "sin", added to the input; "none"
    residual    add each layer's input to its output
    compat      "official" gives `base` to the first layer alone, as released; later ones keep 10000
    Raises ValueError for options out of range.
    """

    depth: int = 2
    width: int = 64
    labels: int = 32
    mask: MaskKind = "causal"
    window: int = 20
    prefix: int = 1
    gamma: float = 1.0
    positions: Positions = "none"
    base: float = BASE
    residual: bool = False
    compat: Literal["none", "official"] = "none"

    def __post_init__(self) -> None:
        check_config(self, depth=1, width=1, labels=1, window=1, prefix=1)
        check_word(get_args(MaskKind), mask=self.mask)
        check_word(get_args(Positions), positions=self.positions)
        check_word(("none", "official"), compat=self.compat)
        slope_of(self.gamma)
        if self.gamma < 1 and self.mask in ("prefix", "full"):
            raise ValueError(
                f"gamma={self.gamma} decays to the past; give mask='causal' or 'window', not '{self.mask}'"
            )
        if self.positions != "none":
            angles(self.width, self.base)

    @property
    def graph(self) -> Graph:
        """The mask as a graph."""
        graphs = {"window": Window(width=self.window), "prefix": Prefix(length=self.prefix), "full": Full()}
        return graphs.get(self.mask, Causal())


class SANLayer(nn.Module):
    """One head over all channels; `base` turns q and k, None leaves them."""

    def __init__(self, width: int, base: float | None) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.base = base

    def map(
        self, x: Float[Tensor, "b n d"], allowed: Bool[Tensor, "n n"], bias: Float[Tensor, "n n"]
    ) -> Float[Tensor, "b n n"]:
        """Attention after softmax."""
        q, k = self.query(x), self.key(x)
        if self.base is not None:
            q, k = rotated(q, self.base), rotated(k, self.base)
        scores = q @ k.mT * x.shape[-1] ** -0.5 + bias
        return scores.masked_fill(~allowed, -torch.inf).softmax(-1)


class SAN(Architecture):
    """Logits of the last token's label."""

    config_class = SANConfig
    config: SANConfig
    sizes: ClassVar[dict[str, Any]] = {"paper": SANConfig()}
    names: ClassVar[Names] = (
        ("layers.{}.query.", "attn_layers.{}.query_projection."),
        ("layers.{}.key.", "attn_layers.{}.key_projection."),
        ("layers.{}.value.", "attn_layers.{}.value_projection."),
        ("readers.{}.", "mlp_layers.{}."),
        ("head.", "lin."),
    )

    def __init__(self, config: SANConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        bases = [c.base if i == 0 or c.compat == "none" else BASE for i in range(c.depth)]
        turned = c.positions == "rope"
        self.layers = nn.ModuleList(SANLayer(c.width, base if turned else None) for base in bases)
        self.readers = nn.ModuleList(nn.Linear(c.width, c.width) for _ in range(READERS))
        self.head = nn.Linear(c.width, c.labels)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b k"]:
        """Logits, one for each label.

        Raises ValueError for tokens of another width, and for a prefix longer than they are.
        """
        return self.read(self.through(x)[0])

    def maps(self, x: Float[Tensor, "b n d"]) -> list[Float[Tensor, "b n n"]]:
        """Each layer's attention, for `rollout`."""
        return self.through(x)[1]

    def through(self, x: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n d"], list[Float[Tensor, "b n n"]]]:
        """The tokens behind the last layer, and the maps on the way. Raises ValueError as a forward does."""
        c, n = self.config, x.shape[1]
        if x.shape[2] != c.width:
            raise ValueError(f"x of shape {tuple(x.shape)} must be (batch, tokens, {c.width}), as the config says")
        x = x + sinusoid(n, c.width).to(x) if c.positions == "sin" else x
        allowed, place = c.graph.allowed(n).to(x.device), torch.arange(n, device=x.device)
        bias, maps = math.log(c.gamma) * (place[:, None] - place).to(x), []
        for layer in self.layers:
            maps.append(layer.map(x, allowed, bias))  # type: ignore[operator]
            mixed = maps[-1] @ layer.value(x)  # type: ignore[operator]
            x = x + mixed if c.residual else mixed
        return x, maps

    def read(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b k"]:
        """Logits from the last token."""
        last = x[:, -1]
        for reader in self.readers:
            last = torch.relu(reader(last))
        return self.head(last)
