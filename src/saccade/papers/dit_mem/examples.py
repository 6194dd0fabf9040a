"""What an encoder is trained on: videos with embedded captions, and for each the videos it is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.papers.dit_mem.retrieval import VideoIndex


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Latents as the transformer takes them.

    latents  of the videos to be made;  words  of their captions, as the transformer takes these
    bank     latents of the videos that may be shown;  nearest  rows of it for each video, best first
    Raises ValueError where these are not as many.
    """

    latents: Float[Tensor, "n c d h w"]
    words: Float[Tensor, "n t e"]
    bank: Float[Tensor, "m c d h w"]
    nearest: Int[Tensor, "n k"]

    def __post_init__(self) -> None:
        counts = {name: len(getattr(self, name)) for name in ("latents", "words", "nearest")}
        if len({*counts.values()}) > 1:
            said = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ValueError(f"examples differ in number: {said}; give each video its caption and its neighbours")
        if self.nearest.numel() and int(self.nearest.max()) >= len(self.bank):
            raise ValueError(f"nearest names row {int(self.nearest.max())} of a bank of {len(self.bank)} videos")

    def __len__(self) -> int:
        return len(self.latents)


def nearest_rows(
    index: VideoIndex, captions: Sequence[str], k: int, *, rows: Mapping[str, int], own: Sequence[str] = ()
) -> Int[Tensor, "n k"]:
    """Rows of a bank for each caption, once for the whole training.

    rows  of the bank, by name
    own   the name of each caption's video, which is not shown; where the bank holds none of them, leave it out
    Raises ValueError where there are fewer than k, or for names without a row.
    """
    found = index.search(captions, k, exclude=[{name} for name in own])
    short = [i for i, hits in enumerate(found) if len(hits) < k]
    if short:
        raise ValueError(
            f"caption {short[0]} has {len(found[short[0]])} neighbours; give a larger bank, or k below {k}"
        )
    lost = [hit.name for hits in found for hit in hits if hit.name not in rows]
    if lost:
        raise ValueError(f"'{lost[0]}' is in the index and has no row in the bank; give its latents")
    return torch.tensor([[rows[hit.name] for hit in hits] for hits in found])
