"""Mixers of the kit in place of the self-attention of a diffusers transformer over one grid: DiT, PixArt.

>>> grafts = graft(pipe.transformer, "dico")
>>> optimiser = torch.optim.AdamW(grafts.mixers.parameters())
>>> grafts.undo()

Weights are fresh, so the transformer has to be trained; everything around them stays, cross-attention too. Masks of
self-attention are ignored.
"""

from fnmatch import fnmatch
from typing import Any, Self

from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.block import xavier_
from saccade.nn.part import Place
from saccade.nn.registry import make_mixer


class Stem:
    """Notes the grid whenever the transformer is called."""

    def __init__(self, transformer: nn.Module) -> None:
        self.grid: tuple[int, ...] = ()
        self.patch: int = transformer.config.patch_size  # type: ignore[union-attr, assignment]
        self.hook = transformer.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        picture: Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        self.grid = tuple(side // self.patch for side in picture.shape[-2:])


class Graft(nn.Module):
    """Stands where an attention stood; `stem` knows the grid of the picture that is being drawn."""

    def __init__(self, mixer: nn.Module, stem: Stem) -> None:
        super().__init__()
        self.mixer, self._stem = mixer, (stem,)  # a tuple: the stem is the transformer's, no part of this

    def forward(self, hidden_states: Float[Tensor, "b n d"], *_: Any, **__: Any) -> Float[Tensor, "b n d"]:
        out, losses, _ = self.mixer(hidden_states, Place(grid=self._stem[0].grid))
        if losses:
            raise ValueError(
                f"the mixer has losses of its own ({', '.join(losses)}) and a diffusers transformer hands none on; "
                "choose a mixer without, or an architecture of saccade.models"
            )
        return out


class Grafts:
    """What `graft` did; also a context manager that undoes it. `mixers`: the new ones, in order."""

    def __init__(self, transformer: nn.Module, stem: Stem, replaced: dict[str, nn.Module]) -> None:
        self.transformer, self.stem, self.replaced = transformer, stem, replaced
        self.mixers = nn.ModuleList(transformer.get_submodule(name).mixer for name in replaced)  # type: ignore[arg-type]

    def undo(self) -> None:
        """Put back what stood there."""
        self.stem.hook.remove()
        for name, module in self.replaced.items():
            self.transformer.set_submodule(name, module)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def graft(transformer: nn.Module, mixer: str, *, sites: str = "transformer_blocks.*.attn1") -> Grafts:
    """Replace the attentions whose names match `sites`, on this instance only, by a mixer each, as `mixer` names it.

    Raises ValueError where nothing matches.
    """
    found = {name: module for name, module in transformer.named_modules() if fnmatch(name, sites)}
    if not found:
        raise ValueError(f"sites='{sites}' match nothing in {type(transformer).__name__}")
    stem = Stem(transformer)
    for name, attention in found.items():
        transformer.set_submodule(name, Graft(_made(mixer, attention), stem))
    return Grafts(transformer, stem, found)


def _made(text: str, attention: Any) -> nn.Module:
    """A mixer as wide as the attention, where its weights are."""
    made = make_mixer(text, attention.to_q.in_features, attention.heads)
    getattr(made, "reset", lambda: xavier_(made))()
    return made.to(attention.to_q.weight)
