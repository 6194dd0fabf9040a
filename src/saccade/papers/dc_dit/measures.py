"""Where and when a DC-DiT keeps its tokens, and what they are worth: measured on held-out scenes.

Figures are means over pictures with their standard errors.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation, binary_erosion
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data.labelled import SceneSource
from saccade.experiments import Row
from saccade.nn.routing import Routing, record_routing
from saccade.papers.dc_dit.chunking import kept
from saccade.papers.dc_dit.model import DCDiT
from saccade.train.objectives import Ddpm

TIMES = tuple(range(50, 1000, 100))
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TRAINED_TO = 0.6  # largest share that training for many budgets drops


class HeldOut:
    """Held-out pictures, each noised to one of even quantiles of the times, and at all of `TIMES` for the router."""

    def __init__(self, source: SceneSource, pictures: int) -> None:
        self.source, self.objective = source, Ddpm()
        self.x, self.labels = source.held_out(pictures)
        self.t = self.objective.spread(pictures)
        self.noise = torch.randn(self.x.shape, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def losses(self, model: DCDiT, **options: Any) -> Float[Tensor, " n"]:
        """Mean squared error of the noise, picture by picture."""
        found = []
        for rows in torch.arange(len(self.x)).split(32):
            z = self.objective.chain.noised(self.x[rows], self.noise[rows], self.t[rows].long())
            out = model(z, self.t[rows], self.labels[rows], **options).out
            found.append((out - self.noise[rows]).square().flatten(1).mean(1))
        return torch.cat(found)

    @torch.no_grad()
    def kept(self, model: DCDiT, pictures: int) -> Bool[Tensor, "t n h w"]:
        """Kept cells of the first pictures at each of `TIMES`."""
        x, labels, noise = self.x[:pictures], self.labels[:pictures], self.noise[:pictures]
        found = []
        for time in TIMES:
            t = torch.full((pictures,), time)
            with record_routing(model) as routings:
                model(self.objective.chain.noised(x, noise, t), t.float(), labels)
            (routing,) = routings["stage.router"]
            found.append(kept(routing).view(-1, *x.shape[-2:]))
        return torch.stack(found)


@contextmanager
def random_tokens(router: nn.Module, seed: int = 0) -> Iterator[None]:
    """Let a router keep as many tokens of every picture as it does, but sampled at random; both ends stay kept."""
    generator = torch.Generator().manual_seed(seed)

    def replace(_: nn.Module, __: Any, routing: Any) -> Routing:
        return shuffled(routing, generator)

    handle = router.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def shuffled(routing: Routing, generator: torch.Generator) -> Routing:
    """The choices of every row in another order, but for its first and its last."""
    rows, n = routing.index.shape[:2]
    order = torch.stack([torch.randperm(n - 2, generator=generator) for _ in range(rows)]) + 1
    order = F.pad(F.pad(order, (1, 0), value=0), (0, 1), value=n - 1)[..., None]
    probs = routing.probs.gather(1, order.expand(-1, -1, 2))
    return Routing(routing.index.gather(1, order), routing.weight.gather(1, order), probs)


def edge_rates(
    kept: Bool[Tensor, "t n h w"], masks: Bool[Tensor, "n h w"]
) -> tuple[Float[Tensor, "t n"], Float[Tensor, "t n"]]:
    """Shares kept of the pixels next to an edge, and of those on the background."""
    inside = masks.float()[:, None]
    grown, shrunk = F.max_pool2d(inside, 3, 1, 1), -F.max_pool2d(-inside, 3, 1, 1)
    edge, flat = (grown - shrunk)[:, 0].bool(), ~grown[:, 0].bool()
    at_edge, at_flat = ((kept & mask).sum((-1, -2)) / mask.sum((-1, -2)) for mask in (edge, flat))
    return at_edge, at_flat


def levels(kept: Bool[Tensor, "t n h w"], masks: Bool[Tensor, "n h w"]) -> Iterable[Row]:
    """Tokens kept by time, and where."""
    at_edge, at_flat = (rates.mean(1).tolist() for rates in edge_rates(kept, masks))
    for time, count, edge, flat in zip(TIMES, kept.float().sum((-1, -2)), at_edge, at_flat, strict=True):
        yield {"time": time, **mean_error("kept", count), "edge": edge, "flat": flat}


def by_share(losses: dict[str, list[Tensor]]) -> Iterable[Row]:
    """Loss of each arm by the share of the kept tokens that is dropped."""
    for arm, found in losses.items():
        for rho, each in zip(SHARES, found, strict=True):
            yield {"arm": arm, "rho": rho, **mean_error("loss", each)}


def overall(
    held: HeldOut, model: DCDiT, kept: Bool[Tensor, "t n h w"], masks: Bool[Tensor, "n h w"]
) -> dict[str, Tensor]:
    """By picture: kept at edges over kept on the background, tokens more with the least noise than with the most,
    pixels for each kept token, and what random tokens add to the loss."""
    counts, pixels = kept.float().sum((-1, -2)), kept[0, 0].numel()
    at_edge, at_flat = (rates.mean(0) for rates in edge_rates(kept, masks))
    with random_tokens(model.stage.router):
        random = held.losses(model)
    return {
        "edges": at_edge / at_flat.clamp(min=1 / pixels),
        "rise": counts[0] - counts[-1],
        "compression": pixels / counts.mean(0),
        "random": random - held.losses(model),
    }


def flatter(plain: list[Tensor], many: list[Tensor]) -> Tensor:
    """By picture: how much less the second's loss rises up to the largest share that it was trained for."""
    rises = [losses[SHARES.index(TRAINED_TO)] - losses[0] for losses in (plain, many)]
    return rises[0] - rises[1]


def cells(kept: Bool[Tensor, "t n h w"], pictures: int = 4) -> Iterable[Row]:
    """Kept cells of a few pictures at every third time, as the bits of a hexadecimal number."""
    for time, maps in list(zip(TIMES, kept.numpy(), strict=True))[::3]:
        for number, each in enumerate(maps[:pictures]):
            yield {"time": time, "picture": number, "kept": np.packbits(each).tobytes().hex()}


def unpacked(text: str, side: int) -> Bool[np.ndarray, "s s"]:
    """Cells that `cells` wrote."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=side**2)
    return bits.reshape(side, side).astype(bool)


def mean_error(name: str, values: Tensor) -> Row:
    """Mean over pictures and its standard error."""
    return {name: values.mean().item(), f"{name}_error": (values.std() / len(values) ** 0.5).item()}


def kept_where(keep: Bool[Tensor, "n c"], masks: Bool[np.ndarray, "n s s"]) -> Row:
    """Tokens kept of a picture, and the shares kept at edges and on the background two pixels away from them."""
    edge = np.stack([binary_dilation(mask) > binary_erosion(mask) for mask in masks])
    flat = np.stack([np.logical_not(binary_dilation(mask, iterations=2)) for mask in masks])
    shares = {
        name: float(keep[torch.from_numpy(where).flatten(1)].float().mean())
        for name, where in (("edge", edge), ("flat", flat))
    }
    return {"tokens": keep.shape[1], "kept": float(keep.sum(1).float().mean()), **shares}
