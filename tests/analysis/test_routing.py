"""Counts of choices against a loop, and what they show against the definitions."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.analysis.routing import count_usage, information, load_variation, stretched
from saccade.analysis.usage_plot import plot_usage
from saccade.nn.routing import Routing, choose, record_routing
from saccade.papers import DiTMoE


def _calls(steps: int = 3, batch: int = 2, tokens: int = 4, experts: int = 5) -> list[Routing]:
    return [choose(torch.rand(batch, tokens, experts).softmax(-1), 2) for _ in range(steps)]


def test_counts_equal_a_loop() -> None:
    found, labels = {"a": _calls(), "b": _calls()}, torch.tensor([6, 1])
    found["a"][0].weight[1, 3] = 0  # padding
    usage = count_usage(found, labels, classes=7)
    steps, places, classes = torch.zeros(2, 3, 5), torch.zeros(2, 4, 5), torch.zeros(2, 7, 5)
    for layer, calls in enumerate(found.values()):
        for s, call in enumerate(calls):
            for b in range(2):
                for n in range(4):
                    for k in range(2):
                        if call.weight[b, n, k]:
                            e = call.index[b, n, k]
                            for table, at in ((steps, s), (places, n), (classes, labels[b])):
                                table[layer, at, e] += 1
    for table, wanted in ((usage.steps, steps), (usage.places, places), (usage.classes, classes)):
        assert torch.equal(table, wanted.long())
    assert usage.layers == ("a", "b") and torch.equal((usage + usage).places, 2 * usage.places)


def test_rows_of_guidance_are_left_out() -> None:
    calls, labels = _calls(batch=4), torch.tensor([0, 1])
    half = [Routing(*(each[:2] for each in call)) for call in calls]
    one = count_usage({"a": calls}, labels, classes=2, rows=slice(0, 2))
    assert torch.equal(one.classes, count_usage({"a": half}, labels, classes=2).classes)


def test_a_model_is_counted() -> None:
    model = DiTMoE(depth=2, width=16, heads=2, side=8, channels=3, classes=5, experts=4)
    with record_routing(model) as found:
        for t in (1.0, 0.5, 0.1):
            model(torch.randn(2, 3, 8, 8), torch.full((2,), t), torch.tensor([0, 4]))
    usage = count_usage(found, torch.tensor([0, 4]), classes=5)
    assert usage.layers == ("blocks.0.ffn.router", "blocks.1.ffn.router")
    assert (usage.steps.shape, usage.places.shape, usage.classes.shape) == ((2, 3, 4), (2, 16, 4), (2, 5, 4))
    assert usage.steps.sum((-1, -2)).tolist() == [3 * 2 * 16 * 2] * 2 and not usage.classes[:, 1:4].any()


@given(rows=st.integers(1, 6), columns=st.integers(1, 5), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_information_is_a_share_and_equals_its_definition(rows: int, columns: int, seed: int) -> None:
    counts = torch.randint(1, 30, (rows, columns), generator=torch.Generator().manual_seed(seed))
    p = counts.double() / counts.sum()
    experts, groups = p.sum(0), p.sum(1)
    shared = (p * (p / (groups[:, None] * experts)).log()).sum()
    wanted = shared / -(experts * experts.log()).sum() if columns > 1 else torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(information(counts), wanted, atol=1e-9, rtol=1e-7)
    order = torch.randperm(rows)
    torch.testing.assert_close(information(counts[order]), information(counts))


def test_information_at_its_ends() -> None:
    table = torch.stack((torch.eye(3), torch.tensor([1, 2, 3])[:, None] * torch.tensor([1, 5, 2]))).long()
    torch.testing.assert_close(information(table), torch.tensor([1.0, 0.0]).double(), atol=1e-12, rtol=0)
    assert information(torch.tensor([[3, 0], [4, 0]])) == 0


def test_load_variation_and_stretch() -> None:
    counts = torch.tensor([[[1, 1], [2, 2]], [[4, 0], [2, 0]]])
    torch.testing.assert_close(load_variation(counts), torch.tensor([0.0, 1.0]).double())
    assert stretched(counts)[1].tolist() == [[1.0, 0.0], [0.5, 0.0]]
    assert not stretched(torch.ones(1, 2, 2).long()).any()


def test_picture(tmp_path: Path) -> None:
    table: Tensor = torch.randint(9, (2, 3, 4))
    plot_usage({"step": table, "place": table}).savefig(tmp_path / "usage.png")
    assert (tmp_path / "usage.png").read_bytes()[1:4] == b"PNG"


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="3 labels for 2 rows"):
        count_usage({"a": _calls()}, torch.tensor([0, 1, 2]), classes=3)
    with pytest.raises(ValueError, match=r"layers of found=\['a', 'b'\] differ in calls, tokens or experts"):
        count_usage({"a": _calls(), "b": _calls(steps=2)}, torch.tensor([0, 1]), classes=3)
