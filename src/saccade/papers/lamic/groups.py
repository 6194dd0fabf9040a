"""The groups of LAMIC: which there are, who sees whom in each stage, and which tokens are theirs."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.masks import Device
from saccade.mechanisms.canvas import Box, Region, on_tokens
from saccade.mechanisms.laid_out import LaidOut
from saccade.mechanisms.region_grid import RegionGrid
from saccade.mechanisms.token_groups import by_groups

Stage = Literal[1, 2]
Padding = Literal["hub", "isolated"]
KINDS = ("text", "interaction", "padding", "region", "rest", "reference")
OF_ENTITIES = ("text", "region", "reference")
VERDICTS = (  # rows see columns: "=" of the same entity, "1" always, "0" never; "2", ">" all from the second stage on
    "=11=0=",
    "111221",
    "111111",
    "=21>2=",
    "021210",
    "=11=0=",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Entity:
    """One thing of the picture: its words, its place, and the picture it is taken from.

    words      positions of its text among the text tokens; `pipelines.piece_tokens` finds them
    region     its place: a `Box`, a mask (h w) in [0, 1] of any size, or None for the whole canvas
    reference  segment of its reference picture, "reference1" for the first; None where it has none
    apart      numbers of other entities, from 0, whose regions are taken from its own in the first stage
    name       for errors
    """

    words: tuple[int, ...]
    region: Region = None
    reference: str | None = None
    apart: tuple[int, ...] = ()
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class GroupIsolation(LaidOut):
    """The mask of one stage: a pair of tokens passes if any pair of their groups does.

    words        positions of each entity's text, among text tokens
    interaction  positions of the sentence that all entities share
    padding      "hub": text of no entity sees all and is seen by all; "isolated": it is seen by itself alone
    """

    entities: tuple[Entity, ...]
    words: tuple[tuple[int, ...], ...]
    interaction: tuple[int, ...] = ()
    stage: Stage = 2
    padding: Padding = "hub"

    def on(self, layout: Layout, device: Device) -> RegionGrid:
        """Raises ValueError for words, regions and references these tokens do not have."""
        allow = group_table(len(self.entities), self.stage, self.padding)
        return by_groups(self.members(layout).to(device), allow.to(device))

    def members(self, layout: Layout) -> Bool[Tensor, "g n"]:
        """Tokens of each group, in the order of `group_table`: text_1 to text_r, interaction, padding, and so on."""
        text, regions, whole = self._text(layout), self._regions(layout.image), self._regions(layout.image, whole=True)
        image = torch.stack((*regions, ~torch.stack(whole).any(0)))
        r, n = len(self.entities), layout.n
        found = torch.zeros(3 * r + 3, n, dtype=torch.bool)
        found[: r + 2, layout.is_("text") | layout.is_("padding")] = text
        found[r + 2 : 2 * r + 3, layout.span(layout.image.name)] = image
        for number, segment in enumerate(self._references(layout)):
            if segment is not None:
                found[2 * r + 3 + number, layout.span(segment)] = True
        return found

    def _text(self, layout: Layout) -> Bool[Tensor, "k t"]:
        count = layout.text_n + sum(s.n for s in layout.of("padding"))
        found = torch.zeros(len(self.entities) + 2, count, dtype=torch.bool)
        if count == 0:  # image-only attention beside the joint one
            return found
        for row, words in enumerate((*self.words, self.interaction)):
            if beyond := [w for w in words if not 0 <= w < count]:
                said = label(self.entities, row) if row < len(self.entities) else "the interaction"
                raise ValueError(f"words={beyond} of {said} lie beyond the {count} text tokens of {layout.describe()}")
            found[row, list(words)] = True
        found[-1] = ~found[:-1].any(0)
        return found

    def _regions(self, image: Segment, *, whole: bool = False) -> list[Bool[Tensor, " i"]]:
        """Image tokens of each entity; in the first stage, unless `whole`, without those it keeps apart from."""
        assert image.grid is not None
        frames, *grid = image.grid
        placed = [on_tokens(entity.region, (grid[0], grid[1])) for entity in self.entities]
        cut = self.stage == 1 and not whole
        kept = [
            place & ~torch.stack([placed[j] for j in entity.apart]).any(0) if cut and entity.apart else place
            for place, entity in zip(placed, self.entities, strict=True)
        ]
        for number, (place, entity) in enumerate(zip(kept, self.entities, strict=True)):
            if not place.any():
                raise ValueError(_nowhere(label(self.entities, number), entity, cut and bool(placed[number].any())))
        return [place.flatten().repeat(frames) for place in kept]

    def _references(self, layout: Layout) -> list[str | None]:
        """Segment of each entity."""
        extra, named = [s.name for s in layout.of("extra")], [entity.reference for entity in self.entities]
        if not layout.text_n and not extra:  # image-only attention beside the joint one
            return [None] * len(named)
        if missing := [name for name in named if name is not None and name not in extra]:
            raise ValueError(f"reference='{missing[0]}' is no segment of {layout.describe()}; give as many pictures")
        if unnamed := [name for name in extra if name not in named]:
            raise ValueError(f"segment '{unnamed[0]}' is no entity's; name it as reference= of the one it shows")
        return named


def group_table(entities: int, stage: Stage, padding: Padding = "hub") -> Bool[Tensor, "g g"]:
    """Whose queries (rows) see whose keys, of all groups in order; those without tokens do not matter."""
    groups = [
        (kind, number if kind in OF_ENTITIES else None)
        for kind in KINDS
        for number in range(entities if kind in OF_ENTITIES else 1)
    ]
    table = [[_sees(a, b, stage, padding) for b in groups] for a in groups]
    return torch.tensor(table, dtype=torch.bool)


def label(entities: tuple[Entity, ...], number: int) -> str:
    """How an error calls an entity."""
    name = entities[number].name
    return f"entity {number}" + (f" ('{name}')" if name else "")


def _sees(a: tuple[str, int | None], b: tuple[str, int | None], stage: Stage, padding: Padding) -> bool:
    if padding == "isolated" and b[0] == "padding":
        return a[0] == "padding"
    verdict = VERDICTS[KINDS.index(a[0])][KINDS.index(b[0])]
    own = verdict in "=>" and a[1] == b[1]
    return own or verdict == "1" or (stage == 2 and verdict in "2>")


def _nowhere(said: str, entity: Entity, cut: bool) -> str:
    if cut:
        return f"{said} keeps nothing of its region apart from those of {list(entity.apart)}; make it reach beyond them"
    place = entity.region.corners if isinstance(entity.region, Box) else "its mask"
    return f"region={place} of {said} covers no image token by more than half; make it larger"
