"""Mixers of the kit in place of the self-attention of a transformer over one grid.

>>> replaced_attention = replace_attention(pipe.transformer, "dico")
>>> optimiser = torch.optim.AdamW(replaced_attention.mixers.parameters())
>>> replaced_attention.undo()

    diffusers' DiT, PixArt      sites="transformer_blocks.*.attn1"
    timm's VisionTransformer    sites="blocks.*.attn"
    transformers' ViT           sites="*layers.*.attention"

Where a class token stands before the patches, tokens fill no grid, and a mixer that needs one says so. Weights are
fresh, so the transformer has to be trained; everything around them stays, cross-attention too. Masks of self-attention
are ignored.
"""

from fnmatch import fnmatch
from math import prod
from typing import Any, Self

from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.block import xavier_
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_mixer

PICTURES = ("hidden_states", "pixel_values", "x")  # what the libraries call a transformer's first argument
OPERANDS = {"to_q": "heads", "qkv": "num_heads", "q_proj": "num_attention_heads"}  # a projection, and how many heads


class GridRecorder:
    """Notes the grid whenever the transformer is called."""

    def __init__(self, transformer: Any) -> None:
        self.grid: tuple[int, ...] = ()
        self.patch = _patch(transformer)
        self.hook = transformer.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        picture: Tensor = next((kwargs[name] for name in PICTURES if name in kwargs), *args[:1])
        self.grid = tuple(side // patch for side, patch in zip(picture.shape[-2:], self.patch, strict=True))

    def place(self, tokens: int) -> TokenPositions:
        """Of so many tokens: on the grid, if they fill it."""
        return TokenPositions(grid=self.grid if prod(self.grid) == tokens else ())


class MixerAttention(nn.Module):
    """Stands where an attention stood; `recorder` knows the grid of the picture that is being drawn."""

    def __init__(self, mixer: nn.Module, recorder: GridRecorder, *, pair: bool = False) -> None:
        super().__init__()
        self.pair = pair  # the host expects an attention map beside the output, and does without
        self.mixer, self._recorder = mixer, (recorder,)  # a tuple: the recorder is the transformer's, no part of this

    def forward(self, hidden_states: Float[Tensor, "b n d"], *_: Any, **__: Any) -> Any:
        """The mixer's output; raises ValueError for a mixer with losses of its own."""
        out, losses, _ = self.mixer(hidden_states, self._recorder[0].place(hidden_states.shape[1]))
        if losses:
            raise ValueError(
                f"the mixer has losses of its own ({', '.join(losses)}) and the transformer hands none on; "
                "choose a mixer without, or an architecture of saccade.models"
            )
        return (out, None) if self.pair else out


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

    Raises ValueError where nothing matches, or something else than an attention does.
    """
    found = {name: module for name, module in transformer.named_modules() if fnmatch(name, sites)}
    if not found:
        raise ValueError(f"sites='{sites}' match nothing in {type(transformer).__name__}")
    made = {name: _made(mixer, attention, name) for name, attention in found.items()}
    recorder = GridRecorder(transformer)
    for name, module in made.items():
        pair = hasattr(found[name], "q_proj")  # transformers' modules return two things
        transformer.set_submodule(name, MixerAttention(module, recorder, pair=pair))
    return ReplacedAttention(transformer, recorder, found)


def _made(text: str, attention: Any, name: str) -> nn.Module:
    """A mixer as wide as the attention, where its weights are."""
    projection = next((each for each in OPERANDS if hasattr(attention, each)), None)
    if projection is None:
        raise ValueError(
            f"'{name}' ({type(attention).__name__}) is no self-attention that has {', '.join(OPERANDS)}; change sites"
        )
    layer = getattr(attention, projection)
    made = make_mixer(text, layer.in_features, getattr(attention, OPERANDS[projection]))
    getattr(made, "reset", lambda: xavier_(made))()
    return made.to(layer.weight)


def _patch(transformer: Any) -> tuple[int, ...]:
    """Sides of a patch, in pixels."""
    owner = getattr(transformer, "patch_embed", None)
    patch = getattr(owner if hasattr(owner, "patch_size") else transformer.config, "patch_size", None)
    if patch is None:
        raise ValueError(f"{type(transformer).__name__} names no patch_size, so its tokens have no grid; see the hosts")
    return (patch, patch) if isinstance(patch, int) else tuple(patch)
