"""Adapters of each variant trained on the bundled model with rendered scenes, and what held-out pictures show."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.core.site import EVERYWHERE
from saccade.data import scenes
from saccade.experiments import Row
from saccade.papers.siamlayout.adapter import LayoutAdapter
from saccade.papers.siamlayout.config import Variant
from saccade.papers.siamlayout.encoding import encode_layout
from saccade.papers.siamlayout.examples import Examples
from saccade.papers.siamlayout.scenes import ENCODING, SIDE, TEXT, BoxedScenes, boxed_scenes, read_layout
from saccade.papers.siamlayout.stream import LayoutStream
from saccade.papers.siamlayout.system import SiamLayout
from saccade.papers.siamlayout.training import LayoutStage, train_adapter
from saccade.pipelines.loading import load_pipeline
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.systems.word_map import WordMap
from saccade.train.loop import Fit

BASE = "no layout"
ARMS: dict[str, Variant] = {"siamese": "siamese", "m3": "m3", "adapter": "adapter"}
ASKED = 5000  # seed of the held-out scenes, and of their noise
EARLY = 0.9  # time at which attention is looked at
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
        for arm, variant in ARMS.items():
            system = self.system(pipe, self.adapter(pipe, seed, arm, work), asked)
            yield from self._told(pipe, asked, arm, system)
            for until in self.fractions if variant == "siamese" else ():
                for row in self._told(pipe, asked, f"{until:g}", replace(system, until=until)):
                    yield row | {"table": "fractions", "until": until}

    def shares(self, seed: int, work: Path) -> Iterator[Row]:
        """What image tokens pay to text and layout under one softmax, and to text beside a layout of its own.

        work  where `rows` has trained
        """
        pipe, asked = load_pipeline(self.model), self.asked()
        for arm in ("siamese", "m3"):
            adapter = self.adapter(pipe, seed, arm, work)
            for number, (text, layout) in enumerate(paid(pipe, adapter, asked.examples(pipe))):
                yield {"arm": arm, "picture": number, "text": text, "layout": layout}

    def adapter(self, pipe: Any, seed: int, arm: str, work: Path) -> LayoutAdapter:
        """Of an arm, trained or taken from the folder."""
        data = boxed_scenes(self.pool, seed=seed, things=(2,), places=False).examples(pipe)
        folder = work / f"{arm}-{seed}"
        return train_adapter(pipe, data, self.stage(seed), folder, variant=ARMS[arm], cpu=True)

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


@torch.no_grad()
def paid(pipe: Any, adapter: LayoutAdapter, known: Examples) -> Iterator[tuple[float, float]]:
    """Shares of the image's attention to text and to layout in the host's own calls, mean of sites, by picture."""
    count, words = len(known), known.texts["encoder_hidden_states"].shape[1]
    more = known.layout.text.shape[1] * known.layout.text.shape[2] if adapter.config.variant == "m3" else 0
    rng, t = torch.Generator().manual_seed(ASKED), torch.full((count,), EARLY)
    noise = torch.randn(known.latents.shape, generator=rng)
    texts = {name: value[1:] for name, value in known.texts.items()}
    side = round(known.latents.shape[1] ** 0.5)
    tokens = Layout.joint(text=words + more, grid=(1, side, side))
    watched = {"text": tuple(range(words)), **({"layout": tuple(range(words, words + more))} if more else {})}
    given = dict(hidden_states=(1 - EARLY) * known.latents + EARLY * noise, timestep=t, **texts, **known.shared)
    with (
        LayoutStream(pipe.transformer, adapter) as stream, stream.holding(known.layout),
        attach(pipe.transformer, seen := WordMap(tokens=watched, where=EVERYWHERE), layout=tokens) as run,
    ):  # fmt: skip
        pipe.transformer(**given, return_dict=False)
        heat = {name: value.flatten(1).mean(1).tolist() for name, value in seen.heat(run.state).items()}
    yield from zip(heat["text"], heat.get("layout", [0.0] * count), strict=True)


def _things(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"colour": each.colour, "box": [round(float(x), 3) for x in each.box]} for each in found]


QUICK = SmallRun(steps=2, batch=2, pool=4, pictures=2, sampling=2, fractions=(0.3, 1.0))
