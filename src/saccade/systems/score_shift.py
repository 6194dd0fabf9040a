"""Scores of a host's attention as what may be perturbed: a classifier of transformers, run again with numbers added.

    shift = ScoreShift(where=at(depth=(0.5, 1.0)))
    with attach(model, shift):
        seen = shift.perturbable(model, input_ids=ids, attention_mask=keep)
        r = adversarial(seen, loss, eps=1.0, basis=make_basis(seen, "free"))
        attacked = seen.run(r)

Outside of `perturbable` and `run` it plans nothing, so that the model is the host.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.mechanisms.shifted_scores import Scores, ShiftedScores
from saccade.nn.perturbable import Perturbable, SamePasses


@dataclass(eq=False, kw_only=True)
class ScoreShift:
    """What is added in the forward that runs now.

    where   sites whose scores may change, together; all of one shape
    """

    where: Where = EVERYWHERE
    added: Mapping[str, Tensor] = field(default_factory=dict, init=False)
    into: dict[str, Scores] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return "score_shift"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if not (self.where.covers(site) and self.where.active(clock)):
            return ()
        if self.into is None and site.name not in self.added:
            return ()
        return (ShiftedScores(shift=self.added.get(site.name), into=self.into),)

    def perturbable(self, model: nn.Module, *, share_dropout: bool = True, **inputs: Any) -> Perturbable:
        """The batch as the attached classifier read it: scores (b s h n m) of s sites; norms are over all of them.

        inputs   of the model by name; padding of `attention_mask` (b n) is left out among queries too
        share_dropout   every pass draws the same dropout masks
        Raises ValueError where scores of sites differ in shape; StateError where no site recorded any.
        """
        passes = SamePasses(lambda r: _logits(model, inputs), (model,), share_dropout)
        self.into = found = {}
        try:
            clean = passes(None)
        finally:
            self.into = None
        values, keep = stacked(found, inputs.get("attention_mask"))
        names = tuple(found)

        def run(r: Tensor) -> Tensor:
            self.added = dict(zip(names, r.unbind(1), strict=True))
            try:
                return passes(r)
            finally:
                self.added = {}

        return Perturbable(values=values, keep=keep, clean=clean, run=run)


def stacked(
    found: Mapping[str, Scores], padding: Bool[Tensor, "b n"] | Tensor | None
) -> tuple[Float[Tensor, "b s h n m"], Bool[Tensor, "b s h n m"]]:
    """Scores of all sites, and which of them count.

    Raises ValueError where they differ in shape; StateError where there are none.
    """
    if not found:
        raise StateError("no site recorded its scores; attach this system to the model first, with where=at(...)")
    shapes = {name: tuple(scores.values.shape) for name, scores in found.items()}
    if len(set(shapes.values())) > 1:
        first, *others = shapes
        other = next(name for name in others if shapes[name] != shapes[first])
        raise ValueError(
            f"scores at '{first}' {shapes[first]} and '{other}' {shapes[other]} differ in shape; "
            "choose sites alike by where=at(...)"
        )
    values, keep = (torch.stack(parts, 1) for parts in zip(*found.values(), strict=True))
    if padding is not None and padding.shape == (len(values), values.shape[3]):
        keep = keep & (padding > 0)[:, None, None, :, None]
    return values, keep


def _logits(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    found = model(**inputs)
    return getattr(found, "logits", found)


class AttachedClassifier(nn.Module):
    """A classifier of transformers and the scores it is attached with, trained as those of `saccade.models` are."""

    def __init__(self, model: nn.Module, shift: ScoreShift, pad: int = 0) -> None:
        super().__init__()
        self.model, self.shift, self.pad = model, shift, pad

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b c"]:
        """Logits of token numbers, padded by `pad`."""
        return _logits(self.model, self._inputs(ids))

    def perturbable(self, ids: Int[Tensor, "b n"], *, level: str = "scores", share_dropout: bool = True) -> Perturbable:
        """The batch as it was read.

        Raises ValueError for another level than scores.
        """
        if level != "scores":
            raise ValueError(f"level='{level}' is not to be had of a host; perturb its scores")
        return self.shift.perturbable(self.model, share_dropout=share_dropout, **self._inputs(ids))

    def _inputs(self, ids: Int[Tensor, "b n"]) -> dict[str, Tensor]:
        return {"input_ids": ids, "attention_mask": (ids != self.pad).long()}
