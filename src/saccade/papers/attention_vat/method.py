"""Attention VAT and iVAT: a loss more, of how far predictions move with the scores, with labels or without.

L = L(s) + lam mean KL(p^ || p(s + r)),   r = eps u,   u the direction in which predictions move most

u    random of norm 1, then `steps` times u = g / |g|, g = dKL(p^ || p(s + r))/dr at r = xi u
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.core.checks import check_numbers, check_whole, check_word
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.nn.adversarial import gradient, make_basis, random_direction, unit
from saccade.nn.perturbable import Perturbable
from saccade.nn.score_basis import Basis, BasisName
from saccade.papers.attention_vat.kl import check_logits, divergence, entropy_of
from saccade.systems.score_shift import ScoreShift

Kind = Literal["vat", "ivat", "word_vat", "word_ivat"]
BasisNorm = Literal["word", "sentence", "batch"]
COARSE = 1e-3  # xi below which divergences vanish in half precision
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class AttentionVAT:
    """Virtual adversarial training of attention scores; inference is the host's own, and no label is read.

    kind        "vat"; "ivat" along differences between scores; "word_vat" and "word_ivat" of embeddings
    eps         norm of the perturbation of a sentence, in units of scores (or embeddings)
    lam         weight of the virtual adversarial loss
    xi          how far from the scores as they are the direction is looked for
    steps       of the power iteration; one is exact where there is one logit
    basis_norm  of "ivat": differences normed over a "word" (equals "vat"), a "sentence", or by word of a "batch"
    neighbours  of "word_ivat": words towards which one moves
    entmin      weight of the predictions' entropy, which makes them sure; 0 leaves it out
    share_dropout  all passes of a batch draw the same masks
    where       sites of a host whose scores are perturbed, together
    Raises ValueError for options out of range.
    """

    kind: Kind = "vat"
    eps: float = 1.0
    lam: float = 1.0
    xi: float = 1e-2
    steps: int = 1
    basis_norm: BasisNorm = "sentence"
    neighbours: int = 10
    entmin: float = 0.0
    share_dropout: bool = True
    where: Where = EVERYWHERE
    scores: ScoreShift = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_word(get_args(Kind), kind=self.kind)
        check_word(get_args(BasisNorm), basis_norm=self.basis_norm)
        check_numbers(eps=self.eps, lam=self.lam, xi=self.xi, entmin=self.entmin)
        check_whole(1, steps=self.steps, neighbours=self.neighbours)
        for name in ("eps", "lam", "entmin"):
            if not (getattr(self, name) >= 0 and isfinite(getattr(self, name))):
                raise ValueError(f"{name}={getattr(self, name)} must be a finite number of at least 0")
        if not (self.xi > 0 and isfinite(self.xi)):
            raise ValueError(f"xi={self.xi} must be a finite number above 0; 0.01 suits single precision")
        object.__setattr__(self, "scores", ScoreShift(where=self.where))

    @property
    def name(self) -> str:
        return "attention_vat"

    @property
    def level(self) -> Literal["scores", "words"]:
        """What is perturbed."""
        return "words" if self.kind in ("word_vat", "word_ivat") else "scores"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return self.scores.plan(site, clock)

    def perturbable(self, model: nn.Module, **inputs: Any) -> Perturbable:
        """A batch as a classifier read it that this is attached to; `inputs` of the model by name.

        Raises ValueError and StateError as `ScoreShift.perturbable` does.
        """
        return self.scores.perturbable(model, share_dropout=self.share_dropout, **inputs)

    def losses(
        self,
        seen: Perturbable,
        loss: Loss,
        unlabelled: Perturbable | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """ "loss" to minimise, "clean" of the labelled sentences, "virtual" of all.

        loss       of the labelled sentences' logits, the mean over rows
        generator  of the random starts; None: torch's own
        """
        clean = loss(seen.clean)
        found = {"loss": clean, "clean": clean, "virtual": torch.zeros_like(clean)}
        read = (seen,) if unlabelled is None else (seen, unlabelled)
        if self.lam > 0:
            found["virtual"] = torch.cat([self.divergences(each, generator) for each in read]).mean()
            found["loss"] = found["loss"] + self.lam * found["virtual"]
        if self.entmin > 0:
            found["entropy"] = torch.cat([entropy_of(each.clean) for each in read]).mean()
            found["loss"] = found["loss"] + self.entmin * found["entropy"]
        return found

    def divergences(self, seen: Perturbable, generator: torch.Generator | None = None) -> Float[Tensor, " b"]:
        """KL of every sentence's prediction from the one under its perturbation, with gradient through the latter."""
        return divergence(seen.clean.detach(), seen.run(self.perturbation(seen, generator)))

    def perturbation(self, seen: Perturbable, generator: torch.Generator | None = None) -> Float[Tensor, "b ..."]:
        """r, of the shape of what is perturbed, without gradient.

        Raises ValueError for half precision with too small an xi, and for logits of another shape.
        """
        check_logits(seen.clean)
        if seen.clean.dtype in (torch.float16, torch.bfloat16) and self.xi < COARSE:
            raise ValueError(
                f"xi={self.xi} is too small for {seen.clean.dtype}, where divergences vanish; give at least {COARSE}, "
                "or run the model in float32"
            )
        basis = make_basis(seen, self._basis, self.neighbours)
        start = random_direction(basis, seen.values, generator)
        return self.eps * basis.push(power_iterations(seen, basis, start, self.xi, self.steps))

    @property
    def _basis(self) -> BasisName:
        if self.kind == "ivat":
            return self.basis_norm
        return "nearest" if self.kind == "word_ivat" else "free"


def power_iterations(seen: Perturbable, basis: Basis, start: Tensor, xi: float, steps: int = 1) -> Tensor:
    """Coordinates of norm 1 along which predictions move most, from a start of norm 1."""
    clean = seen.clean.detach()
    for _ in range(steps):
        start = unit(basis.pull(gradient(seen, lambda logits: divergence(clean, logits), xi * basis.push(start))))
    return start
