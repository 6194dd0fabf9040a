"""The perturbed maps written out, n x n in float64."""

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.layout import Layout
from saccade.papers.headhunter import KINDS, SCOPES
from saccade.papers.headhunter.perturbations import pairs_of

JOINT = Layout.joint(text=5, grid=(1, 3, 4))
LAST = Layout.joint(text=5, grid=(1, 3, 4), text_first=False)
IMAGE = Layout.image_only((1, 3, 4))
LAYOUTS = {"text first": JOINT, "text last": LAST, "image alone": IMAGE}
EVERY = [(kind, scope) for kind in KINDS for scope in SCOPES]


def weak_map(
    scores: Float[Tensor, "b h n n"], q: Tensor, k: Tensor, kind: str, scope: str, layout: Layout, *,
    tau: float = 1.0, scale: float = 1.0, keep: Tensor | None = None, bias: Tensor | None = None,
) -> Float[Tensor, "b h n n"]:  # fmt: skip
    """A' at u = 1 from masked scores; `keep` (b n) are keys that are no padding, `bias` what scores had added."""
    pairs = pairs_of(scope, layout, layout)
    rows, block = torch.zeros(layout.n, dtype=torch.bool), torch.zeros(layout.n, layout.n, dtype=torch.bool)
    rows[pairs.queries] = True
    block[pairs.queries, pairs.keys] = True
    new = scores.clone()
    padding = torch.zeros(len(q), 1, 1, layout.n) if keep is None else torch.where(keep, 0.0, -torch.inf)[:, None, None]
    if kind == "identity":
        new = scores.masked_fill(block & ~torch.eye(layout.n, dtype=torch.bool), -torch.inf)
    elif kind == "uniform":
        new = torch.where(block, padding.double(), scores)
    elif kind == "query_mean":
        real = torch.ones(len(q), layout.n) if keep is None else keep.double()
        weight = (real * rows)[:, None, :, None].double()
        mean = (q * weight).sum(2, keepdim=True) / weight.sum(2, keepdim=True)
        new = torch.where(block, mean @ k.mT * scale + padding, scores)
    elif kind == "max":
        inside = scores.masked_fill(~block, -torch.inf)
        new = torch.where(block & (inside < inside.amax(-1, keepdim=True)), -torch.inf, scores)
    else:
        new = torch.where(block, scores / tau, scores)
    return torch.where(rows[:, None], new.softmax(-1), scores.softmax(-1))
