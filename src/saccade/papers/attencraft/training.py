"""AttenCraft's training: what a step computes, and what it draws.

    L = L_rec + lambda_prior L_prior + lambda_attn L_attn

The prompt of a step names some of the concepts; L_rec counts within their masks, L_attn compares where their words, and
the background's, look with the masks. Masks are made once, before the first step, and now and then made anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.mechanisms.attention_maps import RecordedMaps, recorded
from saccade.papers.attencraft.concepts import Prompts
from saccade.papers.attencraft.hosts import Host
from saccade.papers.attencraft.losses import (
    INSTANCE_WEIGHT,
    Compat,
    attn_jsd_loss,
    reconstruction_loss,
    spatial_weight,
    validity,
)
from saccade.papers.attencraft.maps import columns, extract_maps, minmax, resized
from saccade.papers.attencraft.masks import MaskRefresher, first_masks
from saccade.papers.attencraft.subsets import SubsetSampler
from saccade.papers.attencraft.system import Learner
from saccade.papers.attencraft.tokens import NewTokens

MEMORY = 0.9  # share of the old in the running mean of a concept's attention
BATCH = ("latents", "noise", "t")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of the losses; `masked`: the reconstruction counts within the masks alone.

    ring                 latents along the border that never count
    official_broadcast   half of the reconstruction ignores the masks, as the released code has it
    """

    instance: float = INSTANCE_WEIGHT
    prior: float = 1.0
    attention: float = 1.0
    masked: bool = True
    ring: int = 1
    official_broadcast: bool = False


