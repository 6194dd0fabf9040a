"""One attention of a host replaced by a variant, and what its q and k are made of during a forward."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.cache_utils import Cache

from saccade.nn.residual import small_normal_
from saccade.papers.deconstructing_attention.host_sides import Sides
from saccade.papers.deconstructing_attention.host_state import StateLayer, state_layer
from saccade.papers.deconstructing_attention.mixers import SOURCED, STREAMS
from saccade.papers.deconstructing_attention.operators import OPERATORS


class HostMixer(nn.Module):
    """Stands where an attention stood, which is kept in `attention`; `sources` are its decoder's."""

    def __init__(self, attention: nn.Module, sides: Sides, variant: str, reading: str, sources: "Sources") -> None:
        super().__init__()
        self.attention, self.variant = attention, variant
        self.layer: int = attention.layer_idx  # type: ignore[assignment]
        self._beside = (sides, sources)  # a tuple: no submodules
        self.operator = OPERATORS[{"approx": reading, "nonapprox": "nonapprox"}.get(variant, "borrowed_qk")]
        self.shared = frozenset({"count"} | ({"k"} if variant in STREAMS else set()))
        if variant == "mlp":
            self.gate, self.up, self.down = gated_layers(sides)

    def forward(
        self,
        hidden_states: Float[Tensor, "b n d"],
        *_: Any,
        past_key_values: Cache | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **__: Any,
    ) -> tuple[Float[Tensor, "b n d"], None]:
        """The output, and no weights."""
        sides = self._beside[0]
        layer = None if past_key_values is None else state_layer(past_key_values, self.layer)
        if self.variant == "mlp":
            out, kept = self.down(F.silu(self.gate(hidden_states)) * self.up(hidden_states)), {}
        else:
            out, kept = self._mixed(hidden_states, layer, position_embeddings)
        if layer is not None:
            layer.put(kept, hidden_states.shape[1], self.shared)
        return sides.output(out), None

    def _mixed(
        self, x: Tensor, layer: StateLayer | None, rotation: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "b n k"], dict[str, Tensor]]:
        sides, sources = self._beside
        if self.variant == "nonapprox":
            q, k = sides.queries_keys(x, None, F.silu)
        else:
            source = sources.of(self.layer, x) if self.variant in SOURCED else x
            rotation = rotation and (rotation[0][: len(source)], rotation[1][: len(source)])  # a stream has one row
            q, k = sides.queries_keys(source, rotation)
        state = self.operator.state(**layer.kept) if layer is not None and layer.kept else None
        out, state = self.operator.run(q, k, sides.values(x), state, remember=layer is not None)
        return out.transpose(1, 2).flatten(2), {} if state is None else state._asdict()


class Sources:
    """What q and k are made of during one forward of a decoder: normed embeddings, or what the stream's pass read."""

    def __init__(self, norms: dict[int, nn.Module], streams: bool) -> None:
        self.norms, self.streams = norms, streams
        self.reading = False  # the stream's own pass
        self.embedded: Tensor | None = None
        self.read: dict[int, Tensor] = {}

    def of(self, layer: int, x: Tensor) -> Tensor:
        """Of one layer whose own input is x.

        Raises RuntimeError outside a forward of the whole decoder, as where checkpointing runs a layer again.
        """
        if self.reading:
            self.read[layer] = x
            return x
        if self.streams and layer in self.read:
            return self.read[layer]
        if not self.streams and self.embedded is not None:
            return self.norms[layer](self.embedded)
        raise RuntimeError(
            f"layer {layer + 1} was run outside a forward of its decoder and has nothing to make q and k of; call the "
            "model, with gradient checkpointing off"
        )

    def clear(self) -> None:
        """Forget."""
        self.embedded, self.read = None, {}


def gated_layers(sides: Sides) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """Three matrices with as many numbers as those of q, k and v, to rounding, where the host's are."""
    heads, weights = sides.sizes[0], sum(sides.sizes) * sides.width
    inside = round(weights / (2 * sides.width + heads))
    like = next(sides.attention.parameters())
    made = [
        nn.Linear(a, b, bias=sides.biased, device=like.device, dtype=like.dtype)
        for a, b in ((sides.width, inside), (sides.width, inside), (inside, heads))
    ]
    for layer in made:
        small_normal_(layer)
    return made[0], made[1], made[2]
