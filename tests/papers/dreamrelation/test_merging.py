"""Merged inference is unmerged inference; what was merged comes back bit for bit."""

import pytest
import torch

from saccade.attach import attach
from saccade.papers.dreamrelation import DreamRelation
from tests.papers.dreamrelation.tiny import ALL, HOSTS, build, learned, run

pytestmark = pytest.mark.host


@pytest.mark.parametrize("name", HOSTS)
def test_merged_and_attached_agree(name: str) -> None:
    model, inputs = build(name)
    sets = learned(model)
    for active in ((), ("relation",), ALL):
        with attach(model, DreamRelation(learned=sets, active=active)):
            attached = run(model, inputs)
        with sets.merged(model, active):
            torch.testing.assert_close(run(model, inputs), attached, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_undoing_restores_every_weight_bit_for_bit(dtype: torch.dtype) -> None:
    model, _ = build("mochi")
    model.to(dtype)
    sets, before = learned(model, alpha=50.0), {k: v.clone() for k, v in model.state_dict().items()}
    found = sets.merge_(model, ALL)
    changed = [k for k, v in model.state_dict().items() if not torch.equal(v, before[k])]
    assert len(changed) == sum(p.endswith("weight") and ".attn1." in p and "norm" not in p for p in before)
    found.undo()
    found.undo()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with sets.merged(model):
        pass


def test_weights_come_back_after_an_error() -> None:
    model, _ = build("wan")
    sets, before = learned(model), model.blocks[0].attn1.to_q.weight.clone()
    with pytest.raises(RuntimeError, match="stop"), sets.merged(model):
        raise RuntimeError("stop")
    assert torch.equal(model.blocks[0].attn1.to_q.weight, before)


def test_merging_in_bfloat16_rounds_once() -> None:
    model, _ = build("wan")
    model.to(torch.bfloat16)
    sets, linear = learned(model), model.blocks[0].attn1.to_q
    down, up = sets.low("relation").at(("blocks.0.attn1", "to_q"))
    wanted = linear.weight.double() + sets.alpha / sets.rank * up.double() @ down.double()
    with sets.merged(model):
        assert (linear.weight.double() - wanted).abs().max() <= wanted.abs().max() * 2**-8
