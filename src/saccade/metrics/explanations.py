"""Whether attention says what a classifier goes by: against gradients, against words people marked; its entropy.

Every score is one number for each sentence, over its words; nan where there are too few words, or all are alike.

    u_t = |e_t . dp/de_t|  or  |dp/de_t|     e: embeddings, p: probability of what is predicted
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.checks import check_word

Importance = Literal["product", "norm"]
WHOLE = 0.5  # intersection over union above which a marking counts as found


def gradient_importance(
    embeddings: Float[Tensor, "b t e"], gradient: Float[Tensor, "b t e"], kind: Importance = "product"
) -> Float[Tensor, "b t"]:
    """u of every word: gradient times embedding, or the gradient's norm.

    Raises ValueError for another kind.
    """
    check_word(("product", "norm"), kind=kind)
    return gradient.norm(dim=-1) if kind == "norm" else (embeddings * gradient).sum(-1).abs()


def pearson(a: Float[Tensor, "b t"], u: Float[Tensor, "b t"], keep: Bool[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """Correlation of two scores of words, each sentence by itself."""
    x, y = (_centred(each.double(), keep) for each in (a, u))
    scale = (x.square().sum(-1) * y.square().sum(-1)).sqrt()
    found = (x * y).sum(-1) / torch.where(scale > 0, scale, torch.nan)
    return found.to(a.dtype)


def kendall(a: Float[Tensor, "b t"], u: Float[Tensor, "b t"], keep: Bool[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """Kendall's tau b of the same."""
    from scipy.stats import kendalltau

    rows = ((x[k], y[k]) for x, y, k in zip(*(each.detach().cpu().numpy() for each in (a, u, keep)), strict=True))
    taus = [kendalltau(x, y)[0] if min(np.ptp(x), np.ptp(y)) > 0 else np.nan for x, y in rows]
    return torch.tensor(taus, dtype=a.dtype, device=a.device)


def entropy(a: Float[Tensor, "b t"], keep: Bool[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """Of attention, as a share of that of even attention, 0 to 1; nan for a single word."""
    n = keep.sum(-1)
    most = n.to(a.dtype).log()
    return torch.special.entr(a.masked_fill(~keep, 0)).sum(-1) / torch.where(n > 1, most, torch.nan)


def average_precision(
    a: Float[Tensor, "b t"], rationale: Bool[Tensor, "b t"], keep: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Area under precision and recall of words ranked by attention, against those people marked; nan without any.

    Words of equal attention count together, as in scikit-learn.
    """
    from torchmetrics.functional.classification import binary_average_precision

    rows = [binary_average_precision(x[k], y[k].long()) if y[k].any() else torch.tensor(torch.nan)
            for x, y, k in zip(a.detach(), rationale, keep, strict=True)]  # fmt: skip
    return torch.stack([row.to(a) for row in rows])


def top_words(
    a: Float[Tensor, "b t"], rationale: Bool[Tensor, "b t"], keep: Bool[Tensor, "b t"]
) -> Bool[Tensor, "b t"]:
    """As many words of most attention as a rationale has."""
    ranks = a.masked_fill(~keep, -torch.inf).argsort(dim=-1, descending=True, stable=True).argsort(-1)
    return (ranks < (rationale & keep).sum(-1, keepdim=True)) & keep


def precision_at_k(
    a: Float[Tensor, "b t"], rationale: Bool[Tensor, "b t"], keep: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Share of the top words that are in the rationale; nan where that is empty."""
    top = top_words(a, rationale, keep)
    return _ratio((top & rationale).sum(-1), top.sum(-1), a)


def iou_f1(a: Float[Tensor, "b t"], rationale: Bool[Tensor, "b t"], keep: Bool[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """1 where the intersection over union of top words and rationale reaches one half, else 0; their mean is the F1.

    A sentence is one marking found or missed, so that precision and recall over sentences are the same share.
    Source: DeYoung et al., "ERASER" (2020).
    """
    top, marked = top_words(a, rationale, keep), rationale & keep
    ratio = _ratio((top & marked).sum(-1), (top | marked).sum(-1), a)
    return torch.where(ratio.isnan(), ratio, (ratio >= WHOLE).to(a.dtype))


def _centred(x: Float[Tensor, "b t"], keep: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """Minus its mean over what is there; exactly 0 where all are alike."""
    n = keep.sum(-1, keepdim=True).clamp(min=1)
    centred = (x - x.masked_fill(~keep, 0).sum(-1, keepdim=True) / n).masked_fill(~keep, 0)
    low, high = (x.masked_fill(~keep, end) for end in (torch.inf, -torch.inf))
    return centred.masked_fill(low.amin(-1, keepdim=True) >= high.amax(-1, keepdim=True), 0)


def _ratio(part: Tensor, whole: Tensor, like: Tensor) -> Tensor:
    return part.to(like.dtype) / torch.where(whole > 0, whole, torch.nan).to(like.dtype)
