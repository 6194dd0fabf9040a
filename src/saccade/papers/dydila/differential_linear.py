"""Linear attention sharpened by choices of each token: projector, exponent, and how much redundancy to take away.

    q' = x W[argmax x R]                 projector of the redundant part, likewise k'
    z~ = phi_g(z), g = gamma[argmax z R] of q, k, q' and k', each with a bank and router of its own
    qd = q~ - lambda q'~, kd likewise    lambda picked from a bank that q and k share
    out = qd (kd^T v / n) / (q~ mean k~ + eps), then + DWC(v)

Every choice is hard in the forward pass and soft in the backward pass. See `saccade.papers.dydila` for sources.
"""

from typing import Literal
from warnings import warn

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.attention import per_head
from saccade.nn.linear_attention import LocalTerm, check_place, counted, gone, join, split_heads
from saccade.nn.part import MixerOutput, TokenPositions
from saccade.nn.registry import mixer
from saccade.nn.routing import Router, Routing, choose, softmax, straight_through
from saccade.ops.linear import focused_features, normalised

Normaliser = Literal["undifferenced", "none", "signed"]
STEEPEST = 16.0


class TokenRouter(Router):
    """One of `choices` for each vector, by a linear layer without bias.

    Raises ValueError for fewer than one choice.
    """

    def __init__(self, width: int, choices: int) -> None:
        super().__init__()
        if choices < 1:
            raise ValueError(f"choices={choices} of a router must be at least 1")
        self.linear = nn.Linear(width, choices, bias=False)

    def forward(self, x: Float[Tensor, "*n d"]) -> Routing:
        return choose(softmax(self.linear(x), self.name), 1)

    def weights(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n c"]:
        """One-hot; in training with the gradient of the probabilities."""
        routing = self(x)
        hard = torch.zeros_like(routing.probs).scatter(-1, routing.index, 1.0)
        return straight_through(hard, routing.probs) if self.training else hard

    def pick(self, x: Float[Tensor, "*n d"], bank: Float[Tensor, " c"]) -> Float[Tensor, "*n 1"]:
        """The chosen number of a bank."""
        weights = self.weights(x)
        return (weights @ bank.to(weights.dtype))[..., None]


class Projectors(nn.Module):
    """A bank of square projections, one for each token; in training all are computed, for the router's gradient."""

    def __init__(self, width: int, choices: int) -> None:
        super().__init__()
        self.router = TokenRouter(width, choices)
        self.bank = nn.Parameter(torch.empty(choices, width, width))
        for matrix in self.bank:
            nn.init.xavier_uniform_(matrix)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        if self.training:
            return torch.einsum(
                "bnu,bnud->bnd", self.router.weights(x).to(x.dtype), torch.einsum("bni,udi->bnud", x, self.bank)
            )
        index, tokens = self.router(x).index.flatten(), x.flatten(0, 1)
        order = index.argsort(stable=True)
        groups = tokens[order].split(index.bincount(minlength=len(self.bank)).tolist())
        found = torch.cat([group @ matrix.mT for group, matrix in zip(groups, self.bank, strict=True)])
        return torch.empty_like(found).index_copy(0, order, found).view_as(x)


class Measure(nn.Module):
    """Focused features whose exponent each vector picks from a learned bank; its choice passes no gradient to them."""

    def __init__(self, channels: int, choices: int, exponent: float) -> None:
        super().__init__()
        self.router = TokenRouter(channels, choices)
        self.exponents = nn.Parameter(torch.full((choices,), exponent))

    def forward(self, z: Float[Tensor, "b h n e"]) -> Float[Tensor, "b h n e"]:
        return focused_features(z, self.router.pick(z.detach(), self.exponents.clamp(1, STEEPEST)))


@mixer("dydila")
class DifferentialLinearAttention(nn.Module):
    """Dynamic differential linear attention.

    projectors   how many a token's redundant q and k choose from
    exponents    how many powers a vector chooses from, all `exponent` at first
    factors      how many lambdas a token chooses from, all `factor` at first
    difference   whether redundancy is taken away at all; off: lambda is 0 and q', k' are not made
    normaliser   divide by the rows of the undifferenced map; by none, with e**-0.5; or by the signed rows
    local        side of the depthwise convolution of v; 0: none
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        projectors: int = 3,
        exponents: int = 9,
        factors: int = 9,
        exponent: float = 3.0,
        factor: float = 0.01,
        difference: bool = True,
        normaliser: Normaliser = "undifferenced",
        local: int = 5,
    ) -> None:
        super().__init__()
        _check(exponent, factor, normaliser)
        self.heads, self.head_dim = heads, per_head(width, heads)
        self.normaliser, self.difference = normaliser, difference
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.local = LocalTerm(width, local) if local else None
        self.out = nn.Linear(width, width)
        e = self.head_dim
        self.measure_q, self.measure_k = (Measure(e, exponents, exponent) for _ in range(2))
        if difference:
            self.redundant_q, self.redundant_k = (Projectors(width, projectors) for _ in range(2))
            self.measure_rq, self.measure_rk = (Measure(e, exponents, exponent) for _ in range(2))
            self.factor_q, self.factor_k = (TokenRouter(2 * e, factors) for _ in range(2))
            self.factor_q.steering = self.factor_k.steering = False  # Muon's, as in the runs that are measured
            self.factors = nn.Parameter(torch.full((factors,), factor))

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        check_place(place, "dydila")
        q, k, v = self.operands(x, place)
        return MixerOutput(self.out(join(self._mixed(x, q, k, v, place), v, self.local, place)), {})

    def operands(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> tuple[Tensor, Tensor, Tensor]:
        """q~, k~ and v by head, zero where no token is."""
        q, k, v = split_heads(self.qkv(x), self.heads)
        return self.measure_q(q), gone(self.measure_k(k), place), gone(v, place)

    def differenced(
        self, x: Float[Tensor, "b n d"], q: Float[Tensor, "b h n e"], k: Float[Tensor, "b h n e"], place: TokenPositions
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h n e"]]:
        """qd and kd."""
        if not self.difference:
            return q, k
        rq, rk = (split_heads(side(x), self.heads, 1)[0] for side in (self.redundant_q, self.redundant_k))
        rq, rk = self.measure_rq(rq), gone(self.measure_rk(rk), place)
        lq = self.factor_q.pick(torch.cat((q, rq), dim=-1), self.factors).to(q.dtype)
        lk = self.factor_k.pick(torch.cat((k, rk), dim=-1), self.factors).to(k.dtype)
        return q - lq * rq, k - lk * rk

    def _mixed(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, place: TokenPositions) -> Float[Tensor, "b h n e"]:
        qd, kd = self.differenced(x, q, k, place)
        if self.normaliser == "none":
            return qd @ (kd.mT @ v) * self.head_dim**-0.5
        below = (qd, kd) if self.normaliser == "signed" else (q, k)
        return normalised(qd, kd, v, below=below, count=counted(place))


def _check(exponent: float, factor: float, normaliser: str) -> None:
    if not 1 <= exponent <= STEEPEST:
        raise ValueError(f"exponent={exponent} must be in [1, {STEEPEST:g}]; 1 is relu")
    if normaliser not in ("undifferenced", "none", "signed"):
        raise ValueError(f"normaliser='{normaliser}' must be 'undifferenced', 'none' or 'signed'")
    if not 0 <= factor < 1:
        warn(f"factor={factor} outside [0, 1) takes away more than there is; 0.01 is usual", stacklevel=3)
