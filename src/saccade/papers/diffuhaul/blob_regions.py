"""Each object's grounding sees its own blob alone, and is seen from there alone (step 1): no object leaks into another.

Groups of tokens that see each other: the picture, with text of no object; all text; and each object, its grounding
token or its words with the image tokens of its blob. Tokens of the same groups are one region.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism, Pairs
from saccade.core.regions import Partition
from saccade.core.state import Memory
from saccade.mechanisms.region_grid import RegionGrid
from saccade.mechanisms.token_groups import by_groups
from saccade.papers.diffuhaul.blobs import Blobs

Words = tuple[tuple[int, ...], ...]
Prepared = tuple[Partition, Bool[Tensor, "two R R"]]
GROUNDING = "grounding"


@dataclass(frozen=True, kw_only=True)
class BlobRegions(Mechanism):
    """Source rows by the source's layout and words, target rows by the target's.

    source, target              blobs
    source_words, target_words  positions of each object's words within the text, where text and image are one sequence
    """

    source: Blobs
    target: Blobs
    source_words: Words = ()
    target_words: Words = ()
    ready: MutableMapping[tuple[int, ...], Prepared] = field(default_factory=dict, compare=False)
    needs: ClassVar[frozenset[str]] = frozenset({"rows.target"})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError for fewer grounding tokens than objects, and for words beyond the text."""
        if (key := _key(layout_q)) in self.ready:
            return
        both = [
            members(layout_q, blobs, words)
            for blobs, words in ((self.source, self.source_words), (self.target, self.target_words))
        ]
        groups, own = len(both[0]), torch.eye(len(both[0]), dtype=torch.bool)
        tables = torch.zeros(2, 2 * groups, 2 * groups, dtype=torch.bool)
        tables[0, :groups, :groups], tables[1, groups:, groups:] = own, own
        grids = [by_groups(torch.cat(both), table) for table in tables]
        self.ready[key] = grids[0].partition, torch.cat([grid.allow[0] for grid in grids])

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        assert call.rows is not None
        partition, allow = self.ready[_key(call.layout_q)]
        device, targets = call.q.device, call.rows.where("target")
        which = torch.tensor([int(row in targets) for row in range(call.rows.n)], device=device)
        moved = (
            partition if partition.label.device == device else Partition(partition.label.to(device), partition.count)
        )
        grid = RegionGrid(moved, allow.to(device)[which][:, None])
        return Pairs(mask=grid.lowered(call.layout_q, call.layout_k))


def members(layout: Layout, blobs: Blobs, words: Words) -> Bool[Tensor, "g n"]:
    """Tokens of each group: picture, text, padding of the grounding, then the objects in order.

    Raises ValueError for fewer grounding tokens than objects, and for words beyond the text.
    """
    assert layout.image.grid is not None
    frames, *grid = layout.image.grid
    found = torch.zeros(3 + len(blobs), layout.n, dtype=torch.bool)
    image, text = layout.span(layout.image.name), layout.is_("text")
    found[0], found[1] = True, text
    for number, blob in enumerate(blobs):
        found[3 + number, image] = blob.on((grid[0], grid[1])).flatten().repeat(frames)
    if any(segment.name == GROUNDING for segment in layout.segments):
        _ground(found, layout.span(GROUNDING), len(blobs))
    for number, own in enumerate(words if text.any() else ()):
        _speak(found, text.nonzero()[:, 0], number, own)
    return found


def _ground(found: Bool[Tensor, "g n"], span: slice, objects: int) -> None:
    """One token an object; the others are padding, which sees itself."""
    if span.stop - span.start < objects:
        raise ValueError(
            f"the model was given {span.stop - span.start} grounding tokens for {objects} objects; give it a box and a "
            "phrase for each, in the order of the blobs"
        )
    found[0, span], found[2, span.start + objects : span.stop] = False, True
    for number in range(objects):
        found[3 + number, span.start + number] = True


def _speak(found: Bool[Tensor, "g n"], text: Tensor, number: int, words: tuple[int, ...]) -> None:
    if beyond := [word for word in words if not 0 <= word < len(text)]:
        raise ValueError(f"words={beyond} of object {number} lie beyond the {len(text)} text tokens")
    own = text[list(words)]
    found[0, own], found[3 + number, own] = False, True


def _key(layout: Layout) -> tuple[int, ...]:
    assert layout.image.grid is not None
    return (layout.n, layout.text_n, *layout.image.grid)
