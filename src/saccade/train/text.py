"""Stage two: teach the text encoders who has which colour, size and place, before any picture is drawn.

FLUX gives text tokens no positions, so the transformer cannot tell which colour stands beside which shape: T5 has to
bind them. Small heads, thrown away afterwards, read from T5 at each shape word what that one thing is like and how it
stands to the others, and from CLIP's pooled embedding what the whole picture is like. Captions of videos also say how
each thing moves, and how it stands to the other at the end.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.t5.modeling_t5 import T5EncoderModel
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

from saccade.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Prompt,
    VideoPrompt,
    describe,
    describe_video,
    sample,
    sample_video,
)
from saccade.models.scene_words import BEGIN, END, PAD, UNKNOWN, word_ids
from saccade.models.scenes_flux import pin_pads_
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.settings import flat

WIDTH = 25  # tokens of a caption in training: the longest, and at least one pad
_INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_THING = {"colour": len(COLOURS), "shape": len(SHAPES), "size": len(SIZES) + 1, "place": len(PLACES) + 1,
          "relation": len(RELATIONS) + 1, "order": 3, "background": len(BACKGROUNDS) + 1}  # fmt: skip
_MOVING_THING = {**_THING, "motion": len(MOTIONS), "end": len(RELATIONS) + 1}
_KINDS = len(COLOURS) * len(SHAPES)


@dataclass(frozen=True, kw_only=True)
class TextStage:
    fit: Fit = field(default_factory=lambda: Fit(minutes=3, optim=Optim(lr=2e-3), decay=0.99, log_every=50))
    batch: int = 128


class ThingHeads(nn.Module):
    """Linear heads that read, from the embeddings of shape words, each attribute of that thing, and its partners."""

    def __init__(self, width: int, attributes: Mapping[str, int]) -> None:
        super().__init__()
        self.things = nn.ModuleDict({name: nn.Linear(width, n) for name, n in attributes.items()})
        self.partners = nn.Linear(width, _KINDS)

    def forward(self, words: Float[Tensor, "b n c"], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        spoken = words[batch["rows"], batch["at"]]  # (things c)
        losses = {name: F.cross_entropy(head(spoken), batch[name]) for name, head in self.things.items()}
        losses["partners"] = _KINDS / 4 * F.binary_cross_entropy_with_logits(self.partners(spoken), batch["partners"])
        return losses


class TextLoss(nn.Module):
    """Both encoders of FLUX with their heads; returns the sum of the cross-entropies."""

    def __init__(self, t5: T5EncoderModel, clip: CLIPTextModel) -> None:
        super().__init__()
        self.t5, self.clip = t5, clip
        width = t5.config.d_model
        self.heads = ThingHeads(width, _THING)
        self.background = nn.Linear(width, len(BACKGROUNDS) + 1)
        self.kinds = nn.Linear(width, len(COLOURS) + len(SHAPES) + 3)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        pin_pads_(self.t5)
        losses = self.heads(self.t5(input_ids=batch["t5"]).last_hidden_state, batch)
        pooled = self.clip(input_ids=batch["clip"]).pooler_output  # (b c)
        losses["pooled"] = F.cross_entropy(self.background(pooled), batch["scene_background"])
        losses["pooled"] = losses["pooled"] + F.mse_loss(self.kinds(pooled), batch["counts"])
        return {"loss": sum(losses.values(), torch.zeros(())), **losses}


class VideoTextLoss(nn.Module):
    """The encoder of a video pipeline, which masks its pads, with its heads; returns the sum of the cross-entropies."""

    def __init__(self, encoder: UMT5EncoderModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = ThingHeads(encoder.config.d_model, _MOVING_THING)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = self.heads(embed(self.encoder, batch["t5"]), batch)
        return {"loss": sum(losses.values(), torch.zeros(())), **losses}


def embed(encoder: UMT5EncoderModel, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
    """Embeddings of captions as Wan's pipeline makes them: pads masked, and zeros in the end."""
    words = (ids != PAD).long()
    return encoder(input_ids=ids, attention_mask=words).last_hidden_state * words[..., None]


class TextTask:
    """A `Task`: read captions."""

    def __init__(self, t5: T5EncoderModel, clip: CLIPTextModel, stage: TextStage) -> None:
        self.module, self.stage = TextLoss(t5, clip), stage

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return targets([describe(sample(rng), rng) for _ in range(self.stage.batch)])

    def uses_muon(self, name: str) -> bool:
        return False

    def sheet(self) -> None:
        return None


