"""Rows that attend with operands of another row: q, k or v of target rows drawn towards those of their source rows.

x_t <- w x_s + (1 - w) x_t, token by token, before the attention, so that the softmax runs once and as usual.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mask_rows import of_rows
from saccade.core.mechanism import Mechanism
from saccade.core.state import Memory

Weight = float | Float[Tensor, "s t h w"]  # on visual tokens: one number, or a map for all samples or for each
OPERANDS = ("q", "k", "v")


@dataclass(frozen=True, kw_only=True)
class SharedOperands(Mechanism):
    """Blend operands of target rows with those of the source row of the same sample and branch.

    weights   by operand, the weight w in [0, 1] on visual tokens: 1 takes the source's, 0 leaves the target's
    text      operands whose other tokens are taken from the source too; with k and v the source's padding holds
    taken     for each visual token of a target the number of the source's that it takes (`token_regions.move`), for
              all samples or for each; None: the one at its own place
    turned    q and k of a token that is taken from another place are rotated on to their own, where the host rotates;
              for one `taken` for all samples
    taped     by operand, the visual tokens source rows had in another pass, a row for each pair, or for each of one
              branch; they replace those of the source rows, or stand for sources that are not among the rows
    """

    weights: Mapping[str, Weight] = field(default_factory=dict)
    text: tuple[str, ...] = ()
    taken: Int[Tensor, "s n"] | None = None
    turned: bool = False
    taped: Mapping[str, Float[Tensor, "r h n c"]] = field(default_factory=dict)
    takes_rows: ClassVar[bool] = True

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"rows.target", "host.raw"} if self.turned else {"rows.target"})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError where a map of weights is not over the image's grid."""
        grid = layout_q.image.grid
        for name, weight in self.weights.items():
            if isinstance(weight, Tensor) and tuple(weight.shape[1:]) != grid:
                raise ValueError(
                    f"a mask over {tuple(weight.shape[1:])} (t, y, x) places does not fit {name} of a grid {grid}; "
                    "make it on the grid of the latents' patches"
                )
        if self.taken is not None and self.taken.shape[1] != layout_q.image.n:
            raise ValueError(
                f"taken is for {self.taken.shape[1]} image tokens, the grid {grid} has {layout_q.image.n}; "
                "make it on the grid of the latents' patches"
            )

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        names = [name for name in OPERANDS if name in self.weights or name in self.taped]
        shared = call.replace(**{name: self._shared(name, call) for name in names})
        if call.mask is None or not {"k", "v"} <= set(self.text):
            return shared
        return shared.replace(mask=of_rows(call.mask, self._rows(call)))

    def _rows(self, call: AttentionCall) -> Int[Tensor, " b"]:
        """The row whose keys each row has: with a source's words comes their padding."""
        assert call.rows is not None
        theirs = dict(call.rows.pairs()) if call.rows.where("source") else {}
        return torch.tensor([theirs.get(i, i) for i in range(call.rows.n)], device=call.q.device)

    def _shared(self, name: str, call: AttentionCall) -> Float[Tensor, "b h n c"]:
        assert call.rows is not None
        x: Tensor = getattr(call, name)
        span = _image(_layout(name, call))
        targets = torch.tensor(call.rows.where("target"), device=x.device)
        if call.rows.where("source"):
            sources = torch.tensor([source for _, source in call.rows.pairs()], device=x.device)
            theirs = self._replaced(name, x[sources], span)
            x = x if name not in self.taped else x.index_copy(0, sources, theirs)
        else:
            theirs = self._replaced(name, x[targets], span, must=True)
        if name not in self.weights:
            return x
        theirs = self._placed(name, theirs, span, call)
        return x.index_copy(0, targets, torch.lerp(x[targets], theirs, self._weight(name, call).to(x)))

    def _placed(
        self, name: str, theirs: Float[Tensor, "r h n c"], span: slice, call: AttentionCall
    ) -> Float[Tensor, "r h n c"]:
        """The source's tokens where the targets take them."""
        if self.taken is None:
            return theirs
        if self.turned and name != "v":
            every = torch.arange(theirs.shape[2], device=theirs.device)
            image = span.start + self.taken[0].to(theirs.device)
            return call.host.placed(theirs, torch.cat((every[: span.start], image, every[span.stop :])))
        samples = self._samples(call)
        taken = _of_samples("taken", self.taken.to(theirs.device), samples)[:, None, :, None]
        image = theirs[:, :, span]
        image = image.gather(2, taken.expand(len(samples), image.shape[1], -1, image.shape[3]))
        return torch.cat((theirs[:, :, : span.start], image, theirs[:, :, span.stop :]), dim=2)

    def _replaced(self, name: str, x: Float[Tensor, "r h n c"], span: slice, must: bool = False) -> Tensor:
        """x with the visual tokens that were taped."""
        if name not in self.taped:
            if must:
                raise ValueError(
                    f"{name} has no source: neither a source row nor a tape of {name}; tape it, or give the row"
                )
            return x
        taped = self.taped[name].to(x)
        if x.shape[0] % taped.shape[0] or taped.shape[1:] != x[:, :, span].shape[1:]:
            raise ValueError(
                f"a tape of {name} {tuple(taped.shape)} does not fit source rows {tuple(x[:, :, span].shape)}; "
                "tape the same samples at the same size"
            )
        taped = taped.repeat(x.shape[0] // taped.shape[0], 1, 1, 1)
        return torch.cat((x[:, :, : span.start], taped, x[:, :, span.stop :]), dim=2)

    def _weight(self, name: str, call: AttentionCall) -> Float[Tensor, "r 1 n 1"]:
        """The weight of every token of the target rows."""
        weight, samples = self.weights[name], self._samples(call)
        rest = 1.0 if name in self.text else 0.0
        layout = _layout(name, call)
        whole = call.q.new_full((len(samples), layout.n), rest, dtype=torch.float32)
        image = _image(layout)
        if isinstance(weight, Tensor):
            weight = _of_samples("a mask", weight.to(whole).flatten(1), samples)
        whole[:, image] = weight
        return whole[:, None, :, None]

    def _samples(self, call: AttentionCall) -> list[int]:
        """The sample of each target row."""
        assert call.rows is not None
        return [call.rows.samples[i] for i in call.rows.where("target")]


def _layout(name: str, call: AttentionCall) -> Layout:
    """The tokens of an operand: where the image alone asks, k and v have more than q."""
    return call.layout_q if name == "q" else call.layout_k


def _image(layout: Layout) -> slice:
    return layout.span(layout.image.name)


def _of_samples(name: str, given: Tensor, samples: list[int]) -> Tensor:
    """A row for each target of what is given for all samples or for each."""
    if len(given) not in (1, 1 + max(samples)):
        raise ValueError(f"{name} is for {len(given)} samples, the rows hold {1 + max(samples)}; give one for each")
    return given[samples if len(given) > 1 else [0] * len(samples)]
