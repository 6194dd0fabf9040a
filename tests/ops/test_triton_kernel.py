"""The Triton kernels without a card: numbers by Triton's interpreter, lists, refusals, and what a graph sees."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

from saccade.core.blocks import FULL, MIXED
from saccade.core.call import AttentionCall
from saccade.core.masks import lower
from saccade.ops import attend, choose, dispatch, triton_kernel
from saccade.ops.block_cost import BlockCost
from saccade.ops.pattern import Pattern, pattern
from saccade.ops.split_mask import split_mask
from saccade.ops.triton_kernel.lists import Lists, kernel_lists, packed, transposed
from saccade.ops.triton_kernel.tiles import HALF, MAX_WIDTH, SINGLE, Tile, cut, tile_for, two_parts
from tests.ops.cases import block_mask, call, operands, padding

ROOT = Path(__file__).resolve().parents[2]
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton")
QUICK = ("bfloat16 grouped", "padded until nothing is left", "order and factors", "regions")
SLOW = ("float32", "float16", "bfloat16 factors", "by batch, head and padding", "wide", "blocks of 128")
Found = dict[str, dict[str, Any]]


def interpreted(cases: tuple[str, ...]) -> Found:
    """What `tests.ops.interpreted` prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.ops.interpreted", *cases]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def quick() -> Found:
    return interpreted(QUICK)


@pytest.fixture(scope="module")
def slow() -> Found:
    return interpreted(SLOW)


def check(found: dict[str, Any]) -> None:
    """Every error stays in its budget."""
    measured = {name: pair for name, pair in found.items() if name in ("out", "lse") or name.startswith("d")}
    assert measured and all(len(pair) == 2 for pair in measured.values())
    assert {name: pair for name, pair in measured.items() if not pair[0] <= pair[1]} == {}
    assert found.get("refused", []) == []


@needs_triton
@pytest.mark.parametrize("case", QUICK)
def test_it_is_exact_forward_and_backward(quick: Found, case: str) -> None:
    check(quick[case])
    assert {"out", "lse", "dq", "dk", "dv"} <= set(quick[case])


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_it_is_exact_for_other_types_and_widths(slow: Found, case: str) -> None:
    check(slow[case])


@needs_triton
def test_queries_without_a_key_give_nothing_and_orders_are_followed(quick: Found) -> None:
    assert quick["padded until nothing is left"]["empty"] == [40, True]
    assert quick["order and factors"]["moved"]
    assert {"dphi_q", "dphi_k", "dvalues"} <= set(quick["order and factors"])
    assert quick["regions"]["gaps"]


def made(n: int = 70, m: int = 90, h: int = 2) -> Pattern:
    at = call(*operands(1, h, h, n, m), block_mask(n, m, h=h, size=24))
    fixed = split_mask(at).fixed
    assert fixed is not None
    return pattern(fixed.bound, at.layout_q, at.layout_k, (32, 32))


def drawn(lists: Lists, rows: int, columns: int) -> torch.Tensor:
    """The lists as a map (P rows columns): 0, MIXED or FULL."""
    map_ = torch.zeros(lists.spans.shape[0], rows, columns, dtype=torch.uint8)
    for p, row in torch.cartesian_prod(torch.arange(len(map_)), torch.arange(rows)).tolist():
        start, full, mixed = lists.spans[p, row].tolist()
        map_[p, row, lists.cols[start : start + full].long()] = FULL
        map_[p, row, lists.cols[start + full : start + full + mixed].long()] = MIXED
    return map_


def test_lists_and_their_transpose_hold_the_pattern() -> None:
    found = made()
    lists, back = kernel_lists(found).forward, transposed(found)
    map_ = found.map.flatten(0, 1)
    assert {int(x) for x in map_.unique()} == {0, MIXED, FULL}
    assert torch.equal(drawn(lists, *map_.shape[1:]), map_)
    assert torch.equal(drawn(back, *map_.mT.shape[1:]), map_.mT)
    read = (map_ > 0).sum(-1).gather(1, lists.order.long())
    assert bool((read[:, 1:] <= read[:, :-1]).all())
    for start, full, mixed in lists.spans[0].tolist():
        tiles = lists.which[start + full : start + full + mixed]
        assert bool((tiles > 0).all()) and bool((lists.which[start : start + full] == 0).all())


def test_bits_hold_every_pair() -> None:
    tiles = torch.rand(3, 4, 64, generator=torch.Generator().manual_seed(0)) < 0.5
    words = packed(tiles)
    assert words.shape == (3, 4, 2) and words.dtype == torch.int32
    assert torch.equal(torch.stack([(words >> bit) & 1 for bit in range(32)], -1).flatten(-2).bool(), tiles)


@pytest.mark.parametrize(
    ("width", "parts"),
    [(8, (16, 0)), (64, (64, 0)), (72, (64, 16)), (80, (64, 16)), (96, (64, 32)), (112, (128, 0)), (136, (128, 16))],
)
def test_widths_are_two_powers_of_two(width: int, parts: tuple[int, int]) -> None:
    assert two_parts(width) == parts
    with pytest.raises(ValueError, match="width=257 must be at most 256; split the heads"):
        two_parts(MAX_WIDTH + 1)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_every_tile_divides_its_block(size: int) -> None:
    for tile in (tile for rows in (SINGLE, *HALF.values()) for row in rows.values() for tile in row):
        smaller = cut(tile, (size, size))
        assert size % smaller.queries == 0 and size % smaller.keys == 0 and smaller.keys % 32 == 0
        assert 4 <= smaller.warps <= tile.warps
    assert cut(Tile(128, 64, 8, 3), (64, 64)).warps == 4


