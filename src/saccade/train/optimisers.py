"""Muon for hidden matrices, AdamW for everything else, and one learning-rate schedule for both."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from saccade.train.checks import check_positive, check_share

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
        muon = FlatMuon if optim.flatten else torch.optim.Muon
        options: dict[str, Any] = {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 5}
        found.append(muon(hidden, optim.muon_lr, weight_decay=optim.weight_decay, **options))
    return found


class FlatMuon(torch.optim.Muon):
    """Muon on weights of more than two axes: a stack is several matrices, a convolution's filters are rows of one.

    The module must be where it is trained already: the matrices are views of its weights.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, **options: Any) -> None:
        self.weights = list(weights)
        self.views = [[nn.Parameter(m) for m in _matrices(weight.detach())] for weight in self.weights]
        super().__init__([view for views in self.views for view in views], lr, **options)

    def step(self, closure: Any = None) -> Any:
        """One step by the gradients of the weights."""
        for weight, views in zip(self.weights, self.views, strict=True):
            found = [None] * len(views) if weight.grad is None else _matrices(weight.grad)
            for view, gradient in zip(views, found, strict=True):
                view.grad = gradient
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the weights."""
        for weight in self.weights:
            weight.grad = None
        super().zero_grad(set_to_none)


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim == 2


def _has_matrices(weight: Tensor) -> bool:
    """Whether it is a matrix, a stack of them, or a convolution that mixes channels."""
    return weight.ndim in (2, 3) or (weight.ndim > 3 and weight.shape[1] > 1)


def _matrices(weight: Tensor) -> list[Tensor]:
    """Views of a weight: itself, each of a stack, or a convolution's filters as rows."""
    return list(weight) if weight.ndim == 3 else [weight.view(len(weight), -1)]


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
