"""Learn the concepts of one picture: `customise(pipe, picture, concepts, folder=...)`, in the order things are done."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saccade.attach import attach
from saccade.data.rgb import as_picture
from saccade.papers.attencraft.concept_file import Learned, read_concepts
from saccade.papers.attencraft.concepts import JOINT, TEMPLATE, Concept, Prompts
from saccade.papers.attencraft.fresh_terms import fresh_terms
from saccade.papers.attencraft.hosts import open_host
from saccade.papers.attencraft.losses import Compat, check_compat, validity
from saccade.papers.attencraft.masks import THETA, MaskRefresher
from saccade.papers.attencraft.prior import PriorPictures, prior_latents
from saccade.papers.attencraft.subsets import Scheme, SubsetSampler
from saccade.papers.attencraft.system import ALL_SITES, AttenCraft, Learner
from saccade.papers.attencraft.tokens import add_tokens, check_concepts
from saccade.papers.attencraft.training import CustomisationLoss, CustomisationTask, Weights
from saccade.train.checkpoint import trained
from saccade.train.loop import Fit, finished, fit
from saccade.train.optimisers import Optim
from saccade.train.settings import check_run, flat

TRAINING = "train"  # its folder, within the one of a run
CONSTANT = Optim(
    kind="adamw", lr=1e-4, betas=(0.9, 0.999), weight_decay=0, warmup=0, cooldown=0, clip=1.0
)  # 5e-5 times two rows


@dataclass(frozen=True, kw_only=True)
class Customisation:
    """How concepts are learned; the defaults are the paper's.

    rank        of the terms beside the projections of text; None for any change of the whole matrices
    theta       by how much the map of a class must exceed all others
    early       the first masks are made at a time below this share of all
    scheme      which concepts the prompts name: "uniform", "reweighted" or "full"
    every       steps from one refresh of the masks to the next; `ssim` is the gate
    batch       rows of the picture, and as many of the prior
    weights     of the losses; attention=0 and masked=False switch the parts off
    text_tokens to which prompts are padded; None for the pipeline's own
    background  words of the template that stand for the background; "" for the start of the text, or where the
                tokenizer marks none, for its end
    compat      "official" for the released code's wrong row, masks that overshoot, and its broadcast
    Raises ValueError for options out of range.
    """

    fit: Fit = field(
        default_factory=lambda: Fit(steps=500, precision="no", decay=0, save_every=50, log_every=10, optim=CONSTANT)
    )
    rank: int | None = None
    theta: float = THETA
    early: float = 0.3
    scheme: Scheme = "uniform"
    every: int = 20
    ssim: float = 0.8
    batch: int = 1
    weights: Weights = Weights()
    prior: PriorPictures = PriorPictures()
    text_tokens: int | None = None
    background: str = ""
    compat: Compat | None = None

    def __post_init__(self) -> None:
        check_compat(self.compat)
        _ = MaskRefresher(every=self.every, ssim=self.ssim), SubsetSampler(subjects=1, scheme=self.scheme)
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank={self.rank} must be at least 1, or None for whole matrices")
        if not 0 <= self.theta:
            raise ValueError(f"theta={self.theta} must be 0 or more, a difference of maps in [0, 1]")
        if not 0 < self.early <= 1:
            raise ValueError(f"early={self.early} must be in (0, 1], a share of all times")
        if self.batch < 1:
            raise ValueError(f"batch={self.batch} must be at least 1 row of the picture")
        if self.fit.accumulate != 1:
            raise ValueError(f"fit.accumulate={self.fit.accumulate} cuts a batch of one prompt; leave it at 1")


def customise(
    pipe: Any,
    picture: Image.Image | np.ndarray,
    concepts: Sequence[Concept],
    *,
    folder: Path,
    template: str = TEMPLATE,
    joint: str = JOINT,
    options: Customisation = Customisation(),  # noqa: B008
) -> AttenCraft:
    """Learn the concepts, or go on where a killed run stopped; the pipeline knows their words afterwards.

    picture   that shows them all, of a size the pipeline draws: PIL, or (h w 3) of bytes or floats in [0, 1]
    template  of the prompts, with {} where the concepts come, `joint` between them
    Writes checkpoints, losses and `concepts.safetensors` into `folder`. Returns what attaches.
    Raises ValueError for whatever cannot be learned, before anything is trained.
    """
    made = Customiser(pipe, picture, concepts, folder=folder, template=template, joint=joint, options=options)
    made.train()
    made.learned().save(folder)
    return made.system()


def load_concepts(pipe: Any, learned: str | Path) -> AttenCraft:
    """Give a pipeline the words of a file or folder; returns what attaches.

    Raises ValueError for a file of another kind, for words the pipeline has, and for rows that do not fit its encoders.
    """
    found = read_concepts(learned)
    check_concepts(pipe, found.concepts)
    for suffix, rows in found.rows.items():
        encoder = getattr(pipe, f"text_encoder{suffix}", None)
        width = None if encoder is None else encoder.get_input_embeddings().weight.shape[1]
        if width != rows.shape[1]:
            raise ValueError(
                f"learned='{learned}' has rows of {rows.shape[1]} numbers for text_encoder{suffix}, which takes "
                f"{width}; give the pipeline they were learned on"
            )
    tokens = add_tokens(pipe, found.concepts)
    tokens.take_(found.rows)
    tokens.write_()
    return AttenCraft(learned=found.terms)


class Customiser:
    """One customisation: everything is checked when it is made."""

    def __init__(
        self,
        pipe: Any,
        picture: Image.Image | np.ndarray,
        concepts: Sequence[Concept],
        *,
        folder: Path,
        template: str = TEMPLATE,
        joint: str = JOINT,
        options: Customisation = Customisation(),  # noqa: B008
    ) -> None:
        self.pipe, self.folder, self.options, self.concepts = pipe, folder, options, tuple(concepts)
        pixels = as_picture(picture)
        self.host = open_host(pipe, pixels.shape[1], pixels.shape[2], options.text_tokens)
        check_concepts(pipe, self.concepts)
        _ = validity(self.host.size, options.weights.ring)
        self.settings = {
            **flat(options), "template": template, "joint": joint, "picture": sha256(pixels.tobytes()).hexdigest()[:12],
            "concepts": [f"{concept.token}:{concept.word}:{concept.phrase}" for concept in self.concepts],
        }  # fmt: skip
        self.prompts = Prompts(
            pipe=pipe, concepts=self.concepts, template=template, joint=joint, length=options.text_tokens,
            background=options.background, masks_pads=self.host.masks_pads,
        )  # fmt: skip
        everything = range(len(self.concepts))
        for chosen in (*([i] for i in everything), everything):
            _ = self.prompts.described(chosen)  # raises where a word is not read
        check_run(folder / TRAINING, self.settings)
        self.latents = self.host.latents(pixels)
        self.tokens = add_tokens(pipe, self.concepts, options.compat)
        self.host.model.requires_grad_(False)
        self.learner = Learner(
            terms=fresh_terms(self.host, options.rank, options.fit.seed),
            start=self.prompts.start, grids=self.host.grids,
        )  # fmt: skip
        self.module = self._module()

    def train(self) -> None:
        """Make the first masks and train, or go on; a finished training is read."""
        stage, folder = self.options.fit, self.folder / TRAINING
        prior = prior_latents(self.host, self.options.prior, self.folder / "prior", stage.seed)
        said = self.options
        sampler = SubsetSampler(subjects=len(self.concepts), scheme=said.scheme, every=said.every)
        task = CustomisationTask(
            self.module, sampler, self.latents, prior, self.settings, rows=said.batch, early=said.early,
        )  # fmt: skip
        with attach(self.host.model, self.learner, where=ALL_SITES) as run:
            self.module.run = run
            self.module.begin(task.first(np.random.default_rng([stage.seed, 0, 1])))
            if finished(stage, folder):
                self.module.load_state_dict(trained(folder))
            else:
                fit(task, stage, folder, settings=self.settings)
        self.tokens.write_()

    def learned(self) -> Learned:
        """What is trained, as it is now."""
        rows = {suffix: self.tokens.rows_of(suffix).detach() for suffix in self.tokens.ids}
        said = {"model": type(self.pipe).__name__, "template": self.prompts.template, "joint": self.prompts.joint}
        return Learned(terms=self.learner.terms, rows=rows, concepts=self.concepts, said=said)

    def system(self) -> AttenCraft:
        """What attaches to the pipeline."""
        return AttenCraft(learned=self.learner.terms.requires_grad_(False))

    def _module(self) -> CustomisationLoss:
        said = self.options
        weights = said.weights if said.compat is None else _released(said.weights)
        return CustomisationLoss(
            self.host, self.prompts, self.learner, self.tokens, weights=weights, theta=said.theta,
            refresher=MaskRefresher(every=said.every, ssim=said.ssim), prior=said.prior.prompt, compat=said.compat,
        )  # fmt: skip


def _released(weights: Weights) -> Weights:
    return replace(weights, official_broadcast=True)
