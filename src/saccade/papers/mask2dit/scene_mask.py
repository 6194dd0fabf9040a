"""Who sees whom between n scenes, as data: a label of modality and scene for each token, and a table of verdicts.

Joint attention has 2n labels, text_0 to text_{n-1}, then video_0 to video_{n-1}; cross-attention has n on either side.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saccade.core.features import Features
from saccade.core.layout import Layout, Segment
from saccade.core.masks import CoarseRule, Device, Mask, Rule, Table
from saccade.core.regions import Partition
from saccade.mechanisms.laid_out import LaidOut
from saccade.mechanisms.region_grid import RegionGrid

Along = Literal["frames", "rows", "columns"]
Kind = Literal["dual", "block_diagonal"]
AXES: dict[Along, int] = {"frames": 0, "rows": 1, "columns": 2}


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """How tokens are shared out among scenes.

    count        n; None for as many as the text holds captions of `text_tokens`
    text_tokens  of each caption, pads included; None for an n-th of the text
    along        the axis of the grid on which scenes follow one another
    """

    count: int | None = None
    text_tokens: int | None = 226
    along: Along = "frames"

    def number(self, text: int, video: Segment) -> int:
        """n for so many text tokens. Raises ValueError where text or grid are no n equal parts."""
        per = self.text_tokens
        if self.count is None:
            assert per is not None
            if text == 0 or text % per:
                raise ValueError(f"the text has {text} tokens, no multiple of text_tokens={per}; pad every caption")
            n = text // per
        else:
            n = self.count
            if text and (text != n * per if per is not None else text % n):
                wanted = f"{n} x text_tokens={per}" if per is not None else f"a multiple of scenes={n}"
                raise ValueError(f"the text has {text} tokens, not {wanted}; put one caption for each scene in a row")
        return self._checked(n, video)

    def of_video(self, n: int, video: Segment) -> Int[Tensor, " v"]:
        """The scene of each video token."""
        assert video.grid is not None
        axis, side = AXES[self.along], video.grid[AXES[self.along]]
        shape = [1, 1, 1]
        shape[axis] = side
        return (torch.arange(side) // (side // n)).reshape(shape).expand(video.grid).flatten()

    def _checked(self, n: int, video: Segment) -> int:
        assert video.grid is not None
        side = video.grid[AXES[self.along]]
        if side % n:
            mend = "give clips of one length" if self.along == "frames" else "choose another size"
            raise ValueError(
                f"the grid {video.grid} has {side} {self.along}, which are no {n} scenes of one length; {mend}"
            )
        return n


@dataclass(frozen=True, kw_only=True)
class SceneMask(LaidOut):
    """Joint attention: text sees itself and its scene's video, video sees its scene's text and all video.

    kind  "dual", the paper's; "block_diagonal": video sees its own scene alone
    """

    scenes: Scenes
    kind: Kind = "dual"

    def on(self, layout: Layout, device: Device) -> RegionGrid:
        """Raises ValueError for tokens that are no n scenes."""
        label, n = self.labels(layout)
        return RegionGrid(Partition(label.to(device), 2 * n), scene_table(n, self.kind).to(device)[None, None])

    def labels(self, layout: Layout) -> tuple[Int[Tensor, " t"], int]:
        """The number of each token's row in `scene_table`, and n."""
        check_kinds(layout)
        text = layout.text_n
        n = _counted(self.scenes, text, layout)
        parts, seen = [], 0
        for segment in layout.segments:
            if segment.kind == "text":
                parts.append((seen + torch.arange(segment.n)) // max(text // n, 1))
                seen += segment.n
            else:
                parts.append(n + self.scenes.of_video(n, segment))
        return torch.cat(parts), n


@dataclass(frozen=True, kw_only=True)
class CaptionMask(Mask):
    """Cross-attention: video sees the text of its own scene."""

    scenes: Scenes

    def between(self, layout_q: Layout, layout_k: Layout) -> Table:
        """Raises ValueError for tokens that are no n scenes."""
        video, text = layout_q.image, layout_k.text_n
        n = self.scenes.number(text, video)
        words = torch.arange(text) // max(text // n, 1)
        return Table(self.scenes.of_video(n, video), words, torch.eye(n, dtype=torch.bool))

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return self.between(layout_q, layout_k).rule(layout_q, layout_k, device)

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return self.between(layout_q, layout_k).coarse(layout_q, layout_k, device)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return self.between(layout_q, layout_k).features(layout_q, layout_k)


def scene_table(n: int, kind: Kind = "dual") -> Bool[Tensor, "r r"]:
    """Whose queries (rows) see whose keys: 2n labels, texts first."""
    scene, video = torch.arange(2 * n) % n, torch.arange(2 * n) >= n
    own = scene[:, None] == scene
    return own if kind == "block_diagonal" else own | (video[:, None] & video)


def count_scores(n: int, text: int, video: int) -> int:
    """Pairs of the dual mask: n L_T (L_T + L_V) + n L_V (L_T + n L_V), for captions and clips of so many tokens."""
    return n * text * (text + video) + n * video * (text + n * video)


def check_kinds(layout: Layout) -> None:
    """Raise ValueError for tokens that are neither text nor video."""
    if other := [s.name for s in layout.segments if s.kind not in ("text", "image")]:
        raise ValueError(f"segments {other} of {layout.describe()} belong to no scene; run without them")


def _counted(scenes: Scenes, text: int, layout: Layout) -> int:
    """n of a joint layout; where there is no text beside the video, it must be said."""
    if text == 0 and scenes.count is None:
        raise ValueError(f"scenes=None needs text beside the video, not {layout.describe()}; give scenes=")
    return scenes.number(text, layout.image)
