"""What is made once is not made again: on a card each time would be a wait."""

import warnings

import pytest
import torch

from saccade.core.biases import LowRank
from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.masks import Mask, lower
from saccade.core.site import Site
from saccade.ops import attend, choose, dispatch, flex, gather, prepare, triton_kernel
from saccade.ops.block_scores import block_scores
from saccade.ops.factored_attention import attention_with_factors
from saccade.ops.gathered import BUDGET
from saccade.ops.remembered import remembered
from saccade.ops.split_mask import split_mask
from saccade.papers.sparsed.block_choice import choose_blocks
from saccade.seam.host_mask import read_host_mask
from tests.cuda.pretended_device import Card, Cards
from tests.ops.cases import block_mask, call, error, operands

N = 40


def test_a_value_is_kept_for_all_views_until_the_tensor_changes() -> None:
    x, made = torch.zeros(3, 4), []
    for view in (x[1], x[1], x[2], x):
        remembered(view, "a", lambda: made.append(1))
    assert len(made) == 3
    x.add_(1)
    remembered(x[1], "a", lambda: made.append(1))
    assert len(made) == 4


def test_a_value_goes_with_its_tensor() -> None:
    from saccade.ops.remembered import _made

    had, x = len(_made), torch.zeros(3)
    remembered(x, "a", lambda: "value")
    assert len(_made) == had + 1
    del x
    assert len(_made) == had


def test_tensors_that_count_no_writes_are_not_remembered() -> None:
    made = []
    with torch.inference_mode():
        x = torch.zeros(3)
        for _ in range(2):
            remembered(x, "a", lambda: made.append(1))
    assert len(made) == 2


@pytest.mark.parametrize("masked", [False, True])
def test_factors_in_half_precision_are_looked_at_once(cards: Cards, masked: bool) -> None:
    q, k, v = (cards.put(x) for x in operands(1, 2, 2, N, N, dtype=torch.bfloat16))
    bias = LowRank(cards.put(torch.randn(1, 2, N, 3)), cards.put(torch.randn(1, 1, N, 3)))
    mask = cards.put(torch.rand(N, N) < 0.8).logical_or_(torch.eye(N, dtype=torch.bool, device="cuda"))
    for _ in range(2):
        cards.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = attention_with_factors(q, k, v, bias, mask=mask if masked else None)
    assert found.is_cuda and cards.waits == [] and cards.launches < 30


def test_a_host_map_made_in_each_forward_runs_dense_without_a_wait(cards: Cards) -> None:
    allow = (torch.rand(1, 1, N, N) < 0.8) | torch.eye(N, dtype=torch.bool)
    allow[..., 3] = False  # padding
    q, k, v = operands(1, 2, 2, N, N)

    def read(x: torch.Tensor) -> Mask | None:
        return read_host_mask(x, False, Site(name="a", heads=2), N, N)[0]

    true = attend(call(q, k, v, read(allow)), kernel="reference").out
    on_card = [cards.put(x) for x in (q, k, v)]
    for _ in range(2):
        fresh = cards.put(allow)
        cards.reset()
        found = attend(plain_call(*on_card, mask=read(fresh))).out
        assert cards.waits == [] and cards.kernels == ["efficient"]
        assert error(found.held, true) < 1e-5
    assert read(fresh) is read(fresh)


def test_choosing_blocks_copies_its_numbers_once(cards: Cards) -> None:
    q, k, v = (cards.put(x) for x in operands(1, 2, 2, N, N))
    generated = (False, True, False, True, True)
    for _ in range(2):
        cards.reset()
        scores = block_scores(plain_call(q, k, v), 8, generated)
        choose_blocks(scores, generated, 0.4, "official")
    assert cards.waits == []


def test_what_a_graph_reads_keeps_its_address(cards: Cards) -> None:
    layout = Layout.plain(N)
    at = plain_call(
        *(cards.put(x) for x in operands(1, 2, 2, N, N)), mask=lower(block_mask(N, N, size=10), layout, layout, "cuda")
    )
    for kernel in ("sdpa", "gather"):
        prepare(at, kernel=kernel)
    fixed = split_mask(at).fixed
    plan = next(value for key, value in fixed.memo.items() if key[0] == "schedule")[1]
    added = fixed.memo["additive", torch.float32]
    assert all(x._dynamo_static_input_type == "unguarded" for x in (plan.rows, plan.cols, plan.which, added))
    assert str(torch.ops.saccade.gather.default._schema.arguments[-2].type) == "str"  # no CPU tensor in the graph
    assert [int(n) for n in plan.sizes.split()] == plan.batches.flatten().tolist()


def test_warming_a_kernel_in_between_leaves_what_a_graph_looks_up(monkeypatch: pytest.MonkeyPatch) -> None:
    at = call(*operands(1, 2, 2, N, N), lower(block_mask(N, N, size=10), Layout.plain(N), Layout.plain(N)))
    monkeypatch.setattr(dispatch, "_chosen", lambda *_: dispatch.Choice("gather", {}, 1.0))
    assert prepare(at).kernel == "gather"
    monkeypatch.setattr(dispatch, "_chosen", lambda *_: dispatch.Choice("sdpa", {}, 1.0))
    assert choose(at).kernel == "gather"
    monkeypatch.setattr(flex, "num_warm", lambda: 1000)
    assert dispatch._prepared(at, False) == "gather"
    assert choose(at).kernel == "sdpa"


def test_gather_is_the_last_resort_on_a_card_and_modest_there(cards: Cards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kernel, "_installed", lambda: False)
    layout = Layout.plain(1280)
    mask = lower(block_mask(1280, 1280, keep=0.1, size=128), layout, layout, "cuda")
    q, k, v = (cards.put(x) for x in operands(1, 1, 1, 1280, 1280, 8, 8, torch.bfloat16))
    assert choose(plain_call(q, k, v, mask=mask)).kernel == "sdpa"
    assert gather.refuses(plain_call(q, k, v, mask=mask)) == []
    assert BUDGET["cuda"] * 2 * 2 * 128 <= 1 << 26  # bytes of gathered keys and values, half precision, width 128


@pytest.mark.parametrize("device", ["mps", "xpu"])
def test_other_devices_are_chosen_for_like_any(device: str) -> None:
    class Elsewhere(Card):
        """Says it lies on another kind of device."""

    q, k, v = (Elsewhere(x, torch.device(device)) for x in operands(1, 2, 2, N, N))
    layout = Layout.plain(N)
    at = plain_call(q, k, v, mask=lower(block_mask(N, N, size=10), layout, layout))
    assert flex.cost(gather.found_pattern(at), device) <= 1
    assert flex.unprofitable(at) and gather.unprofitable(at)
