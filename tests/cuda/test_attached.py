"""A warm forward of an attached model on a pretended card."""

from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.papers.clear import Clear
from saccade.papers.sparsed import SparseD
from tests.cuda.pretended_device import Cards
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
STEPS, SIDE, TEXT = 3, 8, 6


def inputs(cards: Cards, config: Any) -> dict[str, torch.Tensor]:
    at = torch.arange(SIDE * SIDE)
    given = {
        "hidden_states": torch.randn(1, SIDE * SIDE, config.in_channels),
        "encoder_hidden_states": torch.randn(1, TEXT, config.joint_attention_dim),
        "pooled_projections": torch.randn(1, config.pooled_projection_dim),
        "img_ids": torch.stack((0 * at, at // SIDE, at % SIDE), dim=-1).float(),
        "txt_ids": torch.zeros(TEXT, 3),
    }
    return {name: cards.put(x) for name, x in given.items()}


@pytest.mark.parametrize("system", [Clear(radius=2), SparseD(keep=0.5, block=8, skip=1)], ids=["clear", "sparsed"])
def test_a_warm_forward_waits_for_nothing(cards: Cards, system: System) -> None:
    pipe = tiny_flux()
    model, scheduler = pipe.transformer, pipe.scheduler
    cards.move(model)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / STEPS, STEPS).tolist(), mu=1.0)
    scheduler.set_begin_index(0)
    given = inputs(cards, model.config)
    times = [cards.put(t.expand(1) / 1000) for t in scheduler.timesteps]
    with attach(pipe, system), torch.no_grad():
        for step, time in enumerate(times):
            cards.reset()
            out = model(timestep=time, return_dict=False, **given)[0]
            scheduler._step_index = step + 1
    assert out.device == torch.device("cuda:0") and bool(out.held.isfinite().all())
    assert [wait for wait in cards.waits if "run/schedule.py" not in wait] == []
