"""Trained models with full attention as starts for proxies and windows.

The old self-attention becomes that of the windows, and what is new is closed by zeros: a converted model is the old one
with plain window attention, until it learns.
"""

from typing import Any

from torch import nn

from saccade.models.replace_attention import ReplacedAttention, replace_attention
from saccade.papers.pt_dit.model import LAYERS, PTDiT
from saccade.papers.pt_dit.windows import Sizes


def from_pixart(pixart: Any, *, window: Sizes, **changes: Any) -> PTDiT:
    """A `PTDiT` from a diffusers `PixArtTransformer2DModel`; times keep PixArt's scale, 0 to 999.

    Raises ValueError for weights that it has no place for.
    """
    config = pixart.config
    usual = {"activation_fn": ("gelu-approximate",), "interpolation_scale": (None, max(config.sample_size // 64, 1))}
    for name, known in usual.items():
        if config[name] not in known:
            raise ValueError(f"{name}={config[name]} of this PixArt is not PT-DiT's; it must be {known[-1]}")
    given = dict(
        depth=config.num_layers, heads=config.num_attention_heads, width=pixart.inner_dim, patch=config.patch_size,
        side=config.sample_size, channels=config.in_channels, words_width=config.caption_channels or pixart.inner_dim,
        learned_variance=pixart.out_channels == 2 * config.in_channels, sized=pixart.use_additional_conditions,
        window=window, positions="picture", time_scale=1.0,
    )  # fmt: skip
    model = PTDiT(**given | changes)
    report = model.load_official(pixart.state_dict(), strict=False)
    fresh = ("positions", *(f"blocks.{i}.{part}" for i in range(config.num_layers) for part in ("proxies.", "far")))
    lacking = [name for name in report.missing if not name.startswith(fresh)]
    if lacking or report.unexpected or report.mismatched:
        wrong = ", ".join((*lacking, *report.unexpected, *report.mismatched)[:4])
        raise ValueError(f"this PixArt is not built as PT-DiT is: one of them has no {wrong} of the other's shape")
    return model


def replace_by_proxies(transformer: nn.Module, mixer: str = "proxy") -> ReplacedAttention:
    """`replace_attention` by a mixer whose windows take over the weights of the attention: a start to tune from.

    Raises ValueError for a mixer without windows.
    """
    replaced_attention = replace_attention(transformer, mixer)
    for attention, made in zip(replaced_attention.replaced.values(), replaced_attention.mixers, strict=True):
        if getattr(made, "near", None) is None:
            replaced_attention.undo()
            raise ValueError(f"mixer='{mixer}' has no windows to take the attention over; write 'proxy(local=True)'")
        theirs = attention.state_dict()
        ours = {f"{a}.{part}": theirs[f"{b}.{part}"] for a, b in LAYERS.items() for part in ("weight", "bias")}
        made.near.attention.load_state_dict(ours)  # type: ignore[union-attr]
    return replaced_attention
