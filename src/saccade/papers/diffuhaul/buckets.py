"""Bucketing (step 4): in which steps the noised source is run, and with which noise."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.checks import check_whole, check_word

FreshNoise = Literal["bucket", "step", "once"]


def check_buckets(buckets: int, fresh_noise: FreshNoise) -> None:
    """Raise ValueError for fewer than one bucket, and for a rule there is not."""
    check_whole(1, buckets=buckets)
    check_word(get_args(FreshNoise), fresh_noise=fresh_noise)


def bucket_starts(steps: int, buckets: int, fresh_noise: FreshNoise = "bucket") -> tuple[int, ...]:
    """The first, noisiest step of each of `buckets` contiguous buckets, as even as can be; every step under "step".

    Raises ValueError as `check_buckets` does.
    """
    check_buckets(buckets, fresh_noise)
    count = steps if fresh_noise == "step" else min(buckets, steps)
    return tuple(i * steps // count for i in range(count))


def source_noises(
    noise: Float[Tensor, "*s"], count: int, fresh_noise: FreshNoise, generator: torch.Generator
) -> tuple[Float[Tensor, "*s"], ...]:
    """A noise for each run of the source: the given one for all under "once", else that and fresh ones.

    Raises ValueError for a rule there is not.
    """
    check_word(get_args(FreshNoise), fresh_noise=fresh_noise)
    if fresh_noise == "once":
        return (noise,) * count
    return (noise, *(_normal(noise, generator) for _ in range(count - 1)))


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
