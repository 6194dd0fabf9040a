"""Which tokens are sinks: those with a massive value in one of a few channels of the residual stream."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.checks import check_whole

EPS = 1e-6


def sink_values(x: Float[Tensor, "b n c"], dims: Sequence[int]) -> Float[Tensor, "b n"]:
    """phi: the largest of the channels `dims`, over the root mean square of all channels.

    x  a layer's input, before its norm; half precision is widened first
    Raises ValueError for channels x does not have.
    """
    check_dims(dims, x.shape[-1])
    wide = x if x.dtype == torch.float64 else x.float()
    found = wide[..., list(dims)].abs().amax(-1)
    return found * torch.rsqrt(wide.square().mean(-1) + EPS)


def find_sinks(x: Float[Tensor, "b n c"], dims: Sequence[int], tau: float = 20.0) -> Bool[Tensor, "b n"]:
    """Tokens whose sink value is above tau.

    Raises ValueError as `sink_values` does, and for a threshold that is not above 0.
    """
    check_tau(tau)
    return sink_values(x, dims) > tau


def highest_share(values: Float[Tensor, "b n"], share: float) -> Bool[Tensor, "b n"]:
    """The `share` of a row's tokens with the highest values: a stand-in for small models, whose values stay below tau.

    Raises ValueError for a share out of (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share} must be in (0, 1), a share of the tokens")
    return values > values.float().quantile(1 - share, dim=-1, keepdim=True)


def check_dims(dims: Sequence[int], channels: int | None = None) -> None:
    """Raises ValueError for no channels, one given twice, or one there is not."""
    if not dims or len(set(dims)) != len(dims):
        raise ValueError(f"dims={tuple(dims)} must name at least one channel, each once")
    for one in dims:
        check_whole(0, dims=one)
    if channels is not None and max(dims) >= channels:
        raise ValueError(
            f"dims={tuple(dims)} must be channels of a stream of {channels}; find this model's by find_sink_dims(model)"
        )


def check_tau(tau: float) -> None:
    """Raises ValueError for a threshold that is not above 0."""
    if not tau > 0:
        raise ValueError(f"tau={tau} must be above 0; the paper takes 20, inf finds no sinks")
