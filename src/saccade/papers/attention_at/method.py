"""Attention AT and iAT: a loss more, of scores moved where it hurts most.

L = L(s) + lam L(s + r)          r a constant of norm eps for each sentence

at            r = eps g / |g|,   g = dL(s + r)/dr at r = 0
iat           r = eps D a / |a|, a = D^T g along differences between scores, `basis_norm`
rp            r = eps u / |u|,   u normal numbers
word_at, word_iat                the same of embeddings, freely or towards neighbouring words
released_iat  r = -eps g / |g|, which lowers the loss
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from saccade.core.checks import check_numbers, check_whole, check_word
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.nn.adversarial import adversarial, make_basis, random_direction, unit
from saccade.nn.perturbable import Perturbable
from saccade.nn.score_basis import BasisName
from saccade.systems.score_shift import ScoreShift

Kind = Literal["at", "iat", "rp", "word_at", "word_iat", "released_iat"]
BasisNorm = Literal["word", "sentence", "batch"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class AttentionAT:
    """Adversarial training of attention scores; inference is the host's own.

    kind        "at"; "iat" along differences between scores; "rp" in a random direction; "word_at" and "word_iat" of
                embeddings; "released_iat", the released step, which lowers the loss
    eps         norm of the perturbation of a sentence, in units of scores (or embeddings); `losses` reports theirs
    lam         weight of the adversarial loss
    basis_norm  of "iat": differences normed over a "word" (equals "at"), a "sentence", or by word of a "batch"
    renorm      of "iat": stretch the perturbation to norm eps
    neighbours  of "word_iat": words towards which one moves
    share_dropout  all passes of a batch draw the same masks
    compat      "official" counts the gradient of the clean loss twice, as the released code does
    where       sites of a host whose scores are perturbed, together
    Raises ValueError for options out of range.
    """

    kind: Kind = "at"
    eps: float = 1.0
    lam: float = 1.0
    basis_norm: BasisNorm = "sentence"
    renorm: bool = False
    neighbours: int = 10
    share_dropout: bool = True
    compat: Literal["official"] | None = None
    where: Where = EVERYWHERE
    scores: ScoreShift = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_word(KINDS, kind=self.kind)
        check_word(get_args(BasisNorm), basis_norm=self.basis_norm)
        check_numbers(eps=self.eps, lam=self.lam)
        check_whole(1, neighbours=self.neighbours)
        for name in ("eps", "lam"):
            if not (getattr(self, name) >= 0 and isfinite(getattr(self, name))):
                raise ValueError(f"{name}={getattr(self, name)} must be a finite number of at least 0")
        if self.compat not in (None, "official"):
            raise ValueError(f"compat='{self.compat}' must be 'official', or None for the published method")
        object.__setattr__(self, "scores", ScoreShift(where=self.where))

    @property
    def name(self) -> str:
        return "attention_at"

    @property
    def level(self) -> Literal["scores", "words"]:
        """What is perturbed."""
        return "words" if self.kind in ("word_at", "word_iat") else "scores"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return self.scores.plan(site, clock)

    def perturbable(self, model: nn.Module, **inputs: Any) -> Perturbable:
        """A batch as a classifier read it that this is attached to; `inputs` of the model by name.

        Raises ValueError and StateError as `ScoreShift.perturbable` does.
        """
        return self.scores.perturbable(model, share_dropout=self.share_dropout, **inputs)

    def losses(self, seen: Perturbable, loss: Loss, unlabelled: Perturbable | None = None) -> dict[str, Tensor]:
        """ "loss" to minimise, "clean", "adversarial" and the standard deviation of what is perturbed.

        loss   of logits, the mean over rows
        Raises ValueError for unlabelled text.
        """
        if unlabelled is not None:
            raise ValueError("unlabelled text has no loss to move against; attention_vat perturbs without labels")
        clean = loss(seen.clean)
        spread = seen.values[seen.keep].std(correction=0)
        found = {"loss": clean, "clean": clean, "adversarial": clean.detach(), "spread": spread}
        if self.lam > 0:
            against = loss(seen.run(self.perturbation(seen, loss)))
            found |= {"loss": clean + self.lam * against, "adversarial": against}
        if self.compat == "official":
            found["loss"] = found["loss"] + (clean - clean.detach())  # the value stays, its gradient comes twice
        return found

    def perturbation(self, seen: Perturbable, loss: Loss, generator: torch.Generator | None = None) -> Tensor:
        """r, of the shape of what is perturbed, without gradient. `generator`: of "rp"."""
        basis = make_basis(seen, self._basis, self.neighbours)
        if self.kind == "rp":
            return self.eps * basis.push(random_direction(basis, seen.values, generator))
        if self.kind == "released_iat":
            return -adversarial(seen, loss, self.eps, basis)
        r = adversarial(seen, loss, self.eps, basis)
        return self.eps * unit(r) if self.renorm and self.kind == "iat" else r

    @property
    def _basis(self) -> BasisName:
        if self.kind == "iat":
            return self.basis_norm
        return "nearest" if self.kind == "word_iat" else "free"
