"""Memory on tiny random models of the real classes: against Wan's block written down, and what holds exactly."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.rows import Rows
from saccade.core.site import at
from saccade.papers.clear import Clear
from saccade.papers.dit_mem import DiTMem, HeldMemory, MemoryTokens
from saccade.systems.dense import Dense
from tests.hosts.stand_ins import looking
from tests.hosts.tiny import HOSTS as TINY
from tests.hosts.tiny import MORE, output
from tests.papers.dit_mem.golden import close, inputs, stored, wan
from tests.tiny_videos import tiny_wan

pytestmark = pytest.mark.host
BY_NAME = {host.name: host for host in (*TINY, *MORE)}
HOSTS = ("wan", "hunyuan_video", "cogvideox", "ltx", "flux", "sd3")


def built(name: str = "wan", dtype: torch.dtype = torch.float64) -> tuple[Any, dict[str, Any], int]:
    """A model, its inputs, and its width."""
    model, given = BY_NAME[name].build()
    given = {k: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in given.items()}
    width = next(p for n, p in model.named_parameters() if n.endswith("to_q.weight")).shape[1]
    return model.to(dtype), given, width


def memory(width: int, m: int = 5, b: int = 1, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(b, m, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


def out(model: Any, given: dict[str, Any], *systems: Any, **options: Any) -> Tensor:
    with attach(model, *systems, **options):
        return output(model, given)


def plain_wan(model: Any, given: dict[str, Any], tokens: Tensor) -> Tensor:
    """Wan with memory rows in every self-attention, asking too, cut off afterwards: as released."""
    undo = []
    for block in model.blocks:

        def forward(hidden: Tensor, text: Tensor, temb: Tensor, rotary: Any, block: Any = block) -> Tensor:
            parts = (block.scale_shift_table + temb).chunk(6, dim=1)
            both = torch.cat((hidden, tokens.expand(len(hidden), -1, -1)), dim=1)
            x = F.layer_norm(both, both.shape[-1:], eps=1e-6) * (1 + parts[1]) + parts[0]
            at, n = block.attn1, hidden.shape[1]
            q, k, v = at.norm_q(at.to_q(x)), at.norm_k(at.to_k(x)), at.to_v(x)
            q, k, v = (part.unflatten(2, (at.heads, -1)) for part in (q, k, v))
            q, k = (torch.cat((turned(part[:, :n], *rotary), part[:, n:]), dim=1) for part in (q, k))
            scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
            seen = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v).flatten(2)
            hidden = hidden + parts[2] * at.to_out[0](seen)[:, :n]
            hidden = hidden + block.attn2(block.norm2(hidden), text, None, None)
            y = F.layer_norm(hidden, hidden.shape[-1:], eps=1e-6) * (1 + parts[4]) + parts[3]
            return hidden + parts[5] * block.ffn(y)

        block.forward = forward
        undo.append(block)
    try:
        return model(**given)[0]
    finally:
        for block in undo:
            del block.forward


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cos[..., 0::2], sin[..., 1::2]
    return torch.stack((a * c - b * s, a * s + b * c), dim=-1).flatten(-2)


@pytest.mark.parametrize("rows", [1, 2])
def test_it_equals_memory_rows_written_out_gradients_too(rows: int) -> None:
    """Queries of the memory are never computed, and change nothing."""
    model, given, width = built()
    tokens = memory(width, b=rows).requires_grad_()
    weigh = torch.randn(given["hidden_states"].shape, dtype=torch.float64)
    wanted = plain_wan(model, given, tokens)
    (grad,) = torch.autograd.grad((wanted * weigh).sum(), tokens)
    with attach(model, DiTMem(memory=tokens)):
        found = model(**given)[0]
        (own,) = torch.autograd.grad((found * weigh).sum(), tokens)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=2e-6)  # FP32LayerNorm rounds
    torch.testing.assert_close(own, grad, rtol=1e-4, atol=1e-7)
    assert (wanted - model(**given)[0]).abs().max() > 1e-3


def test_memory_enters_as_the_released_code_has_it() -> None:
    found, model, seen = stored("dit_with_memory"), wan(), []

    def look(call: AttentionCall) -> None:
        seen.append(torch.cat((call.host.hidden, call.host.enter(found["in/memory"])), dim=1)[:1])

    with attach(model, looking(look, "host.hidden", "host.enter", "host.stream")), torch.no_grad():
        model(**inputs())
    close(seen[0], found["mid/blk0.attn_in_with_memory"])


@pytest.mark.parametrize("name", HOSTS)
def test_no_memory_is_bitwise_the_host_and_leaves_no_trace(name: str) -> None:
    model, given, width = built(name, torch.float32)
    plain, looks = output(model, given), repr(model)
    for nothing in (None, memory(width, m=0, dtype=torch.float32), HeldMemory()):
        assert torch.equal(out(model, given, DiTMem(memory=nothing)), plain)
    found = out(model, given, DiTMem(memory=memory(width, dtype=torch.float32)))
    assert found.shape == plain.shape and (found - plain).abs().max() > 1e-5
    assert torch.equal(output(model, given), plain) and repr(model) == looks


@pytest.mark.parametrize("name", HOSTS)
def test_order_does_not_matter_and_equal_tokens_are_one_with_log_r(name: str) -> None:
    model, given, width = built(name)
    tokens = memory(width)
    counts = (1, 3, 1, 7, 2)
    whole = MemoryTokens(tokens, counts).expanded()
    wanted = out(model, given, DiTMem(memory=whole))
    order = torch.randperm(whole.shape[1], generator=torch.Generator().manual_seed(1))
    near = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(out(model, given, DiTMem(memory=whole[:, order])), wanted, **near)
    torch.testing.assert_close(out(model, given, DiTMem(memory=MemoryTokens(tokens, counts))), wanted, **near)
    torch.testing.assert_close(out(model, given, DiTMem(memory=MemoryTokens(whole).merged())), wanted, **near)
    assert (out(model, given, DiTMem(memory=tokens)) - wanted).abs().max() > 1e-5


def test_a_thousand_equal_tokens_are_ten_with_log_100() -> None:
    model, given, width = built()
    ten = MemoryTokens(memory(width, m=10), (100,) * 10)
    assert ten.expanded().shape[1] == 1000 and ten.log_counts is not None
    wanted = out(model, given, DiTMem(memory=ten.expanded()))
    torch.testing.assert_close(out(model, given, DiTMem(memory=ten)), wanted, rtol=1e-6, atol=1e-7)


def test_rows_of_weights_sum_to_one_and_a_closed_key_changes_nothing() -> None:
    model, given, width = built()
    sums: list[Tensor] = []

    def ones(call: AttentionCall) -> None:
        sums.append(call.v)

    tokens = memory(width)
    with attach(model, DiTMem(memory=tokens), looking(ones)) as run:
        output(model, given)
        assert all(site.plan.layout_k.n == site.plan.layout_q.n + 5 for site in run._interceptors())
    two = Rows.of("uncond", "cond")
    closed = out(model, given, DiTMem(memory=tokens, negative="none"), rows=two)
    plain, read = output(model, given), out(model, given, DiTMem(memory=tokens))
    torch.testing.assert_close(closed[:1], plain[:1], rtol=1e-7, atol=1e-8)  # logit -inf
    torch.testing.assert_close(closed[1:], read[1:], rtol=1e-7, atol=1e-8)
    assert sums[0].shape[2] == given["hidden_states"][0, 0].numel() // 4 + 5


def test_guidance_shares_the_memory_or_gives_the_negative_zeros() -> None:
    model, given, width = built()
    tokens, rows = memory(width, b=1), Rows.of("uncond", "cond")
    assert torch.equal(
        out(model, given, DiTMem(memory=tokens), rows=rows), out(model, given, DiTMem(memory=tokens))
    )  # fmt: skip
    zeros = torch.cat((torch.zeros_like(tokens), tokens))
    found = out(model, given, DiTMem(memory=tokens, negative="zeros"), rows=rows)
    torch.testing.assert_close(found, out(model, given, DiTMem(memory=zeros)), rtol=1e-7, atol=1e-8)
    plain = output(model, given)
    assert (found[:1] - plain[:1]).abs().max() > 1e-4  # zeros are no lack of memory


def test_each_prompt_has_its_own_memory_however_often_it_is_drawn() -> None:
    model, given, width = built()
    each = memory(width, b=2)
    found = out(model, given, DiTMem(memory=each))
    for i in range(2):
        alone = {k: v[i : i + 1] if isinstance(v, Tensor) else v for k, v in given.items()}
        torch.testing.assert_close(
            found[i : i + 1], out(model, alone, DiTMem(memory=each[i])), rtol=1e-6, atol=1e-7
        )  # fmt: skip
    four = {k: v.repeat_interleave(2, 0) if isinstance(v, Tensor) else v for k, v in given.items()}
    drawn = out(model, four, DiTMem(memory=each), rows=Rows.of("cond", samples=4))
    torch.testing.assert_close(drawn, found.repeat_interleave(2, 0), rtol=1e-6, atol=1e-7)


def test_a_pipeline_under_guidance_shows_each_prompt_its_memory() -> None:
    """Branches run one after the other; both see the memory, or the conditional one alone."""
    pipe, each = tiny_wan(), memory(32, b=2, dtype=torch.float32)

    def draw(*systems: Any) -> Tensor:
        noise = [torch.Generator().manual_seed(i) for i in range(2)]
        with attach(pipe, *systems):
            return pipe(
                ["a red circle", "a blue square"], negative_prompt=["", ""], height=32, width=32, num_frames=5,
                num_inference_steps=2, guidance_scale=3.0, generator=noise, output_type="latent",
                max_sequence_length=16,
            ).frames  # fmt: skip

    plain, both = draw(), draw(DiTMem(memory=each))
    assert torch.equal(draw(DiTMem()), plain)
    changed = draw(DiTMem(memory=torch.cat((each[:1], -each[1:]))))
    torch.testing.assert_close(changed[0], both[0], rtol=1e-4, atol=1e-5)
    assert (changed[1] - both[1]).abs().max() > 1e-3
    one = draw(DiTMem(memory=each, negative="none"))
    assert min((one - other).abs().max() for other in (plain, both)) > 1e-3


@pytest.mark.parametrize("name", ["wan", "ltx"])
def test_a_time_for_each_token_gives_the_memory_that_of_the_noisiest(name: str) -> None:
    model, given, width = built(name)
    tokens, seen = memory(width), []
    n = given["hidden_states"][0, 0].numel() // 4 if name == "wan" else given["hidden_states"].shape[1]
    one = given | {"timestep": torch.tensor([700.0, 300.0], dtype=torch.float64)}
    times = one["timestep"][:, None].repeat(1, n)
    same = out(model, given | {"timestep": times}, DiTMem(memory=tokens))
    torch.testing.assert_close(same, out(model, one, DiTMem(memory=tokens)), rtol=1e-5, atol=1e-6)
    known = times.clone()
    known[:, : n // 3] = 0  # a clean first frame

    def look(call: AttentionCall) -> None:
        seen.append(call.host.enter(tokens.expand(2, -1, -1)))

    watching = looking(look, "host.enter", "host.stream")
    out(model, given | {"timestep": known}, watching)
    out(model, one, watching)
    first, second = seen[0], seen[len(seen) // 2]
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kernel", ["reference", "gather"])
def test_sparse_systems_leave_the_memory_open(kernel: str) -> None:
    model, given, width = built(dtype=torch.float32)
    tokens = memory(width, dtype=torch.float32)
    near, seen = Clear(radius=1.0), MemoryTokens(tokens, (4, 1, 1, 9, 2))
    wanted = out(model, given, near, DiTMem(memory=seen.expanded()), Dense(kernel="sdpa"))
    found = out(model, given, DiTMem(memory=seen), near, Dense(kernel=kernel))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    sparse = out(model, given, near)
    moved = (found - sparse).abs().amax(dim=(0, 1))
    assert (moved > 1e-6).all() and (found - out(model, given, DiTMem(memory=seen))).abs().max() > 1e-5


def test_half_precision_keeps_its_type_and_rounds_counts_no_further() -> None:
    model, given, width = built(dtype=torch.float32)
    model, given = model.bfloat16(), {
        k: v.bfloat16() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in given.items()
    }  # fmt: skip
    ten = MemoryTokens(memory(width, m=10, dtype=torch.float32), (100,) * 10)
    dense, found = (out(model, given, DiTMem(memory=m)) for m in (ten.expanded(), ten))
    assert found.dtype == torch.bfloat16
    plain = output(model, given)
    assert (found - dense).abs().max() < 0.2 * (dense - plain).abs().max()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_backbone_learns_nothing_and_gradients_reach_the_memory(checkpointed: bool) -> None:
    model, given, width = built()
    model.requires_grad_(False)
    (model.enable_gradient_checkpointing if checkpointed else model.disable_gradient_checkpointing)()
    tokens, held = memory(width).requires_grad_(), HeldMemory()
    with attach(model, DiTMem(memory=held)):
        with held.holding(MemoryTokens(tokens, (1, 2, 3, 4, 5))):
            loss = model(**given)[0].square().sum()
        loss.backward()  # each forward keeps the memory it began with
    wanted = tokens.grad.clone()
    tokens.grad = None
    model.disable_gradient_checkpointing()
    with attach(model, DiTMem(memory=MemoryTokens(tokens, (1, 2, 3, 4, 5)))):
        model(**given)[0].square().sum().backward()
    torch.testing.assert_close(wanted, tokens.grad, rtol=1e-10, atol=1e-12)
    assert wanted.abs().max() > 0 and all(p.grad is None for p in model.parameters())


def test_chosen_sites_and_heads_alone_read_it() -> None:
    model, given, width = built()
    tokens = memory(width)
    plain, deep = output(model, given), out(model, given, DiTMem(memory=tokens, where=at("blocks.1.*")))
    assert (deep - plain).abs().max() > 1e-5
    assert (deep - out(model, given, DiTMem(memory=tokens))).abs().max() > 1e-5
    halves = out(model, given, DiTMem(memory=tokens), where=at(heads=(1,)))
    assert (halves - plain).abs().max() > 1e-6


@pytest.mark.bad_input
def test_memory_that_does_not_fit_is_named() -> None:
    model, given, width = built(dtype=torch.float32)
    bad: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: out(model, given, DiTMem(memory=memory(width + 4))),
            f"memory of width {width + 4} cannot enter 'blocks.0.attn1', whose model has width {width}; make the enc",
        ),
        (lambda: out(model, given, DiTMem(memory=memory(width, b=3))), "memory has 3 rows for 2 samples; give one row"),
        (lambda: DiTMem(memory=torch.zeros(3)), r"tokens of shape \(3,\) must be \(prompts, tokens, width\)"),
        (lambda: DiTMem(negative="x"), "negative='x' is unknown; choose one of memory, zeros, none"),
        (lambda: MemoryTokens(torch.zeros(1, 2, 3), (1, 0)), r"counts=\(1, 0\) must be 2 numbers of at least 1"),
        (lambda: MemoryTokens(torch.zeros(1, 2, 3), (2,)), r"counts=\(2,\) must be 2 numbers of at least 1"),
    ]
    for make, said in bad:
        with pytest.raises(ValueError, match=said):
            make()


@pytest.mark.compile
def test_a_compiled_model_has_one_graph() -> None:
    model, given, width = built(dtype=torch.float32)
    system = DiTMem(memory=MemoryTokens(memory(width, dtype=torch.float32), (1, 2, 3, 4, 5)))
    wanted = out(model, given, system)
    counters.clear()
    found = out(torch.compile(model, backend="eager", fullgraph=True), given, system)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
