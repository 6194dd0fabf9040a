"""The measurements of DMA's experiment."""

import numpy as np
import pytest
import torch

from saccade.experiments import Results
from saccade.models import CausalLM
from saccade.nn import TokenPositions
from saccade.papers.dma.experiment import arms
from saccade.papers.dma.recall import LatestKeys, Recall, RecallTask, keys_kept, lives, recalled
from saccade.papers.dma.sections import ALONE, FULL, OURS, WINDOW, faster, near_full

TASK = Recall(vocabulary=12, length=14, pairs=3)


def model(mixer: str) -> CausalLM:
    torch.manual_seed(0)
    return CausalLM(vocabulary=12, depth=2, width=16, heads=2, mixer=mixer, ffn="swiglu(hidden=16)")


def test_every_answer_is_the_value_stored_beside_the_key() -> None:
    batch = TASK.texts(np.random.default_rng(0), 50)
    for ids, answers in zip(batch["ids"].tolist(), batch["answers"].tolist(), strict=True):
        pairs = dict(zip(ids[0:6:2], ids[1:6:2], strict=True))
        assert len(pairs) == 3 and max(pairs) < 6 <= min(pairs.values())
        assert answers == [-100] * 6 + [pairs[key] for key in ids[6:]]
    assert TASK.values.nonzero()[:, 0].tolist() == [1, 3, 5]


def test_recall_is_the_share_of_right_answers() -> None:
    batch = TASK.texts(np.random.default_rng(0), 20)

    class Knows(torch.nn.Module):
        def forward(self, ids: torch.Tensor) -> object:
            wanted = batch["answers"].clamp(min=0)
            wanted[:, 10:] = (wanted[:, 10:] + 1) % 12
            return CausalPrediction(torch.nn.functional.one_hot(wanted, 12).float())

    class CausalPrediction:
        def __init__(self, out: torch.Tensor) -> None:
            self.out = out

    assert recalled(Knows(), batch) == pytest.approx(0.5)


def test_a_sliding_window_keeps_the_latest_keys_and_has_no_scores() -> None:
    batch, made = TASK.texts(np.random.default_rng(0), 5), model("latest_keys(window=4)")
    assert not [name for name in made.state_dict() if "dt_proj" in name or name.endswith(".A")]
    assert lives(made, batch["ids"][:1]) == [min(at + 4, 14) for at in range(14)]
    shares = [len({1, 3, 5} & set(range(at - 3, at + 1))) / 3 for at in range(6, 14)]
    for keys, values in keys_kept(made, batch, TASK.values):
        assert keys == pytest.approx((1 + 2 + 3 + 11 * 4) / 14) and values == pytest.approx(sum(shares) / 8)
    layer = LatestKeys(16, 2, window=3)
    near = torch.ones(9, 9, dtype=torch.bool).tril().triu(-2)
    assert torch.equal(layer.choice.map(layer.score(torch.zeros(1, 2, 9, 8))[:, :, None], 9)[0, 0], near)
    assert layer(torch.randn(1, 9, 16), TokenPositions(causal=True)).out.shape == (1, 9, 16)


def test_arms_keep_as_many_keys_and_start_with_the_same_weights() -> None:
    found = {arm: model(mixer) for arm, mixer in arms(4, 14).items()}
    windows = {arm: each.blocks[0].mixer.choice.window for arm, each in found.items()}  # type: ignore[union-attr]
    assert windows == {OURS: 4, WINDOW: 4, ALONE: 4, FULL: 14}
    assert torch.equal(found[WINDOW].blocks[0].mixer.q_proj.weight, found[FULL].blocks[0].mixer.q_proj.weight)  # type: ignore[union-attr]


def test_the_task_trains() -> None:
    task = RecallTask(model("dma(window=4)"), TASK, 8)
    batch = task.batch(np.random.default_rng(1))
    loss = task.module(batch)["loss"]
    loss.backward()
    assert 0 < float(loss.detach()) < 4 and not task.uses_muon("model.blocks.0.mixer.dt_proj.weight")
    assert task.uses_muon("model.blocks.0.mixer.q_proj.weight")


def test_verdicts_follow_the_rows() -> None:
    rows = [
        {"seed": seed, "arm": arm, "right": right + 0.001 * seed * (arm == OURS)}
        for seed in range(3)
        for arm, right in ((OURS, 0.98), (FULL, 1.0))
    ]
    times = [
        {"arm": arm, "length": length, "round": at, "ms": ms * length}
        for arm, ms in (("full", 3.0), ("gathered", 1.0))
        for length in (64, 128)
        for at in range(3)
    ]
    found = Results(device="", date="", versions={}, tables={"recall": rows, "kernels": times})
    assert near_full(found).low > 0 and near_full(found).mid == pytest.approx(0.031)
    assert faster(found).mid == pytest.approx(2)
