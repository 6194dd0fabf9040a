"""Muon for hidden matrices, AdamW for everything else, and one learning-rate schedule for both."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from saccade.nn.moe import balance_offsets_
from saccade.train.checks import check_positive, check_share
from saccade.train.muon import Muon

OptimiserKind = Literal["muon", "adamw"]


@dataclass(frozen=True, kw_only=True)
class Optim:
    """`kind`: "adamw" gives Muon nothing; `lr` of AdamW; `muon_lr` of Muon, its updates scaled to AdamW's root mean
    square; `warmup` and `cooldown` are shares of the run over which the rate rises from and falls to zero, linearly;
    `clip` bounds the gradient norm; `flatten` gives Muon stacks of matrices and convolutions too, as matrices.
    Raises ValueError for options out of range.
    """

    kind: OptimiserKind = "muon"
    flatten: bool = False
    lr: float = 1e-3
    muon_lr: float = 3e-3
    betas: tuple[float, ...] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup: float = 0.02
    cooldown: float = 0.4
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        check_share(warmup=self.warmup, cooldown=self.cooldown)
        check_positive(clip=self.clip)
        if self.kind not in get_args(OptimiserKind):
            raise ValueError(f"kind='{self.kind}' must be one of {', '.join(get_args(OptimiserKind))}")

    @classmethod
    def constant(cls, lr: float = 1e-4) -> Self:
        """AdamW as the papers of diffusion transformers have it: one rate throughout, no decay, no clipping."""
        return cls(kind="adamw", lr=lr, betas=(0.9, 0.999), weight_decay=0, warmup=0, cooldown=0, clip=None)


def optimisers(module: nn.Module, uses_muon: Callable[[str], bool], optim: Optim) -> list[Optimizer]:
    """AdamW, and Muon where `uses_muon` accepts the name of a trained matrix.

    After a step of the last one, routers that balance their load without a loss move their offsets.
    Source: Jordan et al., Muon (2024); scaling of Liu et al., "Muon is scalable for LLM training" (2025).
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    takes = _has_matrices if optim.flatten else _is_matrix
    hidden = [p for name, p in named if optim.kind == "muon" and takes(p) and uses_muon(name)]
    chosen = {id(p) for p in hidden}
    rest = [p for _, p in named if id(p) not in chosen]
    betas = (optim.betas[0], optim.betas[1])
    found: list[Optimizer] = [torch.optim.AdamW(rest, optim.lr, betas, weight_decay=optim.weight_decay, fused=True)]
    if hidden:
        found.append(_muon(hidden, optim))
    found[-1].register_step_post_hook(lambda *_: balance_offsets_(module))
    return found


def _muon(hidden: list[nn.Parameter], optim: Optim) -> Optimizer:
    """The library's own for matrices alone, ours for stacks and convolutions too."""
    if optim.flatten:
        options: dict[str, Any] = {"adjust_lr": "match_rms_adamw", "ns_dtype": torch.bfloat16}
        return Muon(hidden, optim.muon_lr, weight_decay=optim.weight_decay, **options)
    return torch.optim.Muon(hidden, optim.muon_lr, optim.weight_decay, adjust_lr_fn="match_rms_adamw")


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim == 2


def _has_matrices(weight: Tensor) -> bool:
    """Whether it is a matrix, a stack of them, or a convolution that mixes channels."""
    return weight.ndim in (2, 3) or (weight.ndim > 3 and weight.shape[1] > 1)


def set_rate(found: Iterable[Optimizer], share: float) -> None:
    """Set every optimiser's rate to `share` of the one it was made with."""
    for optimiser in found:
        for group in optimiser.param_groups:
            group["lr"] = share * group.setdefault("full_lr", group["lr"])


def rate_at(progress: float, optim: Optim) -> float:
    """Share of the full rate at `progress` in [0, 1]: up over `warmup`, flat, down to zero over `cooldown`."""
    up = progress / optim.warmup if optim.warmup else 1.0
    down = (1 - progress) / optim.cooldown if optim.cooldown else 1.0
    return max(0.0, min(1.0, up, down))