class CustomisationLoss(nn.Module):
    """The losses of a batch; `learner` must be attached to the host's model meanwhile, as `run`.

    Its weights are those that are trained; masks, steps done and the concepts' attention are kept with them.
    """

    masks: Tensor
    step: Tensor
    attention: Tensor

    def __init__(
        self,
        host: Host,
        prompts: Prompts,
        learner: Learner,
        tokens: NewTokens,
        *,
        weights: Weights,
        theta: float,
        refresher: MaskRefresher,
        prior: str = "",
        compat: Compat | None = None,
    ) -> None:
        super().__init__()
        self.terms, self.tokens = learner.terms, tokens
        self.weights, self.theta, self.refresher, self.prior = weights, theta, refresher, prior
        self.compat: Compat | None = compat
        self._frozen = host, prompts, learner  # a tuple: no submodules
        self.run: Any = None
        self.needs_maps = weights.masked or weights.attention > 0
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("attention", torch.zeros(len(prompts.concepts)))
        self.register_buffer("masks", torch.zeros(0, 0, 0, dtype=torch.bool))

    @property
    def everything(self) -> tuple[int, ...]:
        """All concepts, in order."""
        return tuple(range(len(self._frozen[1].concepts)))

    @torch.no_grad()
    def begin(self, batch: Mapping[str, Tensor]) -> None:
        """Make the first masks from a forward of the picture, all concepts named.

        Raises ValueError where two masks are one word's, StateError where no site has the grids asked for.
        """
        prompts = self._frozen[1]
        if self.needs_maps:
            rows = {name: batch[name].to(self._frozen[0].model.device) for name in BATCH}
            _, _, maps = self._predict(self.everything, rows, rows["latents"].shape[0], image=True)
            assert maps is not None
            names = [*(concept.token for concept in prompts.concepts), "background"]
            self.masks = first_masks(self._spread(maps), self.theta, names).to(self.step.device)
            self._attend(maps, 1.0)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses by name; `subset` of a batch are the concepts its prompt names."""
        chosen, rows, step = tuple(batch["subset"].tolist()), len(batch["latents"]), int(self.step)
        together = {name: torch.cat([batch[name], *_prior(batch, name)]) for name in BATCH}
        image = self.needs_maps and chosen == self.everything and self.refresher.due(step)
        predicted, target, maps = self._predict(chosen, together, rows, image=image)
        losses = self._losses(predicted, target, maps, chosen, rows)
        if image and maps is not None:
            self._refresh(maps, step)
        self.step += 1
        total = losses["reconstruction"] + self.weights.prior * losses.get("prior", 0.0)
        return {"loss": total + self.weights.attention * losses.get("attention", 0.0), **losses}

    def _predict(
        self, chosen: Sequence[int], batch: Mapping[str, Tensor], rows: int, *, image: bool
    ) -> tuple[Tensor, Tensor, RecordedMaps | None]:
        """(prediction, target, maps of the picture's rows)."""
        host, prompts, learner = self._frozen
        learner.recorder, others = None, len(batch["t"]) - rows
        if self.needs_maps:
            every = (*prompts.bare(chosen), *prompts.described(chosen))
            learner.record((token for tokens in every for token in tokens), rows, image=image)
        with self.tokens.in_place():
            text = host.encode([prompts.text(chosen)] * rows + [self.prior] * others)
        predicted, target = host.predict(batch["latents"], batch["noise"], batch["t"], text)
        maps = None if learner.recorder is None else recorded(self.run.state.forward[learner.name], learner.recorder)
        return predicted, target, maps

    def _losses(
        self, predicted: Tensor, target: Tensor, maps: RecordedMaps | None, chosen: tuple[int, ...], rows: int
    ) -> dict[str, Tensor]:
        said, size = self.weights, self._frozen[0].size
        weight = torch.ones(size)
        if said.masked:
            weight = spatial_weight(self.masks[list(chosen)], size, self.compat)
        losses = {
            "reconstruction": reconstruction_loss(
                predicted[:rows], target[:rows], weight.to(predicted), validity(size, said.ring).to(predicted),
                instance_weight=said.instance, official_broadcast=said.official_broadcast,
            )
        }  # fmt: skip
        if len(predicted) > rows:
            losses["prior"] = (predicted[rows:] - target[rows:]).square().mean()
        if maps is not None and said.attention > 0:
            losses["attention"] = attn_jsd_loss(self._columns(maps, chosen), self.masks[[*chosen, -1]])
        return losses

    def _columns(self, maps: RecordedMaps, chosen: Sequence[int]) -> Float[Tensor, "b k h w"]:
        raw = columns(maps, self._frozen[1].bare(chosen))
        return minmax(resized(raw, (self.masks.shape[1], self.masks.shape[2])))

    def _spread(self, maps: RecordedMaps) -> Float[Tensor, "k h w"]:
        return extract_maps(maps.mean(), self._frozen[1].described(self.everything))[0]

    def _refresh(self, maps: RecordedMaps, step: int) -> None:
        self.masks = self.refresher.refresh(step, self.masks, self._spread(maps), self.theta)
        self._attend(maps, 1 - MEMORY)

    @torch.no_grad()
    def _attend(self, maps: RecordedMaps, share: float) -> None:
        """The running mean of each concept's attention within its own mask."""
        raw = columns(maps.mean(), self._frozen[1].bare(self.everything))[:, :-1]
        inside = self.masks[:-1].to(raw.device)
        found = (resized(raw, (inside.shape[1], inside.shape[2]))[0] * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(1)
        self.attention = self.attention.lerp(found.to(self.attention), share)


class CustomisationTask:
    """A `Task`: a picture's latents, its concepts' prompts, and pictures the model made before.

    latents   (1 c h w) of the picture, `rows` times in a batch
    prior     (p c h w) of what the model made, as many in a batch; None for none
    early     the share of all times at which the first masks are made
    settings  what decides the result
    """

    shared = ("subset",)

    def __init__(
        self,
        module: CustomisationLoss,
        sampler: SubsetSampler,
        latents: Float[Tensor, "1 c h w"],
        prior: Float[Tensor, "p c h w"] | None,
        settings: Mapping[str, Any],
        *,
        rows: int = 1,
        early: float = 0.3,
    ) -> None:
        self.module, self.sampler, self.settings = module, sampler, settings
        self.latents, self.prior, self.rows, self.early = latents, prior, rows, early

    def first(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """The batch of the first masks."""
        return _noised(self.latents.expand(self.rows, -1, -1, -1), rng, self.early)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """A step's batch."""
        known = self.module.attention.tolist() if self.module.needs_maps else ()
        scores = known if len(known) and min(known) > 0 else ()
        found = _noised(self.latents.expand(self.rows, -1, -1, -1), rng, 1.0)
        found["subset"] = torch.tensor(self.sampler.draw(rng, int(self.module.step), scores))
        if self.prior is not None:
            own = self.prior[rng.integers(len(self.prior), size=self.rows)]
            found |= {f"prior_{name}": value for name, value in _noised(own, rng, 1.0).items()}
        return found

    def uses_muon(self, name: str) -> bool:
        return False

    def sheet(self) -> None:
        return None


def _noised(latents: Tensor, rng: np.random.Generator, up_to: float) -> dict[str, Tensor]:
    noise = torch.from_numpy(rng.standard_normal(tuple(latents.shape), dtype=np.float32))
    times = torch.from_numpy(rng.random(len(latents), dtype=np.float32)) * up_to
    return {"latents": latents.float(), "noise": noise, "t": times}


def _prior(batch: Mapping[str, Tensor], name: str) -> tuple[Tensor, ...]:
    return (batch[f"prior_{name}"],) if f"prior_{name}" in batch else ()
