"""Next-token training: the loss, batches, resuming, and what held-out text costs."""

from math import log
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data.text import read_text
from saccade.models import CausalLM
from saccade.models.shakespeare_lm import character_tokenizer
from saccade.train.causal import Batch, CausalLoss, CausalStage, CausalTask, held_out_nats
from saccade.train.checkpoint import trained
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

STAGE = CausalStage(
    fit=Fit(steps=30, precision="no", decay=0.5, save_every=10, optim=Optim(lr=1e-2, muon_lr=2e-2)), length=16, batch=8
)


def model(**changes: object) -> CausalLM:
    torch.manual_seed(0)
    return CausalLM(**{"depth": 1, "width": 32, "heads": 2, "ffn": "swiglu(hidden=32)"} | changes)


def captions() -> torch.Tensor:
    return torch.tensor(character_tokenizer()(read_text("captions"), verbose=False).input_ids[:4000])


def test_the_loss_is_that_of_the_next_token() -> None:
    tiny, ids = model().eval(), torch.randint(3, 60, (2, 7))
    wanted = -tiny(ids[:, :-1]).out.log_softmax(-1).gather(-1, ids[:, 1:, None]).mean()
    torch.testing.assert_close(CausalLoss(tiny)({"ids": ids})["loss"], wanted)


def test_auxiliary_losses_are_trained_and_kept_apart() -> None:
    found = CausalLoss(model(ffn="moe(experts=2, top=1, shared=0, hidden=8)"))({"ids": torch.randint(3, 60, (2, 7))})
    torch.testing.assert_close(found["loss"], found["nats"] + found["balance"])


def test_a_batch_is_windows_of_the_text() -> None:
    found = CausalTask(model(), torch.arange(40), STAGE).batch(np.random.default_rng(0))["ids"]
    assert found.shape == (8, 17) and bool((found.diff(dim=1) == 1).all())


class Killed(CausalTask):
    """Its training ends in the middle."""

    left = 15

    def batch(self, rng: np.random.Generator) -> Batch:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")
        return super().batch(rng)


def test_it_learns_and_ends_in_the_same_weights_after_a_kill(tmp_path: Path) -> None:
    ids, whole = captions(), model()
    before = held_out_nats(whole, ids, length=16, windows=8).mean()
    fit(CausalTask(whole, ids, STAGE), STAGE.fit, tmp_path / "whole")
    assert before > log(60) and held_out_nats(whole, ids, length=16, windows=8).mean() < 3
    with pytest.raises(RuntimeError, match="killed"):
        fit(Killed(model(), ids, STAGE), STAGE.fit, tmp_path / "cut")
    fit(CausalTask(model(), ids, STAGE), STAGE.fit, tmp_path / "cut")
    wanted, found = (trained(tmp_path / name) for name in ("whole", "cut"))
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_short_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="ids holds 16 tokens, too few for length=16"):
        CausalTask(model(), torch.arange(16), STAGE)
    with pytest.raises(ValueError, match="ids holds 16 tokens, too few for length=16"):
        held_out_nats(model(), torch.arange(16), length=16)
    with pytest.raises(ValueError, match="length=0"):
        CausalStage(length=0)
