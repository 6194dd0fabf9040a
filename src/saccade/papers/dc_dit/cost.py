"""What a forward of DC-DiT costs by the number of kept tokens, and how long to train for the cost of a DiT's training.

FLOPs are two for each multiply-add of convolutions, linear layers and matrix products, and (4 d + 3) for each pair of
tokens in each attention head of d channels.

Source: the published counts of Haridas et al., DC-DiT (2026).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from saccade.nn.embedders import FREQUENCIES
from saccade.papers.dc_dit.model import DCDiTConfig, levels


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOPs of one picture by part. `around`: the linear layer beside the main network, which published counts omit."""

    embedding: float
    encoder: float
    around: float
    router: float
    main: float
    dechunk: float
    decoder: float
    head: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def published(self) -> float:
        """As the paper counts."""
        return self.total - self.around


def flops(config: DCDiTConfig, kept: float) -> Cost:
    """Of a forward that works on `kept` tokens.

    Raises ValueError for parts that the published count does not know.
    """
    _check(config)
    cells, d, e, (before, after) = config.side**2, config.width, config.outer, levels(config.layout)[0]
    inside = config.channels * (1 + config.learned_variance)
    return Cost(
        embedding=_conv(config.channels, e, 3, cells) + 2 * (2 * FREQUENCIES * d + d * d),
        encoder=_coder([e] * before + [d], d, cells),
        around=2 * cells * d * d,
        router=_conv(d, d // 4, 1, cells) + 2 * _conv(d // 4, d // 4, 3, cells) + _conv(d // 4, 1, 1, cells),
        main=config.depth * _block(d, config.heads, kept),
        dechunk=2 * kept**2 * d,
        decoder=_coder([d] + [e] * after, d, cells),
        head=2 * cells * e * inside + 2 * d * 2 * e,
    )


def dit_flops(config: DCDiTConfig, patch: int = 2) -> float:
    """Of a DiT with the same blocks on patches of the picture."""
    tokens, d = (config.side // patch) ** 2, config.width
    pixels = patch**2 * config.channels * (2 + config.learned_variance)
    ends = 2 * tokens * pixels * d + 2 * (2 * FREQUENCIES * d + d * d) + 2 * d * 2 * d
    return config.depth * _block(d, config.heads, tokens) + ends


def matched_steps(dit: float, budgets: Sequence[float], *, steps: int = 400_000, warmup: int = 5_000) -> float:
    """Steps that cost as much as `steps` of a DiT: `warmup` at the first of `budgets`, then all of them equally often.

    `dit`, `budgets`: FLOPs of a forward, as they were measured.
    """
    return warmup + (steps * dit - warmup * budgets[0]) / (sum(budgets) / len(budgets))


def _conv(width: int, out: int, kernel: int, cells: int) -> int:
    return 2 * width * out * kernel**2 * cells


def _coder(widths: list[int], condition: int, cells: int) -> int:
    """A stack of convolution blocks from the first width to the last."""
    total = 0
    for width, out in zip(widths, widths[1:], strict=False):
        inner = min(width, out)
        total += _conv(width, inner, 3, cells) + _conv(inner, out, 3, cells) + 2 * condition * inner
        total += _conv(width, out, 1, cells) * (width != out)
    return total


def _block(width: int, heads: int, tokens: float) -> float:
    """A DiT block, its modulation once for a picture."""
    return 24 * width**2 * tokens + heads * (4 * width // heads + 3) * tokens**2 + 12 * width**2


def _check(config: DCDiTConfig) -> None:
    known = {"router": "predictability", "dechunk": "smooth", "mixer": "attention", "ffn": "mlp", "modulation": "zero"}
    for name, value in known.items():
        if getattr(config, name) != value:
            raise ValueError(f"{name}='{getattr(config, name)}' is not counted; saccade.models.macs counts any forward")
    if len(levels(config.layout)) != 2:
        raise ValueError(f"layout={config.layout} has stages inside others, which are not counted")
