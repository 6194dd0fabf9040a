"""Mixers of the kit in place of the self-attention of a diffusers transformer over one grid: DiT, PixArt.

>>> replaced_attention = replace_attention(pipe.transformer, "dico")
>>> optimiser = torch.optim.AdamW(replaced_attention.mixers.parameters())
>>> replaced_attention.undo()

Weights are fresh, so the transformer has to be trained; everything around them stays, cross-attention too. Masks of
self-attention are ignored.
"""

from fnmatch import fnmatch
from typing import Any, Self

from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.block import xavier_
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_mixer


class GridRecorder:
    """Notes the grid whenever the transformer is called."""

    def __init__(self, transformer: nn.Module) -> None:
        self.grid: tuple[int, ...] = ()
        self.patch: int = transformer.config.patch_size  # type: ignore[union-attr, assignment]
        self.hook = transformer.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        picture: Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        self.grid = tuple(side // self.patch for side in picture.shape[-2:])


class MixerAttention(nn.Module):
    """Stands where an attention stood; `recorder` knows the grid of the picture that is being drawn."""

    def __init__(self, mixer: nn.Module, recorder: GridRecorder) -> None:
        super().__init__()
        self.mixer, self._recorder = mixer, (recorder,)  # a tuple: the recorder is the transformer's, no part of this

    def forward(self, hidden_states: Float[Tensor, "b n d"], *_: Any, **__: Any) -> Float[Tensor, "b n d"]:
        """The mixer's output; raises ValueError for a mixer with losses of its own."""
        out, losses, _ = self.mixer(hidden_states, TokenPositions(grid=self._recorder[0].grid))
        if losses:
            raise ValueError(
                f"the mixer has losses of its own ({', '.join(losses)}) and a diffusers transformer hands none on; "
                "choose a mixer without, or an architecture of saccade.models"
            )
        return out


class ReplacedAttention:
    """What `replace_attention` did; also a context manager that undoes it. `mixers`: the new ones, in order."""

    def __init__(self, transformer: nn.Module, recorder: GridRecorder, replaced: dict[str, nn.Module]) -> None:
        self.transformer, self.recorder, self.replaced = transformer, recorder, replaced
        self.mixers = nn.ModuleList(transformer.get_submodule(name).mixer for name in replaced)  # type: ignore[arg-type]

    def undo(self) -> None:
        """Put back what stood there."""
        self.recorder.hook.remove()
        for name, module in self.replaced.items():
            self.transformer.set_submodule(name, module)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def replace_attention(
    transformer: nn.Module, mixer: str, *, sites: str = "transformer_blocks.*.attn1"
) -> ReplacedAttention:
    """Replace the attentions whose names match `sites`, on this instance only, by a mixer each, as `mixer` names it.

    Raises ValueError where nothing matches.
    """
    found = {name: module for name, module in transformer.named_modules() if fnmatch(name, sites)}
    if not found:
        raise ValueError(f"sites='{sites}' match nothing in {type(transformer).__name__}")
    recorder = GridRecorder(transformer)
    for name, attention in found.items():
        transformer.set_submodule(name, MixerAttention(_made(mixer, attention), recorder))
    return ReplacedAttention(transformer, recorder, found)


def _made(text: str, attention: Any) -> nn.Module:
    """A mixer as wide as the attention, where its weights are."""
    made = make_mixer(text, attention.to_q.in_features, attention.heads)
    getattr(made, "reset", lambda: xavier_(made))()
    return made.to(attention.to_q.weight)
