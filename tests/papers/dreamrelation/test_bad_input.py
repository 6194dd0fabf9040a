"""Whatever cannot be learned or drawn is an error that says what to give instead."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.attach import attach
from saccade.core.errors import SelectorError
from saccade.core.site import at
from saccade.papers.dreamrelation import (
    Contrast,
    DreamRelation,
    Placement,
    RelationalContrast,
    RelationLora,
    RelationSwitch,
    contrastive_loss,
    latent_masks,
    masked_reconstruction,
    read_frames,
    subject_masks,
    subspace_similarity,
)
from saccade.papers.dreamrelation.clips import RelationClips, encode_clips, read_clips
from saccade.papers.dreamrelation.contrast import FifoBank
from saccade.papers.dreamrelation.losses import dynamics
from saccade.papers.dreamrelation.training import LossWeights, RelationStage
from saccade.papers.dreamrelation.tuning import RelationTuning
from tests.papers.dreamrelation.test_masks import BLUE, GREEN, RED, coloured
from tests.papers.dreamrelation.test_training import STAGE, clips, drawn, loss
from tests.papers.dreamrelation.tiny import build, learned

pytestmark = [pytest.mark.host, pytest.mark.bad_input]
X = torch.zeros(2, 1, 3)


def strange() -> np.ndarray:
    """A third colour from frame 2 on."""
    return np.concatenate((coloured(2, RED, GREEN), coloured(1, RED, BLUE)))


CASES: list[tuple[Callable[[], Any], str]] = [
    (lambda: latent_masks(torch.zeros(12, 2, 16, 16)), r"12 frames must be 1 above a multiple of 6, .*; take 7"),
    (lambda: latent_masks(torch.zeros(13, 2, 18, 30)), r"18 x 30 pixels are no multiples of 8; give size="),
    (lambda: latent_masks(torch.zeros(1, 2, 8, 8), (0, 2)), r"size=\(0, 2\) must be at least one latent"),
    (lambda: subject_masks(coloured(12, RED), frames=13), r"12 mask frames do not cover frames=13 of the video from"),
    (lambda: subject_masks(coloured(13, RED), frames=13, offset=1), "13 mask frames do not cover frames=13"),
    (lambda: subject_masks(coloured(2, RED, GREEN, BLUE)), "shows 3 subjects by colour; there must be 1 or 2"),
    (lambda: subject_masks(coloured(2)), "shows 0 subjects by colour"),
    (lambda: subject_masks(strange()), r"frame 2 of the masks has the colour \(0, 0, 200\), which the first, with"),
    (lambda: Placement(relation="qx"), "relation='qx' must be letters of 'qkv'"),
    (lambda: Placement(subject="vv"), "subject='vv' must be letters of 'qkv', each once"),
    (lambda: Placement(relation=""), "relation='' leaves nothing to learn the relation"),
    (lambda: RelationLora.fresh(build("wan")[0], rank=0), "rank=0 must be at least 1, the channels between A and B"),
    (lambda: RelationLora({}, rank=1), r"sets=\[\] must name one beside 'output'"),
    (lambda: RelationalContrast(1, 4), "frames=1 latent frames have no differences"),
    (lambda: dynamics(torch.zeros(1, 3)), "1 latent frame has no differences to contrast"),
    (lambda: FifoBank(0, 2), "capacity=0 must be at least 1 row"),
    (lambda: FifoBank(2, 4, 3).push(torch.zeros(1, 5, 3)), r"rows of \(5, 3\) do not fit a bank of \(4, 3\)"),
    (lambda: Contrast(positives=0), "positives=0 must be at least 1"),
    (lambda: Contrast(negatives=-1), "negatives=-1 must not be negative"),
    (lambda: LossWeights(mask=-1.0), "mask=-1.0 must not be negative"),
    (lambda: RelationStage(drop=1.5), "drop=1.5 must be in"),
    (lambda: RelationStage(batch=0), "batch=0 must be above 0"),
    (lambda: contrastive_loss(X, X[:, :0], X), "2 anchors need as many rows of positives"),
    (lambda: contrastive_loss(X, X[:1], X), "2 anchors need as many rows of positives"),
    (lambda: contrastive_loss(X, X, X, temperature=0.0), "temperature=0.0 must be above 0"),
    (lambda: contrastive_loss(X, X, X, similarity="l2"), "similarity='l2' is unknown; choose one of cosine, dot"),  # type: ignore[arg-type]
    (lambda: masked_reconstruction(X, X, X[0, 0, :2]), r"mask of \(2,\) must be \(3,\), the places of what"),
    (lambda: masked_reconstruction(X, X, compat="none"), "compat='none' is unknown"),  # type: ignore[arg-type]
    (lambda: subspace_similarity(torch.zeros(4, 3), torch.zeros(4, 5), 4), "rank=4 must be 1 to 3"),
    (lambda: subspace_similarity(torch.zeros(4, 3), torch.zeros(5, 3), 2), "4 and 5 outputs have no subspaces in"),
    (lambda: replace(clips(), words=torch.zeros(2, 6, 16)), "clips have parts of .*'words': 2.* rows"),
    (lambda: replace(clips(), masks=torch.zeros(3, 2, 3, 4, 4)), r"masks on \(3, 4, 4\) latents do not fit latents"),
    (lambda: encode_clips(object(), np.zeros((1, 5, 8, 8, 3), np.uint8), None, [""]), "pipe=object must be a WanPipe"),
    (lambda: DreamRelation(learned="x", where=at(heads=(0,))), "where.heads=.* cannot be chosen"),
]


@pytest.mark.parametrize(("call", "message"), CASES, ids=[message[:40] for _, message in CASES])
def test_it_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_names_that_are_unknown_or_were_not_trained_are_refused() -> None:
    model, _ = build("wan")
    sets = learned(model)
    switch = RelationSwitch(learned=sets)
    for call in (
        lambda: DreamRelation(learned=sets, active=("mood",)),
        lambda: RelationSwitch(learned=sets, active=("mood",)),
        lambda: sets.merge_(model, ("mood",)),
        lambda: switch.using("mood").__enter__(),
    ):
        with pytest.raises(ValueError, match="names 'mood', which was not trained; there are relation, subject1, subj"):
            call()
    with pytest.raises(ValueError, match="active='relation' must be a tuple of names"):
        DreamRelation(learned=sets, active="relation")  # type: ignore[arg-type]


def test_a_model_without_the_sites_or_sizes_is_refused_and_left_alone() -> None:
    sets, (other, _) = learned(build("mochi")[0]), build("wan")
    with pytest.raises(SelectorError, match=r"has terms for 'transformer_blocks.0.attn1', which is not attached"):
        attach(other, DreamRelation(learned=sets))
    with pytest.raises(ValueError, match="do not fit the model, which has no such projection"):
        sets.merge_(other)
    model, _ = build("wan")
    own, linear = learned(model), model.blocks[1].attn1.to_k
    before = model.blocks[0].attn1.to_q.weight.clone()
    model.blocks[1].attn1.to_k = torch.nn.Linear(3, 3)
    with pytest.raises(ValueError, match=r"which has \(3, 3\) there; give the one of training"):
        own.merge_(model)
    assert torch.equal(model.blocks[0].attn1.to_q.weight, before)
    model.blocks[1].attn1.to_k = linear
    with own.merged(model), pytest.raises(ValueError, match="is merged already; undo that first"):
        own.merge_(model)


def test_quantised_weights_are_not_merged() -> None:
    model, _ = build("wan")
    sets, linear = learned(model), model.blocks[0].attn1.to_q
    linear.weight = torch.nn.Parameter(linear.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match="is torch.int8; merge before it is quantised"):
        sets.merge_(model)


def test_a_video_of_another_length_does_not_meet_the_bank() -> None:
    contrast = RelationalContrast(4, 2)
    contrast(torch.randn(2, 2, 4, 3, 3))
    with pytest.raises(
        ValueError, match="a video of 5 latent frames cannot be compared, frame by frame, with those of 4"
    ):
        contrast(torch.randn(1, 2, 5, 3, 3))


def test_hybrid_training_needs_masks() -> None:
    run, made = loss()
    batch = drawn(0)
    del batch["masks"]
    with run, pytest.raises(ValueError, match=r"hybrid=True needs `masks` \(b 2 f h w\) in the batch"):
        made(batch)
    with pytest.raises(ValueError, match="hybrid=True needs masks of the subjects; segment the videos"):
        RelationTuning(build("wan")[0], replace(clips(), masks=None), STAGE)


def test_pictures_have_no_contrast() -> None:
    pictures = RelationClips(
        latents=torch.zeros(2, 4, 8, 8), words=torch.zeros(2, 6, 32), masks=torch.zeros(2, 2, 8, 8)
    )
    with pytest.raises(ValueError, match="pictures have no frames to contrast; give contrast=None"):
        RelationTuning(build("sd3")[0], pictures, STAGE)


def test_folders_that_are_not_whole_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no PNG files of masks"):
        read_frames(tmp_path)
    with pytest.raises(ValueError, match="holds no folders of videos"):
        read_clips(tmp_path)
    (tmp_path / "one").mkdir()
    with pytest.raises(ValueError, match=r"has no caption.txt; say in it what its video shows"):
        read_clips(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="has no number in its name"):
        read_frames(tmp_path)
    (tmp_path / "a.png").unlink()
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    Image.new("RGB", (5, 4)).save(tmp_path / "2.png")
    with pytest.raises(ValueError, match="holds frames of several sizes"):
        read_frames(tmp_path)
