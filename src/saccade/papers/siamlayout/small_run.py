"""Adapters of each variant trained on the bundled model with rendered scenes, and what held-out pictures show."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saccade.attach import attach
from saccade.data import scenes
from saccade.experiments import Row
from saccade.papers.siamlayout.adapter import LayoutAdapter
from saccade.papers.siamlayout.config import Variant
from saccade.papers.siamlayout.encoding import encode_layout
from saccade.papers.siamlayout.scenes import ENCODING, SIDE, TEXT, BoxedScenes, boxed_scenes, read_layout
from saccade.papers.siamlayout.system import SiamLayout
from saccade.papers.siamlayout.training import LayoutStage, train_adapter
from saccade.pipelines.loading import load_pipeline
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.train.loop import Fit

BASE = "no layout"
ARMS: dict[str, Variant] = {"siamese": "siamese", "m3": "m3", "adapter": "adapter"}
ASKED = 5000  # seed of the held-out scenes, and of their noise
SHOWN = 4  # pictures of which the things that were read are kept


@dataclass(frozen=True, kw_only=True)
class SmallRun:
    """What is trained and asked; captions say no places.

    steps      of training, each on `batch` of `pool` scenes of two things
    pictures   held-out scenes of two things, drawn in `sampling` steps
    fractions  shares of the steps in which the layout acts, for the siamese adapter
    """

    model: str = "scenes-flux"
    steps: int = 200
    batch: int = 8
    pool: int = 512
    pictures: int = 32
    sampling: int = 10
    fractions: tuple[float, ...] = (0.1, 0.3, 0.6, 1.0)

    def rows(self, seed: int, work: Path) -> Iterator[Row]:
        """Of all arms, by table."""
        pipe, asked = load_pipeline(self.model), self.asked()
        yield from self._told(pipe, asked, BASE, None)
        data = boxed_scenes(self.pool, seed=seed, things=(2,), places=False).examples(pipe)
        for arm, variant in ARMS.items():
            folder = work / f"{arm}-{seed}"
            adapter = train_adapter(pipe, data, self.stage(seed), folder, variant=variant, cpu=True)
            system = self.system(pipe, adapter, asked)
            yield from self._told(pipe, asked, arm, system)
            for until in self.fractions if variant == "siamese" else ():
                for row in self._told(pipe, asked, f"{until:g}", replace(system, until=until)):
                    yield row | {"table": "fractions", "until": until}

    def asked(self) -> BoxedScenes:
        """What is to be drawn."""
        return boxed_scenes(self.pictures, seed=ASKED, things=(2,), split="held-out", places=False)

    def stage(self, seed: int) -> LayoutStage:
        """Of training."""
        usual = LayoutStage()
        length = Fit(**{**vars(usual.fit), "steps": self.steps, "seed": seed, "save_every": 50, "decay": 0.95})
        return replace(usual, batch=self.batch, fit=length)

    def system(self, pipe: Any, adapter: LayoutAdapter, asked: BoxedScenes) -> SiamLayout:
        """The layouts of what is asked, in all steps."""
        return SiamLayout(adapter=adapter, layout=encode_layout(pipe, asked.layouts, **ENCODING), until=1.0)

    def _told(self, pipe: Any, asked: BoxedScenes, arm: str, system: SiamLayout | None) -> Iterator[Row]:
        drawn = draw(pipe, asked.captions, system, steps=self.sampling)
        for number, (picture, scene) in enumerate(zip(drawn, asked.scenes, strict=True)):
            seen = scenes.parse(picture)
            shown = {"seen": _things(seen.things), "asked": _things(scene.things)} if number < SHOWN else {}
            yield {"table": "arms", "arm": arm, "picture": number, **asdict(read_layout(seen, scene)), **shown}


def draw(pipe: Any, captions: Sequence[str], system: SiamLayout | None, *, steps: int, seed: int = ASKED) -> np.ndarray:
    """A picture of each caption; the i-th noise is drawn from `seed + i`."""
    noise = [torch.Generator().manual_seed(seed + i) for i in range(len(captions))]
    with no_progress_bar(pipe), attach(pipe, *(() if system is None else (system,))):
        made = pipe(
            list(captions), height=SIDE, width=SIDE, num_inference_steps=steps, max_sequence_length=TEXT,
            generator=noise, output_type="np",
        )  # fmt: skip
    return np.asarray(made.images)


def _things(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"colour": each.colour, "box": [round(float(x), 3) for x in each.box]} for each in found]


QUICK = SmallRun(steps=2, batch=2, pool=4, pictures=2, sampling=2, fractions=(0.3, 1.0))
