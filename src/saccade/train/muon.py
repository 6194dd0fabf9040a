"""Muon: momentum whose every matrix is orthogonalised before it is subtracted, so that all its directions move alike.

    M <- mu M + (1 - mu) G,   U = (1 - mu) G + mu M,   W <- (1 - lr wd) W - lr s O(U)

`torch.optim.Muon` is this for matrices with the iterations in bfloat16; ours also takes stacks of matrices, filters of
convolutions and fused projections, in any precision or exactly, and refuses gradients that would spoil a whole weight.

Source: Jordan et al., Muon (2024); Liu et al., "Muon is scalable for LLM training" (2025), the scale of AdamW.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from saccade.train.newton_schulz import EPS, QUINTIC, STEPS, Coefficients, Method, check_method, check_steps, orthogonal

AdjustLr = Literal["original", "match_rms_adamw", "none"]
Momentum = Literal["ema", "sum"]
Params = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]


class Muon(Optimizer):
    """The optimiser; `params` as for any, with their names where messages should name them.

    weight_decay   decoupled, by the rate that is not scaled
    momentum       mu; `nesterov` looks ahead by it
    momentum_form  "ema" as above; "sum", M <- mu M + G and U = G + mu M, has the same direction
    adjust_lr      s for an m x n matrix: "original" sqrt(max(1, m/n)), "match_rms_adamw" 0.2 sqrt(max(m, n)), "none" 1
    method         "newton_schulz", or "svd" for the exact polar factor
    ns_steps, ns_coefficients, eps, ns_dtype   as in `newton_schulz`
    split_rows     rows of the matrices stacked in a fused projection, each orthogonalised by itself

    A weight (E, m, n) is E matrices; one of more axes is a matrix of its filters. Each group may have its own options.
    A weight without a gradient is left as it is. `step` raises FloatingPointError for a gradient with NaN or infinity,
    before anything is changed, and ValueError for a sparse one.
    Raises ValueError for options out of range, and for vectors and complex weights.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        momentum_form: Momentum = "ema",
        adjust_lr: AdjustLr = "original",
        method: Method = "newton_schulz",
        ns_steps: int = STEPS,
        ns_coefficients: Coefficients = QUINTIC,
        eps: float = EPS,
        ns_dtype: torch.dtype | None = None,
        split_rows: tuple[int, ...] | None = None,
    ) -> None:
        options = {name: value for name, value in locals().items() if name not in ("self", "params", "__class__")}
        super().__init__(params, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add weights with options of their own.

        Raises ValueError as the constructor does.
        """
        super().add_param_group(param_group)
        try:
            _check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step by the weights' gradients; returns what `closure` does.

        Raises FloatingPointError for a gradient with NaN or infinity, ValueError for a sparse one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check_gradients()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update_(weight, weight.grad, group)
        return loss

    def _update_(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        direction = _direction(state["momentum_buffer"], gradient, group)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.sub_(group["lr"] * scaled_update(direction, group))

    def _check_gradients(self) -> None:
        found = [(name, w.grad) for group in self.param_groups for name, w in _named(group) if w.grad is not None]
        for name, gradient in found:
            if gradient.is_sparse:
                raise ValueError(f"the gradient of {name} is sparse; give embeddings to AdamW, or make it dense")
        if found and not bool(torch.stack([gradient.isfinite().all() for _, gradient in found]).all()):  # one wait
            name = next(name for name, gradient in found if not bool(gradient.isfinite().all()))
            raise FloatingPointError(
                f"the gradient of {name} holds NaN or infinity, which would spread to the whole matrix; nothing was "
                "changed. Skip this step, or lower the rate"
            )


def scaled_update(direction: Tensor, group: dict[str, Any]) -> Tensor:
    """s O(U) of a weight's direction, every matrix of it orthogonalised and scaled by itself."""
    options = {"method": group["method"], "coefficients": group["ns_coefficients"], "eps": group["eps"]}
    options |= {"steps": group["ns_steps"], "dtype": group["ns_dtype"]}
    matrices = as_matrices(direction)
    pieces = matrices.split(group["split_rows"] or matrices.shape[-2], dim=-2)
    scales = (lr_scale(each.shape[-2], each.shape[-1], group["adjust_lr"]) for each in pieces)
    done = [scale * orthogonal(each, **options) for scale, each in zip(scales, pieces, strict=True)]
    return torch.cat(done, dim=-2).view_as(direction).to(direction.dtype)


def as_matrices(weight: Tensor) -> Tensor:
    """A matrix or a stack of them as it is; filters of a convolution as the rows of one matrix."""
    return weight if weight.ndim <= 3 else weight.flatten(1)


def lr_scale(rows: int, columns: int, adjust_lr: AdjustLr) -> float:
    """s, by which the rate of a matrix is multiplied."""
    scales = {"original": max(1.0, rows / columns) ** 0.5, "match_rms_adamw": 0.2 * max(rows, columns) ** 0.5}
    return scales.get(adjust_lr, 1.0)


def _direction(buffer: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
    mu, nesterov = group["momentum"], group["nesterov"]
    if group["momentum_form"] == "sum":
        buffer.mul_(mu).add_(gradient)
        return gradient + mu * buffer if nesterov else buffer
    buffer.lerp_(gradient, 1 - mu)
    return gradient.lerp(buffer, mu) if nesterov else buffer


def _named(group: dict[str, Any]) -> list[tuple[str, Tensor]]:
    weights = group["params"]
    names = group.get("param_names") or [f"a weight of shape {tuple(each.shape)}" for each in weights]
    return list(zip(names, weights, strict=True))


def _check_group(group: dict[str, Any]) -> None:
    _check_options(group)
    for name, weight in _named(group):
        _check_weight(name, weight, group["split_rows"])


def _check_options(group: dict[str, Any]) -> None:
    for name in ("lr", "weight_decay"):
        if not group[name] >= 0:
            raise ValueError(f"{name}={group[name]} must be at least 0")
    if not 0 <= group["momentum"] < 1:
        raise ValueError(f"momentum={group['momentum']} must be in [0, 1)")
    for name, known in (("adjust_lr", AdjustLr), ("momentum_form", Momentum)):
        if group[name] not in get_args(known):
            raise ValueError(f"{name}='{group[name]}' must be one of {', '.join(get_args(known))}")
    check_method(group["method"])
    check_steps(group["ns_steps"])


def _check_weight(name: str, weight: Tensor, split_rows: tuple[int, ...] | None) -> None:
    if weight.ndim < 2:
        raise ValueError(
            f"{name} has {weight.ndim} axes, and Muon needs a matrix; give it to AdamW (`split_params` does)"
        )
    if weight.is_complex():
        raise ValueError(f"{name} is complex, and Muon takes real matrices only; give it to AdamW")
    rows = as_matrices(weight).shape[-2]
    if split_rows is not None and (sum(split_rows) != rows or min(split_rows) < 1):
        raise ValueError(f"split_rows={tuple(split_rows)} must be positive and sum to the {rows} rows of {name}")
