"""What attention keeps of a text, counted and measured, and how long it takes to write one more token."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from saccade.experiments import Row
from saccade.metrics.intervals import bootstrap
from saccade.metrics.stopwatch import in_turn
from saccade.nn.attention import SelfAttention
from saccade.nn.memory import Memory
from saccade.nn.part import TokenPositions
from saccade.papers.muon_mla_moe.latent_attention import LatentAttention
from saccade.papers.muon_mla_moe.model import kept_of

CAUSAL = TokenPositions(causal=True)


def cache_rows(blocks: tuple[int, int, int, int], cached: int, rounds: int) -> list[Row]:
    """Of attention of all heads, and of latents in both forms; `blocks`: width, heads, latent, channels that turn."""
    width, heads, latent, rope = blocks
    options: dict[str, Any] = {"latent": latent, "rope_dim": rope}
    arms: dict[str, Any] = {
        "all heads": SelfAttention(width, heads, rotary=True, bias=False),
        "latents, absorbed": LatentAttention(width, heads, form="absorbed", **options),
        "latents, expanded": LatentAttention(width, heads, form="expanded", **options),
    }
    memories = {name: _filled(mixer, width, cached) for name, mixer in arms.items()}
    seconds = in_turn({name: _step(arms[name], memories[name], width) for name in arms}, rounds)
    first = next(iter(arms))
    found = []
    for name, mixer in arms.items():
        times = bootstrap([one / other for one, other in zip(seconds[name], seconds[first], strict=True)])
        about = {"arm": name, "counted": kept_of(mixer), "measured": memories[name].size / cached / 4}
        milliseconds = bootstrap(seconds[name]).mid * 1e3
        found.append(about | {"ms": milliseconds, "ratio": times.mid, "low": times.low, "high": times.high})
    return found


@torch.no_grad()
def _filled(mixer: Any, width: int, cached: int) -> Memory:
    memory = Memory()
    mixer(torch.randn(1, cached, width), replace(CAUSAL, memory=memory))
    memory.tokens = cached
    return memory


def _step(mixer: Any, memory: Memory, width: int) -> Callable[[], object]:
    """Write one token after those kept, which stay as they are."""
    new = torch.randn(1, 1, width)

    @torch.no_grad()
    def run() -> None:
        mixer(new, replace(CAUSAL, memory=Memory(tokens=memory.tokens, kept=dict(memory.kept))))

    return run
