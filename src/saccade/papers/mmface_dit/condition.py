"""What MMFace-DiT is conditioned on, a mapping: a picture, its modality, a caption; checked, and embedded.

picture   (b c h w) latent of a mask or a sketch, beside the noisy latent; zeros where there is none
modality  (b) which kind of picture it is: 0 a mask, 1 a sketch
words     (b m k) embedded words;  pooled  (b k) the caption in one vector
ids       (b m) word numbers in place of both, for a model with an embedding of its own
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.models.labelled import LearnedWords
from saccade.papers.mmface_dit.config import MMFaceDiTConfig

Given = Mapping[str, Tensor]
KEYS = ("picture", "modality", "words", "pooled", "ids")


class PooledCaption(nn.Module):
    """The global vector of a caption; a learned null where there is none, and in training now and then."""

    steering: bool = True  # AdamW trains its matrix

    def __init__(self, given: int, width: int, *, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.linear, self.null = nn.Linear(given, width), nn.Parameter(torch.zeros(given))
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, pooled: Float[Tensor, "b k"] | None, rows: int) -> Float[Tensor, "b d"]:
        if pooled is None:
            pooled = self.null.expand(rows, -1)
        elif self.training and self.drop:
            gone = torch.rand(rows, 1, device=pooled.device) < self.drop
            pooled = torch.where(gone, self.null, pooled)
        return self.linear(pooled)


class OwnWords(nn.Module):
    """Captions as word numbers: the words, and the mean of those that are no padding as the pooled vector."""

    def __init__(self, config: MMFaceDiTConfig) -> None:
        super().__init__()
        self.padding = config.classes
        self.table = LearnedWords(config.classes, tokens=config.words, width=config.words_width)

    def forward(self, ids: Int[Tensor, "b m"]) -> tuple[Float[Tensor, "b m k"], Float[Tensor, "b k"]]:
        words, said = self.table(ids), (ids != self.padding)[..., None]
        return words, (words * said).sum(1) / said.sum(1).clamp(min=1)


def check_condition(x: Tensor, condition: Given, config: MMFaceDiTConfig) -> None:
    """Raise ValueError for a condition that lacks something, or holds what does not belong to `x` and the model."""
    for name in condition:
        if name not in KEYS:
            raise ValueError(f"condition has '{name}', which is unknown; choose from {', '.join(KEYS)}")
    if config.classes and ("words" in condition or "pooled" in condition):
        raise ValueError("condition has embedded words, but the model has an embedding of its own; give ids")
    if "ids" in condition and not config.classes:
        raise ValueError("condition has 'ids', but the model has no embedding of its own; give words, or set classes")
    _check_shapes(x, condition, config)
    if config.modalities:
        _check_modality(condition["modality"], config.modalities)


def _check_shapes(x: Tensor, condition: Given, config: MMFaceDiTConfig) -> None:
    if x.shape[1] != config.channels:
        raise ValueError(f"x of shape {tuple(x.shape)} must have channels={config.channels}, as the config says")
    wanted: dict[str, tuple[int | None, ...]] = {"words": (None, config.words_width), "pooled": (config.words_width,)}
    if config.picture_channels:
        _needed(condition, "picture", "zeros for no picture")
        wanted["picture"] = (config.picture_channels, *x.shape[2:])
    if config.modalities:
        _needed(condition, "modality", "0 for masks, 1 for sketches")
        wanted["modality"] = ()
    if config.classes:
        _needed(condition, "ids", f"{config.classes} everywhere for no caption")
        wanted["ids"] = (config.words,)
    for name, sizes in wanted.items():
        if name in condition:
            _check_shape(name, condition[name], (len(x), *sizes))


def _check_shape(name: str, value: Tensor, wanted: tuple[int | None, ...]) -> None:
    found = tuple(value.shape)
    if len(found) != len(wanted) or any(size not in (None, own) for own, size in zip(found, wanted, strict=True)):
        sizes = ", ".join("any" if size is None else str(size) for size in wanted)
        raise ValueError(f"{name} of shape {found} must be ({sizes}), as x and the config say")


def _needed(condition: Given, name: str, mend: str) -> None:
    if name not in condition:
        raise ValueError(f"condition has no '{name}'; give {mend}")


def _check_modality(modality: Tensor, count: int) -> None:
    if modality.device.type != "cpu" or torch.compiler.is_compiling():  # a GPU's own check costs no wait
        return
    wrong = modality[(modality < 0) | (modality >= count)]
    if len(wrong):
        raise ValueError(f"modality {int(wrong[0])} is outside 0 to {count - 1}, the kinds that the config has")