class VideoTextTask:
    """A `Task`: read captions of videos."""

    def __init__(self, encoder: UMT5EncoderModel, stage: TextStage) -> None:
        self.module, self.stage = VideoTextLoss(encoder), stage

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        videos = [sample_video(rng, count=1 + i % 2) for i in range(self.stage.batch)]
        return video_targets([describe_video(video, rng) for video in videos])

    def uses_muon(self, name: str) -> bool:
        return False

    def sheet(self) -> None:
        return None


def t5_ids(texts: Sequence[str], width: int = WIDTH) -> Int[Tensor, "b n"]:
    """Tokens padded to `width`, as the pipeline's tokenizer gives them."""
    ids, rows = word_ids(), torch.full((len(texts), width), PAD)
    for row, text in zip(rows, texts, strict=True):
        words = [ids.get(word, UNKNOWN) for word in text.split()][:width]
        row[: len(words)] = torch.tensor(words, dtype=torch.long)
    return rows


def clip_ids(texts: Sequence[str], width: int = WIDTH + 1) -> Int[Tensor, "b n"]:
    """The same between begin and end."""
    rows = t5_ids(texts, width - 1)
    lengths = (rows != PAD).sum(1, keepdim=True)
    ends = torch.where(torch.arange(width - 1) == lengths, END, rows)
    return torch.cat((torch.full((len(texts), 1), BEGIN), ends), dim=1)


def targets(captions: Sequence[Prompt]) -> dict[str, Tensor]:
    """Tokens of captions with what the heads are to read from them."""
    rows, at, things, partners = [], [], [], []
    for row, prompt in enumerate(captions):
        spots = [i for i, word in enumerate(prompt.text.split()) if word in SHAPES]
        for i, spot in enumerate(spots):
            rows.append(row)
            at.append(spot)
            things.append(_thing(prompt, i))
            partners.append(_partners(prompt, i))
    texts = [prompt.text for prompt in captions]
    columns = zip(_THING, torch.tensor(things).T, strict=True)
    return {
        "t5": t5_ids(texts),
        "clip": clip_ids(texts),
        "rows": torch.tensor(rows),
        "at": torch.tensor(at),
        "partners": torch.tensor(partners, dtype=torch.float32),
        "scene_background": torch.tensor([_index(BACKGROUNDS, prompt.background) for prompt in captions]),
        "counts": torch.tensor([_counts(prompt) for prompt in captions], dtype=torch.float32),
        **dict(columns),
    }


def video_targets(captions: Sequence[VideoPrompt]) -> dict[str, Tensor]:
    """The same of captions of videos, at their start; and how each thing moves and stands to the other at the end."""
    ends = [_relation(caption.end, i) for caption in captions for i in range(len(caption.motions))]
    motions = [MOTIONS.index(motion) for caption in captions for motion in caption.motions]
    return targets([caption.start for caption in captions]) | {
        "motion": torch.tensor(motions),
        "end": torch.tensor(ends),
    }


def _relation(prompt: Prompt, i: int) -> int:
    """Class of the first relation that is said of thing `i`."""
    said = [name for j, name, _ in prompt.relations if j == i]
    said += [_INVERSE[name] for _, name, j in prompt.relations if j == i]
    return _index(RELATIONS, said[0] if said else None)


def _thing(prompt: Prompt, i: int) -> tuple[int, ...]:
    """Classes of thing `i`, in the order of `_THING`."""
    want = prompt.wants[i]
    return (
        _index(COLOURS, want.colour),
        _index(SHAPES, want.shape),
        _index(SIZES, want.size),
        _index(PLACES, want.place),
        _relation(prompt, i),
        i,
        _index(BACKGROUNDS, prompt.background),
    )


def _partners(prompt: Prompt, i: int) -> list[float]:
    """One for each (colour, shape) that thing `i` stands in a relation to."""
    others = {j for k, _, j in prompt.relations if k == i} | {k for k, _, j in prompt.relations if j == i}
    kinds = [_index(COLOURS, want.colour) * len(SHAPES) + _index(SHAPES, want.shape) for want in prompt.wants]
    return [float(kind in {kinds[j] for j in others}) for kind in range(_KINDS)]


def _counts(prompt: Prompt) -> list[float]:
    """How many things have each colour and each shape, and how many there are, one-hot."""
    colours = [sum(want.colour == name for want in prompt.wants) for name in COLOURS]
    shapes = [sum(want.shape == name for want in prompt.wants) for name in SHAPES]
    return [*colours, *shapes, *(float(len(prompt.wants) == n) for n in (1, 2, 3))]


def _index(names: Collection[str], name: str | None) -> int:
    """Position of a name; the number of names stands for none."""
    return len(names) if name is None else list(names).index(name)
