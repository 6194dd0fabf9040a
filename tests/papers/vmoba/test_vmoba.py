"""VMoBA as it attaches: against one masked softmax in float64, its gradients, the published cases, and bad options."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.core.call import plain_call
from saccade.core.clock import Clock
from saccade.core.errors import ConflictError
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Parts
from saccade.core.places import Disc
from saccade.core.site import Site, at
from saccade.core.stack import make_plan, run_plan
from saccade.core.state import Memory
from saccade.ops import chosen_keys
from saccade.ops.parts import attend_parts
from saccade.papers.vmoba import VMoBA, chosen_chunks
from saccade.papers.vmoba.system import PRESETS
from tests.papers.vmoba import reference

GRID = (3, 4, 6)
VIDEO = Layout.image_only(GRID)
BLOCKS = {"frames": 0.8, "tile": (2, 3), "box": (3, 2, 2)}
both_ways = pytest.mark.parametrize("short", [10**9, 0], ids=["one softmax", "two branches"])
every_kind = pytest.mark.parametrize("kind", BLOCKS)


def operands(n: int, *, b: int = 2, hk: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [
        torch.randn(b, heads, n, 6, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
        for heads in (2, hk, hk)
    ]


def run(system: VMoBA, q: Tensor, k: Tensor, v: Tensor, layout: Layout = VIDEO, layer: int = 0, **fields: Any) -> Parts:
    site = Site(name="blocks.0.attn", heads=2, layer=layer)
    extra = fields.pop("extra", ())
    items = {"vmoba": system.plan(site, Clock()), "more": extra}
    plan = make_plan(items, site, layout, layout, torch.device("cpu"), torch.float64)
    return run_plan(
        plan,
        plain_call(q, k, v, layout=layout, site=site, **fields),
        {"vmoba": Memory(), "more": Memory()},
        attend_parts,
    )


def sized(kind: str) -> tuple[float, ...]:
    given = BLOCKS[kind]
    return given if isinstance(given, tuple) else (given,)


def allowed(system: VMoBA, q: Tensor, k: Tensor, kind: str, layout: Layout = VIDEO) -> Tensor:
    """(b h n n), sample by sample and pair by pair; text is open."""
    label, span = reference.labels(sized(kind), GRID), layout.span("image")
    chunks, whole = int(label.max()) + 1, torch.ones(len(q), 2, layout.n, layout.n, dtype=torch.bool)
    own = label == torch.arange(chunks)[:, None]
    for row in range(len(q)):
        gate = reference.gates(q[row, :, span].detach(), k[row, :, span].detach().expand(2, -1, -1), label)
        kept = set[reference.Pair]()
        for pairs in reference.groups(system.scope, 2, chunks, len(label)):
            if system.select == "threshold":
                kept |= reference.kept_by_sum(gate, own, pairs, system.tau, system.forced_own)
            else:
                assert isinstance(system.k, int)
                mine = sum(own[c, s].item() for _, c, s in pairs)
                more = (len(pairs) - mine) * (min(system.k, chunks) - 1) // (chunks - 1)
                kept |= reference.kept_by_number(gate, own, pairs, mine + more)
        chosen = torch.zeros_like(gate, dtype=torch.bool)
        chosen[tuple(torch.tensor(sorted(kept)).T)] = True
        chosen = torch.where(chosen.any(1, keepdim=True), chosen, own)
        whole[row, :, span, span] = chosen[:, label].mT
    return whole


def gradients(out: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    up = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return torch.autograd.grad((out.double() * up).sum(), inputs)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_keys, "BLOCK", 8)


@both_ways
@pytest.mark.parametrize(
    ("scope", "kind"), [("head_global", "tile"), ("query_head", "frames"), ("block", "box"), ("overall", "tile")]
)
@pytest.mark.parametrize("select", ["threshold", "topk", "free"])
def test_equals_one_masked_softmax_with_its_gradients(
    select: Any, scope: Any, kind: str, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    rule: dict[str, Any] = {"select": "topk", "k": 2} if select == "topk" else {"tau": 0.4}
    if select == "free":
        rule["forced_own"] = False
    system = VMoBA(**{kind: BLOCKS[kind]}, **rule, scope=scope)  # type: ignore[arg-type]
    q, k, v = inputs = operands(72)
    parts = run(system, q, k, v)
    mask = allowed(system, q, k, kind)
    expected = reference.masked(q, k, v, mask)
    torch.testing.assert_close(parts.total, expected, atol=1e-10, rtol=0)
    for ours, exact in zip(gradients(parts.total, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-10, rtol=0)
    scores = (q @ k.mT * 6**-0.5).masked_fill(~mask, -torch.inf)
    assert parts.lse is not None
    torch.testing.assert_close(parts.lse, scores.logsumexp(-1), atol=1e-10, rtol=0)


@both_ways
@pytest.mark.parametrize(
    ("text_first", "padded", "biased", "hk"), [(True, 0, False, 1), (False, 3, True, 2), (True, 4, True, 1)]
)
def test_text_padding_biases_and_shared_keys(
    text_first: bool, padded: int, biased: bool, hk: int, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    layout = Layout.joint(text=5, grid=GRID, text_first=text_first)
    q, k, v = inputs = operands(layout.n, hk=hk)
    keep = torch.ones(2, layout.n, dtype=torch.bool)
    keep[0, layout.span("text")] = torch.arange(5) >= padded
    phi = [torch.randn(1, 2, layout.n, 2, dtype=torch.float64) for _ in range(2)]
    system = VMoBA(tile=(2, 3), tau=0.3)
    out = run(system, q, k, v, layout, mask=KeyPadding(keep), bias=LowRank(*phi) if biased else None).total
    mask = allowed(system, q, k, "tile", layout) & keep[:, None, None]
    scores = q @ k.mT * 6**-0.5 + (phi[0] @ phi[1].mT if biased else 0)
    expected = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)
    for a, e in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(a, e, atol=1e-10, rtol=0)


@both_ways
def test_padded_tokens_of_the_image_count_for_no_gate(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    q, k, v = (x.detach() for x in operands(72))
    keep = torch.rand(2, 72, generator=torch.Generator().manual_seed(3)) < 0.8
    outs = [
        run(VMoBA(tile=(2, 3)), q, torch.where(keep[:, None, :, None], k, x), v, mask=KeyPadding(keep)).total
        for x in (0, 7)
    ]
    assert torch.equal(*outs)


@every_kind
@both_ways
def test_all_kept_or_one_chunk_is_dense(kind: str, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    q, k, v = operands(72)
    dense = reference.masked(q, k, v, torch.ones(72, 72, dtype=torch.bool))
    all_ = VMoBA(**{kind: BLOCKS[kind]}, select="topk", k=99)  # type: ignore[arg-type]
    torch.testing.assert_close(run(all_, q, k, v).total, dense, atol=1e-12, rtol=0)
    for one in (VMoBA(frames=9), VMoBA(tile=(4, 6)), VMoBA(box=(3, 4, 6))):
        torch.testing.assert_close(run(one, q, k, v).total, dense, atol=1e-12, rtol=0)


def test_a_share_of_one_is_left_to_the_host() -> None:
    assert VMoBA(frames=1, tau=1).plan(Site(name="x"), Clock()) == ()


@every_kind
@both_ways
def test_one_block_is_block_diagonal(kind: str, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    q, k, v = operands(72)
    label = reference.labels(sized(kind), GRID)
    for scope in ("head_global", "query_head", "block", "overall"):
        one = VMoBA(**{kind: BLOCKS[kind]}, select="topk", k=1, scope=scope)  # type: ignore[arg-type]
        expected = reference.masked(q, k, v, label[:, None] == label)
        torch.testing.assert_close(run(one, q, k, v).total, expected, atol=1e-12, rtol=0)


@both_ways
def test_keys_that_are_not_kept_change_nothing(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    system = VMoBA(tile=(2, 3), tau=0.3)
    q, k, v = inputs = operands(72)
    seen = allowed(system, q, k, "tile")[1, 0, 17]
    _, dk, dv = torch.autograd.grad(run(system, q, k, v).total[1, 0, 17].sum(), inputs)
    assert not seen.all() and torch.equal(dv[1, 0].any(-1), seen) and torch.equal(dk[1, 0].any(-1), seen)
    assert not dv[0].any() and not dv[1, 1].any()


def test_gates_pass_no_gradient() -> None:
    """Else q would get one where attention is uniform whatever q is."""
    q, k, v = operands(72)
    label = reference.labels((2, 3), GRID)
    same = k.detach().mean(2, keepdim=True).expand_as(k) + 0 * label[:, None]
    out = run(VMoBA(tile=(2, 3)), q, same, v).total
    assert torch.autograd.grad(out.sum(), q)[0].abs().max() < 1e-12


@both_ways
@pytest.mark.parametrize("scope", ["head_global", "overall"])
def test_a_batch_of_two_equals_two_runs(scope: Any, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    q, k, v = (x.detach() * torch.tensor([1.0, 9.0]).view(2, 1, 1, 1) for x in operands(72))
    system = VMoBA(tile=(2, 3), scope=scope)
    alone = [run(system, *(x[row : row + 1] for x in (q, k, v))).total for row in (0, 1)]
    torch.testing.assert_close(run(system, q, k, v).total, torch.cat(alone), atol=1e-12, rtol=0)


def test_it_does_not_depend_on_the_size_of_q() -> None:
    q, k, v = operands(72)
    system = VMoBA(box=(3, 2, 2))
    heads = torch.tensor([0.25, 8.0]).view(1, 2, 1, 1)
    assert torch.equal(allowed(system, q, k, "box"), allowed(system, q * heads, k, "box"))
    scaled = run(system, q * heads, k / heads, v).total  # gates are products, so keys may be scaled back
    torch.testing.assert_close(scaled, run(system, q, k, v).total, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_branches_err_no_more_than_twice_plain_attention(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", 0)
    system = VMoBA(tile=(2, 3), tau=0.5)
    q, k, v = (x.detach() for x in operands(72, dtype=dtype))
    mask = allowed(system, q.double(), k.double(), "tile")
    exact = reference.masked(q.double(), k.double(), v.double(), mask)
    eager = reference.masked(q, k, v, mask)
    out = run(system, q, k, v).total
    assert out.dtype == dtype
    assert (out - exact).abs().max() <= 2 * (eager - exact).abs().max() + 1e-5


@both_ways
def test_autocast_leaves_gates_as_they_are(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    system = VMoBA(tile=(2, 3), tau=0.4)
    q, k, v = (x.detach() for x in operands(72, dtype=torch.float32))
    mask = allowed(system, q.double(), k.double(), "tile")
    exact = reference.masked(*(x.bfloat16().double() for x in (q, k, v)), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run(system, q, k, v).total
    assert out.dtype == torch.bfloat16 and (out - exact).abs().max() < 0.03


def test_layers_take_turns() -> None:
    three, two = VMoBA(frames=1, tile=(2, 3), box=(1, 2, 3)), VMoBA(frames=1, box=(1, 2, 3), select="topk", k=(2, 5))

    def kinds(system: VMoBA) -> list[str]:
        plans = [system.plan(Site(name=f"{layer}", layer=layer), Clock()) for layer in range(6)]
        return [type(plan[1].blocks).__name__ for plan in plans if isinstance(plan[1], chosen_chunks.ChosenChunks)]

    assert kinds(three) == ["Frames", "Tile", "Box"] * 2
    assert kinds(two) == ["Frames", "Box"] * 3
    rules = [two.plan(Site(name="x", layer=layer), Clock())[1] for layer in (0, 1)]
    assert [act.rule.k for act in rules if isinstance(act, chosen_chunks.ChosenChunks)] == [2, 5]  # type: ignore[union-attr]
    assert three.plan(Site(name="x", layer=1), Clock()) is three.plan(Site(name="y", layer=4), Clock())


def test_the_papers_table() -> None:
    shapes = {"81x480x832": (21, 30, 52), "81x720x1280": (21, 45, 80), "93x576x1024": (24, 36, 64)}
    counts = {"81x480x832": [7, 24, 72], "81x720x1280": [7, 40, 36], "93x576x1024": [8, 48, 72]}
    counts["141x480x832"], shapes["141x480x832"] = [12, 24, 36], (36, 30, 52)
    assert set(counts) == set(PRESETS)
    for size, grid in shapes.items():
        acts = [VMoBA.preset(size).plan(Site(name="x", layer=i), Clock(step=9, num_steps=10))[1] for i in range(3)]
        found = [act._chunks(Layout.image_only(grid), torch.device("cpu")) for act in acts]  # type: ignore[union-attr]
        assert [len(parts.sizes) for parts in found] == counts[size]
    assert VMoBA.preset("81x720x1280").k == (2, 10, 9) and VMoBA.preset("81x480x832").k == (2, 6, 18)
    assert VMoBA.preset("93x576x1024", tau=0.5).tau == 0.5 and not VMoBA.preset("93x576x1024").timed


def test_without_training_the_first_quarter_of_the_steps_is_dense() -> None:
    system = VMoBA.preset("81x480x832")
    plans = [bool(system.plan(Site(name="x"), Clock(step=step, num_steps=20))) for step in range(20)]
    assert plans == [False] * 5 + [True] * 15 and system.timed
    assert (system.select, system.scope) == ("topk", "query_head")


@both_ways
def test_another_mask_holds_for_chosen_chunks_too(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    q, k, v = operands(72)
    system, disc = VMoBA(tile=(2, 3), tau=0.5), Disc(2.5)
    mask = allowed(system, q, k, "tile") & disc.materialize(VIDEO, VIDEO)
    out = run(system, q, k, v, extra=(disc,)).total
    torch.testing.assert_close(out, reference.masked(q, k, v, mask), atol=1e-12, rtol=0)


def test_what_reworked_the_output_before_is_refused() -> None:
    class Half(Mechanism):
        def blend(self, call: Any, parts: Parts, mem: Memory) -> Parts:
            return parts.reweigh(parts.mass * 0.5)

    q, k, v = operands(72)
    site = Site(name="s", heads=2)
    items = {"half": (Half(),), "vmoba": VMoBA(tile=(2, 3)).plan(site, Clock())}
    plan = make_plan(items, site, VIDEO, VIDEO, torch.device("cpu"), torch.float64)
    with pytest.raises(ConflictError, match=r"reworked attention at site 's' before VMoBA completed it; give VMoBA"):
        run_plan(
            plan, plain_call(q, k, v, layout=VIDEO, site=site), {"half": Memory(), "vmoba": Memory()}, attend_parts
        )


def test_only_chosen_sites_and_steps_are_sparse() -> None:
    assert VMoBA(frames=1, where=at(kind="cross")).plan(Site(name="x", kind="cross"), Clock()) == ()
    assert VMoBA(frames=1, where=at("other*")).plan(Site(name="x"), Clock()) == ()
    late = VMoBA(frames=1, where=at(during=(0.5, 1)))
    assert [bool(late.plan(Site(name="x"), Clock(step=s, num_steps=4))) for s in range(4)] == [False, False, True, True]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VMoBA(), r"frames, tile and box are all None; give the size of one kind of block at least"),
        (lambda: VMoBA(frames=0), r"frames=0 must be above 0; None leaves runs of frames out"),
        (lambda: VMoBA(frames="3"), r"frames='3' must be a number"),  # type: ignore[arg-type]
        (lambda: VMoBA(tile=(2, 3, 4)), r"tile=\(2, 3, 4\) must be 2 sizes \(h, w\) of at least 1 token"),  # type: ignore[arg-type]
        (lambda: VMoBA(tile=4), r"tile=4 must be 2 sizes"),  # type: ignore[arg-type]
        (lambda: VMoBA(box=(2, 3)), r"box=\(2, 3\) must be 3 sizes \(t, h, w\) of at least 1 token"),  # type: ignore[arg-type]
        (lambda: VMoBA(box=(0, 2, 3)), r"box=\(0, 2, 3\) must be 3 sizes"),
        (lambda: VMoBA(frames=1, tau=0), r"tau=0 must be in \(0, 1\]; 1 is dense"),
        (lambda: VMoBA(frames=1, tau=1.1), r"tau=1.1 must be in \(0, 1\]"),
        (lambda: VMoBA(frames=1, skip=-0.1), r"skip=-0.1 must be in \[0, 1\], the share of the steps that stay dense"),
        (lambda: VMoBA(frames=1, select="top"), r"select='top' is unknown; choose one of threshold, topk"),  # type: ignore[arg-type]
        (
            lambda: VMoBA(frames=1, scope="global"),  # type: ignore[arg-type]
            r"scope='global' is unknown; choose one of head_global, query_head, block, overall",
        ),
        (lambda: VMoBA(frames=1, select="topk"), r"k=None must be at least 1, one number or one for each of the 1"),
        (lambda: VMoBA(frames=1, select="topk", k=0), r"k=0 must be at least 1"),
        (lambda: VMoBA(frames=1, tile=(2, 3), select="topk", k=(1, 2, 3)), r"k=\(1, 2, 3\) must be .* of the 2 kinds"),
        (lambda: VMoBA(frames=1, select="topk", k=2, forced_own=False), r"forced_own=False is a rule for select="),
        (lambda: VMoBA(frames=1, where=at(heads=(0,))), r"where.heads=\(0,\) cannot be chosen here"),
        (lambda: VMoBA.preset("640x480"), r"size='640x480' is unknown; choose one of 81x480x832, "),
        (lambda: run(VMoBA(tile=(3, 3)), *operands(72)), r"tile=\(3, 3\) must divide the grid \(t, h, w\) = \(3, 4"),
        (lambda: run(VMoBA(tile=(2, 3)), *operands(71)), r"q has 71 tokens, the layout 72 \(image 72 \(3x4x6\)\)"),
        (lambda: run(VMoBA(tile=(2, 3)), *operands(9), Layout.plain(9)), r"the layout has 0 image grids where one is"),
        (lambda: run(VMoBA(tile=(2, 3)), *(x * torch.nan for x in operands(72))), r"gates hold NaN or infinity"),
    ],
)
def test_bad_input_says_what_is_wrong(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.bad_input
def test_queries_and_keys_of_other_tokens_are_refused() -> None:
    site, other = Site(name="x", heads=2), Layout.joint(text=3, grid=GRID)
    with pytest.raises(ValueError, match=r"keys are text 3 \| image 72 .* and queries image 72 .*; blocks are chosen"):
        make_plan({"vmoba": VMoBA(tile=(2, 3)).plan(site, Clock())}, site, VIDEO, other, torch.device("cpu"))
