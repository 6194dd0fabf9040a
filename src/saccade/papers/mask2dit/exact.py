"""What holds to the last bit, on a random CogVideoX in float64: who reaches whom, and what an extension leaves."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attach import attach
from saccade.experiments import Row
from saccade.models.scene_words import word_ids
from saccade.papers.mask2dit.known_scenes import KnownScenes
from saccade.papers.mask2dit.recipe import SmallScenes
from saccade.papers.mask2dit.sampling import Words, extend
from saccade.systems.dense import Dense

SIZES = SmallScenes(scenes=3, layers=2)
ONE, TWO, CLIP, RUNS, KNOWN, TIME = (
    "another caption, one layer", "another caption, two layers", "another clip, one layer",
    "runs instead of the dense mask", "known clips after an extension", "time 0 for all instead of the normal mode",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Forward:
    """A model of random weights and one input."""

    seed: int
    pipe: Any = field(init=False)
    inputs: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        pipe, size = SIZES.pipeline(), 8 * SIZES.side
        with torch.no_grad():
            for parameter in pipe.transformer.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        frames = SIZES.scenes * SIZES.frames
        rotary = pipe._prepare_rotary_positional_embeddings(size, size, frames, torch.device("cpu"))
        object.__setattr__(self, "pipe", pipe)
        object.__setattr__(self, "inputs", {
            "hidden_states": torch.randn(1, frames, 3, SIZES.side, SIZES.side).double(), "image_rotary_emb": rotary,
            "encoder_hidden_states": torch.randn(1, SIZES.scenes * SIZES.text_tokens, len(word_ids())).double(),
            "timestep": torch.tensor([500]), "return_dict": False,
        })  # fmt: skip

    def rows(self) -> Iterator[Row]:
        """The largest change of the first clip's output, or of what is compared, for each check."""
        blocks = self.pipe.transformer.transformer_blocks
        yield {"check": KNOWN, "change": self._known()}
        self.pipe.transformer.double()
        yield {"check": TWO, "change": self._change("encoder_hidden_states", SIZES.text_tokens)}
        yield {"check": RUNS, "change": float((self._out() - self._out(Dense(kernel="spans"))).abs().max())}
        zero = self.inputs | {"timestep": torch.zeros(1).long()}
        yield {"check": TIME, "change": float((self._out(given=zero) - self._out(given=zero, clip=2)).abs().max())}
        del blocks[1:]
        yield {"check": CLIP, "change": self._change("hidden_states", SIZES.frames)}
        yield {"check": ONE, "change": self._change("encoder_hidden_states", SIZES.text_tokens)}

    def _change(self, name: str, length: int) -> float:
        """When what the second scene has under this name is another."""
        other = self.inputs[name].clone()
        other[:, length : 2 * length] += 1
        before, after = self._out(), self._out(given={**self.inputs, name: other})
        return float((before - after)[:, : SIZES.frames].abs().max())

    @torch.no_grad()
    def _out(self, *systems: Any, given: dict[str, Any] | None = None, clip: int | None = None) -> Float[Tensor, "..."]:
        model, system = self.pipe.transformer, SIZES.system()
        with KnownScenes(model, scenes=SIZES.scenes) as known, known.holding(clip), attach(model, system, *systems):
            return model(**given or self.inputs)[0]

    def _known(self) -> float:
        """In single precision, as samplers run."""
        there = self.inputs["hidden_states"][:, : 2 * SIZES.frames].float()
        words = Words(captions=self.inputs["encoder_hidden_states"].float(), negative=None, scenes=SIZES.scenes)
        found = extend(self.pipe, there, words, SIZES.sampling(steps=2, seed=self.seed))
        return float((found[:, : 2 * SIZES.frames] - there).abs().max())
