"""A stage of dynamic chunking around any main network, and blocks of DiT as one.

    x -> encoder -> router: keep a few -> main network -> de-chunk: all again -> + linear(encoded) -> decoder

The main network may be a stage itself; that one works on sequences, the outermost on a grid.

Sources: Hwang et al., H-Net (2025); Haridas et al., DC-DiT (2026).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.nn.block import xavier_
from saccade.nn.packing import pack, unpack
from saccade.nn.part import Losses, MixerOutput, TokenPositions, added
from saccade.nn.positions import grid_places, grid_table
from saccade.papers.dc_dit.chunking import Budget, Chunk, RatioLoss, drop_tail, kept, plug
from saccade.papers.dc_dit.conv_residual import ConvStack
from saccade.papers.dc_dit.dechunking import Dechunk
from saccade.papers.dc_dit.keep_routers import in_single, keep_router, single


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """How a stage routes and spreads.

    router         predictability, neighbours or sequence; a stage inside another takes sequence
    dechunk        how results are spread
    loss           of the share of kept tokens; `loss_weight` times it is returned as "ratio"
    zero_residual  start the way around the main network at zero
    """

    router: str = "predictability"
    dechunk: Dechunk = Dechunk()
    loss: RatioLoss = RatioLoss()
    loss_weight: float = 0.03
    zero_residual: bool = False


class ChunkStage(nn.Module):
    """`width`: of the encoded tokens, on which router, main network and de-chunk work."""

    def __init__(
        self, encoder: ConvStack, inner: nn.Module, decoder: ConvStack, width: int, options: StageOptions
    ) -> None:
        super().__init__()
        self.encoder, self.inner, self.decoder, self.options = encoder, inner, decoder, options
        self.residual = nn.Linear(width, width)
        for part in (encoder, decoder, self.residual):
            xavier_(part)
        if options.zero_residual:
            nn.init.zeros_(self.residual.weight)
        self.router = keep_router(options.router, width)

    def forward(
        self,
        x: Float[Tensor, "b n e"],
        c: Float[Tensor, "b k"],
        place: TokenPositions,
        cells: Int[Tensor, "b n"],
        budget: Budget,
    ) -> MixerOutput:
        """`cells`: where on the outermost grid tokens stand."""
        encoded = self.encoder(x, c, place)
        around = in_single(self.residual, single(encoded))
        routing = self.router(encoded, place)
        natural, p = kept(routing), routing.probs[..., 1]
        chunk = Chunk.of(drop_tail(natural, p, budget.shares(len(x), x.device)))
        found: MixerOutput = self.inner(
            chunk.take(encoded), c, TokenPositions(keep=chunk.there), chunk.take(cells), budget
        )
        spread = self.options.dechunk(found.out, p, chunk, place.grid)
        out = (plug(spread, routing.weight[..., 0]) + around).to(encoded.dtype)
        loss = self._loss(natural, p, budget.ratio, place)
        return MixerOutput(self.decoder(out, c, place), added((found.losses, loss)))

    def _loss(self, natural: Tensor, p: Tensor, ratio: float, place: TokenPositions) -> Losses:
        """In groups where it is trained on, over all rows where it is only looked at."""
        loss = self.options.loss if self.training else replace(self.options.loss, group=None)
        return {"ratio": self.options.loss_weight * loss(natural, p, ratio, place.keep)}


class MainNetwork(nn.Module):
    """Blocks on tokens without padding, then RMSNorm; every token gets its position on `grid` once.

    `shared`: what the blocks' modulations start from.
    """

    positions: Tensor

    def __init__(
        self, blocks: Iterable[nn.Module], width: int, grid: tuple[int, int], shared: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.shared = nn.Identity() if shared is None else shared
        self.blocks, self.norm, self.grid = nn.ModuleList(blocks), nn.RMSNorm(width, eps=1e-5), grid
        self.register_buffer("positions", grid_table(grid, width)[None])

    def forward(
        self,
        x: Float[Tensor, "b m d"],
        c: Float[Tensor, "b k"],
        place: TokenPositions,
        cells: Int[Tensor, "b m"],
        budget: Budget,
    ) -> MixerOutput:
        assert place.keep is not None
        placed = x + self.positions[0, cells].to(x.dtype)
        tokens, lengths = pack(placed, place.keep)
        vectors, losses = self.shared(c), []
        packed = TokenPositions(lengths=lengths, places=grid_places(self.grid)[cells[place.keep].cpu()])
        for block in self.blocks:
            tokens, more, _ = block(tokens, vectors, packed)
            losses.append(more)
        return MixerOutput(unpack(self.norm(tokens), place.keep), added(losses))
