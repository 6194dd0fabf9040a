"""Replace the dense bias a host passes by its factors, where its rank allows; else leave it dense and say why.

A bias is factored when a site first passes it and again when it has changed; factors live in the run's memory. Inside a
compiled graph a bias stays dense, since how many columns it needs follows from its values.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.core.biases import Bias, BiasSum, DenseBias
from saccade.core.call import AttentionCall
from saccade.core.mechanism import Mechanism
from saccade.core.snapshot import Snapshot
from saccade.core.state import Memory
from saccade.ops.svd_factors import check_table, svd_factors
from saccade.papers.flashbias.bias_table import too_wide


@dataclass(frozen=True, kw_only=True)
class FactoredBias(Mechanism):
    """energy in (0, 1] to keep per head, row means apart (they are carried exactly); max_rank columns at most.

    Warns once per site where a bias stays dense: too many columns, forbidden pairs hidden in it, or a gradient wanted.
    """

    energy: float = 0.995
    max_rank: int = 16

    def __post_init__(self) -> None:
        check_table(torch.zeros(1, 1), self.energy, self.max_rank)

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        if torch.compiler.is_compiling() or call.bias is None:
            return call
        terms = call.bias.terms if isinstance(call.bias, BiasSum) else (call.bias,)
        first, *others = (
            self._known(term, call.site.name, mem) if isinstance(term, DenseBias) else term for term in terms
        )
        return call.replace(bias=sum(others, start=first))

    def _known(self, bias: DenseBias, site: str, mem: Memory) -> Bias:
        """The answer for this bias, from memory if the site passed the same values before."""
        values, held, answer = mem.run.get(site, (None, None, bias))
        if held is None or not (held.holds(values) and _same(values, bias.values)):
            answer = self._factored(bias, site)
            mem.run[site] = bias.values, Snapshot.of(bias.values), answer
        return bias if isinstance(answer, DenseBias) else answer  # a kept one may hang on a graph that is gone

    def _factored(self, bias: DenseBias, site: str) -> Bias:
        if reason := _unfit(bias.values):
            return self._dense(bias, site, reason)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `too_wide` says the same, with what is done about it
            factors = svd_factors(bias.values, energy=self.energy, max_rank=self.max_rank, means="keep")
        if factors.missing:
            return self._dense(bias, site, too_wide(factors, self.energy, self.max_rank))
        return factors.bias

    def _dense(self, bias: DenseBias, site: str, reason: str) -> DenseBias:
        warnings.warn(f"the bias of site '{site}' is kept dense: {reason}", stacklevel=2)
        return bias


def _unfit(values: Tensor) -> str:
    if values.requires_grad:
        return "it requires a gradient, which an SVD made once cannot pass on"
    if not bool(values.isfinite().all()):
        return "it holds inf or nan; pass forbidden pairs as a boolean mask"
    return ""


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and a.device == b.device and torch.equal(a, b))
