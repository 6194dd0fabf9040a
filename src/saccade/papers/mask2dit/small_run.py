"""Small models of two scenes, trained under a mask, and what the pixels of their clips show."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attach import attach
from saccade.data.scenes import BACKGROUNDS, COLOURS
from saccade.experiments import Row
from saccade.papers.mask2dit.captions import in_a_row
from saccade.papers.mask2dit.recipe import SmallScenes
from saccade.papers.mask2dit.sampling import Words, extend, sample_scenes
from saccade.papers.mask2dit.stories import Stories, caption, embed_words
from saccade.papers.mask2dit.system import Seen
from saccade.papers.mask2dit.training import SceneStage, SceneTask
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

PIXELS = 6  # of each frame, those farthest from the background: a thing's
FAR = 60.0  # in RGB: what differs less from the background is nothing
POOL, HELD_OUT = 1000, 2000  # seeds of stories


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One model: its mask, its training, and how many stories it is asked for in `sample_steps` steps."""

    seed: int
    mask: Seen
    model: SmallScenes
    steps: int
    stories: int
    asked: int
    sample_steps: int

    def rows(self, work: Path) -> Iterator[Row]:
        """Of scenes sampled at once; under the dual mask, of scenes that follow a clip that is there, too."""
        pipe = self._fitted(work)
        held = self.model.stories(self.asked, shots=self.model.scenes, seed=HELD_OUT + self.seed)
        words, options = self._words(held), self.model.sampling(steps=self.sample_steps, mask=self.mask, seed=self.seed)
        yield from self._told("scenes", self.mask, seen(sample_scenes(pipe, words, options), held, self.model))
        if self.mask != "dual":
            return
        there = held.pixels[:, :-1].flatten(1, 2)
        for segmented in (True, False):
            found = extend(pipe, there, words, replace(options, segmented=segmented))
            arm = "time 0" if segmented else "one time"
            yield from self._told("extension", arm, seen(found, held, self.model, last=True))

    def _told(self, table: str, arm: str, rows: list[Row]) -> Iterator[Row]:
        for number, row in enumerate(rows):
            yield {"table": table, "arm": arm, "story": self.seed * self.asked + number, **row}

    def _fitted(self, work: Path) -> Any:
        torch.manual_seed(self.seed)
        pipe = self.model.pipeline()
        loss = self.model.loss(pipe)
        length = Fit(
            steps=self.steps, seed=self.seed, precision="no", decay=0.98, save_every=10**6, sheet_every=10**6,
            optim=Optim(lr=2e-3, muon_lr=6e-3),
        )  # fmt: skip
        pool = self.model.stories(self.stories, shots=3, seed=POOL + self.seed)
        task = SceneTask(loss, pool, SceneStage(fit=length), text_tokens=self.model.text_tokens)
        with attach(pipe.transformer, self.model.system(self.mask)):
            fit(task, length, work / f"{self.mask}-{self.seed}", cpu=True)
        loss.known.undo()
        return pipe

    def _words(self, held: Stories) -> Words:
        texts = [caption(shot) for shots in held.shots for shot in shots]
        captions = in_a_row(embed_words(texts, self.model.text_tokens), self.model.scenes)
        return Words(captions=captions, negative=None, scenes=self.model.scenes)


def seen(found: Float[Tensor, "s f c h w"], held: Stories, model: SmallScenes, *, last: bool = False) -> list[Row]:
    """What the clips of each story show; with `last` of the last clip, the others being given.

    background  share of clips that show their own caption's;   leak  another caption's
    same        1 where the first and the last clip show a thing, of one colour
    apart       how far the colours of their things lie, 1 from black to white
    """
    rows: list[Row] = []
    clips = found.unflatten(1, (model.scenes, model.frames))
    for shots, each in zip(held.shots, clips, strict=True):
        asked, read = [shot.scene.background for shot in shots], [look(clip) for clip in each]
        scenes = [model.scenes - 1] if last else [*range(model.scenes)]
        others = [{*asked} - {asked[i]} for i in scenes]
        (_, first, _), (_, end, _) = shades_of(each[0]), shades_of(each[-1])
        rows.append({
            "background": float(np.mean([read[i][0] == asked[i] for i in scenes])),
            "leak": float(np.mean([read[i][0] in other for i, other in zip(scenes, others, strict=True)])),
            "same": float(read[0][1] is not None and read[0][1] == read[-1][1]),
            "apart": float((first - end).norm()) / (255 * 3**0.5),
        })  # fmt: skip
    return rows


def look(clip: Float[Tensor, "f c h w"]) -> tuple[str, str | None]:
    """Background and colour of the thing of a clip in [-1, 1]; None where nothing stands out."""
    ground, thing, distance = shades_of(clip)
    return _nearest(ground, BACKGROUNDS), _nearest(thing, COLOURS) if distance > FAR else None


def shades_of(clip: Float[Tensor, "f c h w"]) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"], float]:
    """The background, median of the border; the thing, median of the pixels farthest from it; and how far they are."""
    rgb = ((clip.clamp(-1, 1) + 1) * 127.5).movedim(1, -1).double()
    border = torch.cat((rgb[:, 0], rgb[:, -1], rgb[:, :, 0], rgb[:, :, -1]), dim=1).flatten(0, 1)
    ground, pixels = border.median(0).values, rgb.flatten(1, 2)
    values, places = (pixels - ground).norm(dim=-1).topk(PIXELS, dim=1)
    thing = torch.gather(pixels, 1, places[..., None].expand(-1, -1, 3)).flatten(0, 1).median(0).values
    return ground, thing, float(values.mean())


def _nearest(rgb: Float[Tensor, "3"], known: dict[str, tuple[int, int, int]]) -> str:
    return min(known, key=lambda name: float((rgb - torch.tensor(known[name]).double()).norm()))
