"""Latents of retrieved videos: read, checked, and what was missing counted."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.models.stored import read_weights
from saccade.papers.dit_mem.retrieval import Hit, VideoIndex

Read = Callable[[str], Tensor]
KEY = "latents"  # the tensor of a file


@dataclass(frozen=True, kw_only=True, eq=False)
class Retrieved:
    """What was found for each prompt.

    latents  (k c d h w) of each prompt, best first; k may be 0
    hits     of each prompt, those whose latents were read
    missing  names that were found and could not be read, each once
    wanted   of each prompt
    """

    latents: tuple[Float[Tensor, "k c d h w"], ...]
    hits: tuple[tuple[Hit, ...], ...]
    missing: tuple[str, ...]
    wanted: int

    @property
    def complete(self) -> bool:
        """Whether every prompt has as many as were wanted."""
        return all(len(each) == self.wanted for each in self.hits)

    def stacked(self) -> Float[Tensor, "b k c d h w"]:
        """Of all prompts, for one call of the encoder.

        Raises ValueError where prompts differ in how many were found.
        """
        counts = [len(each) for each in self.latents]
        if len({*counts}) > 1:
            raise ValueError(
                f"prompts have {counts} videos, {len(self.missing)} missing; encode each prompt's latents by itself"
            )
        return torch.stack(self.latents)

    def __str__(self) -> str:
        read = sum(map(len, self.hits))
        lost = f"; {len(self.missing)} missing: {', '.join(self.missing)}" if self.missing else ""
        return f"{read} of {self.wanted * len(self.hits)} videos read for {len(self.hits)} prompts{lost}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """An index, and how to read the latents (c d h w) of a name: a folder of `name.safetensors`, or a function.

    A function raises FileNotFoundError for a name without latents.
    """

    index: VideoIndex
    read: Read | str | Path

    def retrieve(self, prompts: Sequence[Any], k: int = 5, *, exclude: Sequence[Collection[str]] = ()) -> Retrieved:
        """The k nearest of each prompt, without those that cannot be read: they are counted, and not made up for.

        Raises ValueError as `VideoIndex.search` does, and for latents of different shapes.
        """
        found = self.index.search(prompts, k, exclude=exclude)
        known: dict[str, Tensor | None] = {}
        for hit in (hit for hits in found for hit in hits):
            if hit.name not in known:
                known[hit.name] = self._latents(hit.name)
        there = {name: value for name, value in known.items() if value is not None}
        none = torch.zeros(0, *_one_shape(there))
        kept = tuple(tuple(hit for hit in hits if hit.name in there) for hits in found)
        return Retrieved(
            latents=tuple(torch.stack([there[hit.name] for hit in hits]) if hits else none for hits in kept),
            hits=kept, missing=tuple(name for name in known if name not in there), wanted=k,
        )  # fmt: skip

    def _latents(self, name: str) -> Tensor | None:
        try:
            return self.read(name) if callable(self.read) else read_latents(Path(self.read) / f"{name}.safetensors")
        except FileNotFoundError:
            return None


def read_latents(file: Path) -> Float[Tensor, "c d h w"]:
    """Raises FileNotFoundError where there is none, ValueError for a file without latents."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there")
    if KEY not in (stored := read_weights(file)):
        raise ValueError(f"{file} holds {', '.join(stored)} and no '{KEY}'; store them under that name")
    return stored[KEY]


def _one_shape(there: dict[str, Tensor]) -> tuple[int, ...]:
    shapes: dict[tuple[int, ...], str] = {}
    for name, value in there.items():
        shapes.setdefault(tuple(value.shape), name)
    if len(shapes) > 1:
        said = ", ".join(f"'{name}' {shape}" for shape, name in shapes.items())
        raise ValueError(f"latents have different shapes: {said}; encode all videos of the bank at one size")
    return next(iter(shapes), (0, 0, 0, 0))