def test_the_table_has_a_tile_for_every_width_card_and_type() -> None:
    for width in (16, 64, 96, 128, 144, 256):
        for capability in ((8, 0), (9, 0), (10, 0), (12, 0)):
            for dtype in triton_kernel.COSTS:
                for which in ("forward", "queries", "keys"):
                    tile = tile_for(which, capability=capability, width=width, width_v=64, dtype=dtype, size=(128, 128))
                    assert tile.queries * tile.keys <= 128 * 128


def sparse(dtype: torch.dtype = torch.float32, keep: float = 0.1, n: int = 1280) -> AttentionCall:
    q, k, v = operands(1, 2, 2, n, n, dtype=dtype)
    at = call(q, k, v, block_mask(n, n, keep=keep, size=128))
    return at.replace(mask=lower(at.mask, at.layout_q, at.layout_k))


@needs_triton
def test_it_refuses_what_it_cannot_do() -> None:
    assert triton_kernel.refuses(sparse()) == ["it runs on CUDA devices, not on cpu"]
    assert triton_kernel.refuses(sparse(torch.float64))[1] == "torch.float64 is not a type it takes"
    at = sparse()
    assert triton_kernel.refuses(at.replace(mask=None))[-1].startswith("no mask fixed before the call")
    wide = call(*operands(1, 1, 1, 40, 40, d=300), at.mask)
    assert "300 columns; it takes 256 at most" in triton_kernel.refuses(wide)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kernel, "_installed", lambda: False)
    assert triton_kernel.refuses(sparse()) == ["the package triton is not installed; pip install triton"]


@needs_triton
@pytest.mark.parametrize(("found", "reason"), [((7, 5), ["compute capability 7.5; it needs 8.0"]), ((9, 0), [])])
def test_old_cards_are_refused(monkeypatch: pytest.MonkeyPatch, found: tuple[int, int], reason: list[str]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: found)
    at: Any = SimpleNamespace(q=SimpleNamespace(device=torch.device("cuda", 0)))
    assert triton_kernel._lacks(at) == reason


def test_on_cuda_it_comes_first_and_mixed_blocks_count_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dispatch.ORDER["cuda"][:5] == ("spans", "triton", "flex", "sdpa", "gather")
    monkeypatch.setitem(dispatch.ORDER, "cpu", dispatch.ORDER["cuda"])
    monkeypatch.setattr(triton_kernel, "_lacks", lambda at: [])
    assert choose(sparse()).kernel == "triton"
    assert choose(sparse(keep=0.9)).reasons["triton"][0].endswith("of the time of dense, which is taken above 90%")
    assert choose(sparse(torch.bfloat16, keep=0.5)).kernel == "triton"
    assert choose(sparse(n=512)).reasons["triton"] == ["512 x 512 tokens; dense is faster below 1024"]
    half = operands(1, 2, 2, 1280, 1280, dtype=torch.bfloat16)
    mixed = call(*half, block_mask(1280, 1280, keep=0.05, size=100))
    assert choose(mixed).kernel == "triton"
    monkeypatch.setattr(triton_kernel, "COSTS", {torch.bfloat16: (BlockCost((128, 128), 1.0, 9.0),)})
    assert triton_kernel.unprofitable(sparse(torch.bfloat16)) == []
    assert len(triton_kernel.unprofitable(mixed)) == 1


def test_costs_are_those_of_the_computed_blocks() -> None:
    at = sparse()
    kept = int(choose(at).density * 100 + 0.5)
    assert triton_kernel.flops(at) == 2 * 2 * kept * 128 * 128 * (16 + 16)
    assert triton_kernel.bytes(at) == 4 * 2 * (1280 + kept * 128) * (16 + 16)


class Card:
    """What Triton asks of a driver where kernels are analysed and nothing is launched."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.runtime import driver

    monkeypatch.setattr(driver, "_active", Card())
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # a later version changes the default, and warns of it


@needs_triton
@pytest.mark.compile
def test_graphs_hold_its_launches_forward_and_backward(card: None) -> None:
    torch._dynamo.reset()
    at = call(*operands(1, 2, 1, 256, 300, d=80, dv=64), block_mask(256, 300, size=100))
    at = at.replace(mask=padding(1, 300) & lower(at.mask, at.layout_q, at.layout_k))
    triton_kernel.ready(at)
    graphs: list[list[str]] = []

    def kept(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., list[torch.Tensor]]:
        """A graph's operators, and in its place what has the shapes of its results."""
        graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        results: Any = graph.graph.output_node().args[0]
        made = [getattr(x, "meta", {}).get("val") for x in results]
        like = lambda x: torch.zeros(tuple(x.shape), dtype=x.dtype) if isinstance(x, torch.Tensor) else x  # noqa: E731
        return make_boxed_func(lambda *args: [like(x) for x in made])

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        found = attend(at.replace(q=q, k=k, v=v), kernel="triton", want_lse=True)
        return found.out, found.lse

    leaves = [x.detach().requires_grad_() for x in (at.q, at.k, at.v)]
    compiled = torch.compile(run, fullgraph=True, backend=aot_autograd(fw_compiler=kept, bw_compiler=kept))
    out, lse = compiled(*leaves)
    assert out.shape == (1, 2, 256, 64) and lse.shape == (1, 2, 256)
    gradients = torch.autograd.grad(out.sum() + lse.sum(), leaves)
    assert [x.shape for x in gradients] == [x.shape for x in leaves]
    assert [graph.count("triton_kernel_wrapper_functional") for graph in graphs] == [1, 2]
