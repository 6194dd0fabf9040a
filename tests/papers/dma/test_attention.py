"""Attention over the keys kept: three kernels against rows written out, gradients by the formulas, laws, refusals."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.errors import RefusedError
from saccade.papers.dma import Choice, dynamic_mask_attention, gathered, key_bias
from tests.papers.dma import reference

NEAR = {"atol": 1e-12, "rtol": 0}
every_kernel = pytest.mark.parametrize("kernel", ["dense", "gathered", "tiles"])
every_form = pytest.mark.parametrize("form", ["exp", "linear"])


def operands(n: int = 37, m: int = 37, *, h: int = 4, g: int = 2, b: int = 2, seed: int = 0) -> list[Tensor]:
    """q, k, v, W and A."""
    make = torch.Generator().manual_seed(seed)
    shapes = ((b, h, n, 6), (b, g, m, 6), (b, g, m, 6), (g, g * 6), (g,))
    drawn = [torch.randn(shape, generator=make, dtype=torch.float64) for shape in shapes]
    drawn[3] *= 0.3
    return [x.requires_grad_() for x in drawn]


def padding(m: int) -> Tensor:
    keep = torch.rand(2, m, generator=torch.Generator().manual_seed(3)) < 0.7
    keep[0, : m // 4] = False  # queries there see nothing
    return keep


def by_hand(bias: Tensor, n: int, window: int, keep: Tensor | None) -> Tensor:
    """(b g n m), row by row."""
    b, g, m = bias.shape
    rows = torch.zeros(b, g, n, m, dtype=torch.bool)
    for at in torch.cartesian_prod(*map(torch.arange, (b, g, n))).tolist():
        seen = [j <= at[2] + m - n and (keep is None or bool(keep[at[0], j])) for j in range(m)]
        rows[tuple(at)] = torch.tensor(reference.kept(bias[at[0], at[1]].tolist(), seen, window))
    return rows


@every_form
@every_kernel
@pytest.mark.parametrize(("n", "padded"), [(37, False), (37, True), (11, True), (1, False)])
def test_equals_rows_written_out_with_all_gradients(n: int, padded: bool, kernel: Any, form: Any) -> None:
    q, k, v, weight, a = inputs = operands(n)
    keep, choice = padding(37) if padded else None, Choice(window=6)
    bias = key_bias(v, weight, a, form)
    out = dynamic_mask_attention(q, k, v, bias, choice, mask=keep, kernel=kernel)
    written = torch.stack([reference.score(each, weight.detach(), a.detach(), form) for each in v.detach()])
    torch.testing.assert_close(bias.detach(), written, atol=1e-12, rtol=1e-12)
    kept = by_hand(written, n, 6, keep)
    wanted = reference.attention(q, k, v, bias[:, :, None].expand(-1, -1, n, -1), kept, 6**-0.5)
    torch.testing.assert_close(out, wanted, **NEAR)
    up = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found, exacts = (torch.autograd.grad(x, inputs, up, retain_graph=True) for x in (out, wanted))
    for ours, exact in zip(found, exacts, strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-12, rtol=1e-12)
    if padded and n == 37:
        assert torch.equal(out[0, :, :9], torch.zeros_like(out[0, :, :9]))


@every_form
def test_gradients_are_those_of_the_formulas(form: Any) -> None:
    q, k, v, weight, a = inputs = operands(13, 13, h=2)
    bias = key_bias(v, weight, a, form)
    up = torch.randn(q.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    out = dynamic_mask_attention(q, k, v, bias, Choice(window=4), kernel="gathered")
    found = torch.autograd.grad(out, inputs, up)
    kept = Choice(window=4).map(bias[:, :, None].detach(), 13)
    with torch.no_grad():
        dq, dk, dv, db, ds = reference.backward(q, k, v, bias, kept, 6**-0.5, up)
        joined = v.transpose(1, 2).flatten(2)
        z = (joined @ weight.T).mT
        step, slope = torch.nn.functional.softplus(z), torch.sigmoid(z) * a[:, None]
        own = db * bias if form == "exp" else db
        dz = own * slope
        d_weight = torch.einsum("bgm,bmc->gc", dz, joined)
        more = torch.einsum("bgm,gc->bmc", dz, weight).unflatten(2, (2, 6)).transpose(1, 2)
        wanted = (dq, dk, dv + more, d_weight, (own * step).sum((0, 2)))
    assert not ds[~kept.expand_as(ds)].any()
    for ours, exact in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-12, rtol=1e-12)
    assert found[3].abs().max() > 0 and found[4].abs().min() > 0


@every_form
def test_without_a_the_selector_has_no_gradient_and_a_has(form: Any) -> None:
    q, k, v, weight, a = operands(13, 13)
    a = torch.zeros_like(a).requires_grad_()
    out = dynamic_mask_attention(q, k, v, key_bias(v, weight, a, form), Choice(window=4))
    d_weight, d_a = torch.autograd.grad(out.square().sum(), (weight, a))
    assert not d_weight.any() and d_a.abs().min() > 0


@every_form
def test_a_key_that_nobody_keeps_passes_no_gradient_to_its_score(form: Any) -> None:
    q, k, v, weight, a = operands(20, 20)
    bias = key_bias(v, weight, a, form).detach().requires_grad_()
    out = dynamic_mask_attention(q, k, v, bias, Choice(window=3))
    (found,) = torch.autograd.grad(out.square().sum(), bias)
    kept = Choice(window=3).map(bias[:, :, None].detach(), 20).any(2)
    assert (~kept).any() and not found[~kept].any() and found[kept].any()


@every_kernel
@every_form
def test_a_window_no_shorter_than_the_text_is_attention_with_a_bias(form: Any, kernel: Any) -> None:
    q, k, v, weight, a = operands(19, 19)
    order = torch.ones(19, 19, dtype=torch.bool).tril()
    for scale in (0.0, 1.0):
        bias = key_bias(v, weight, scale * a, form)
        added = (torch.zeros(19, 19).double().masked_fill(~order, -torch.inf) + bias[:, :, None]).repeat_interleave(
            2, 1
        )
        mask = order if scale == 0 else added
        wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        found = dynamic_mask_attention(q, k, v, bias, Choice(window=19), kernel=kernel)
        torch.testing.assert_close(found, wanted, **NEAR)


@settings(max_examples=12)
@given(n=st.integers(1, 30), before=st.integers(0, 9), window=st.integers(1, 33), room=st.sampled_from([1, 1 << 24]))
def test_kernels_agree_at_any_length(n: int, before: int, window: int, room: int) -> None:
    q, k, v, weight, a = (x.detach() for x in operands(n, n + before, seed=n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathered, "ROOM", room)
        outs = [
            dynamic_mask_attention(q, k, v, key_bias(v, weight, a), Choice(window=window), kernel=kernel)
            for kernel in ("dense", "gathered", "tiles")
        ]
    torch.testing.assert_close(outs[1], outs[0], **NEAR)
    torch.testing.assert_close(outs[2], outs[0], **NEAR)


@every_kernel
def test_later_tokens_change_nothing_to_the_bit(kernel: Any) -> None:
    q, k, v, weight, a = (x.detach() for x in operands())
    changed = [torch.cat((x[:, :, :27], torch.randn_like(x[:, :, 27:])), dim=2) for x in (q, k, v)]
    outs = [
        dynamic_mask_attention(*each, key_bias(each[2], weight, a), Choice(window=6), kernel=kernel)
        for each in ((q, k, v), changed)
    ]
    assert torch.equal(outs[0][:, :, :27], outs[1][:, :, :27]) and not torch.equal(*outs)


@every_kernel
def test_a_constant_added_to_a_heads_scores_changes_nothing(kernel: Any) -> None:
    q, k, v, weight, a = (x.detach() for x in operands())
    bias = key_bias(v, weight, a)
    shifted = bias + torch.tensor([0.5, -2.0], dtype=torch.float64)[:, None]
    outs = [dynamic_mask_attention(q, k, v, each, Choice(window=6), kernel=kernel) for each in (bias, shifted)]
    torch.testing.assert_close(*outs, **NEAR)


@pytest.mark.parametrize("select", ["topk", "relu"])
def test_keys_in_another_order_give_the_same(select: Any) -> None:
    q, k, v, weight, a = (x.detach() for x in operands(5, 17))
    keep, order = padding(17), torch.randperm(17, generator=torch.Generator().manual_seed(1))
    bias, choice = key_bias(v, weight, a, "linear"), Choice(window=6, causal=False, select=select)
    whole = dynamic_mask_attention(q, k, v, bias, choice, mask=keep)
    moved = dynamic_mask_attention(q, k[:, :, order], v[:, :, order], bias[:, :, order], choice, mask=keep[:, order])
    torch.testing.assert_close(moved, whole, **NEAR)


@pytest.mark.parametrize("options", [{"select": "relu"}, {"block_size": 4}, {"select": "relu", "block_size": 3}])
def test_variants_are_attention_over_their_map(options: dict[str, Any]) -> None:
    q, k, v, weight, a = (x.detach() for x in operands(23, 23))
    bias, choice = key_bias(v, weight, a, "linear"), Choice(window=7, **options)
    kept = choice.map(bias[:, :, None], 23, padding(23)).expand(2, 2, 23, 23)
    assert not torch.triu(kept, 1).any() and not (kept & ~padding(23)[:, None, None]).any()
    assert (~kept.any(-1)).any()  # some queries keep nothing, and get 0
    wanted = reference.attention(q, k, v, bias[:, :, None].expand(-1, -1, 23, -1), kept, 6**-0.5)
    torch.testing.assert_close(dynamic_mask_attention(q, k, v, bias, choice, mask=padding(23)), wanted, **NEAR)


def test_scores_may_differ_by_query_and_may_choose_without_being_added() -> None:
    q, k, v, weight, a = (x.detach() for x in operands(9, 9))
    by_query = torch.randn(2, 2, 9, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()
    kept = Choice(window=3).map(by_query.detach(), 9)
    found = dynamic_mask_attention(q, k, v, by_query, Choice(window=3))
    torch.testing.assert_close(found, reference.attention(q, k, v, by_query, kept, 6**-0.5), **NEAR)
    assert torch.autograd.grad(found.square().sum(), by_query)[0][kept].any()
    bias = key_bias(v, weight, a)
    alone = dynamic_mask_attention(q, k, v, bias, Choice(window=3), additive=False)
    kept = Choice(window=3).map(bias[:, :, None], 9)
    torch.testing.assert_close(alone, reference.attention(q, k, v, 0 * by_query, kept, 6**-0.5), **NEAR)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_kernel
def test_errors_are_those_of_the_type(kernel: Any, dtype: torch.dtype) -> None:
    exact = [x.detach() for x in operands(70, 70)]
    q, k, v, weight, a = (x.to(dtype) for x in exact)
    bias = key_bias(v, weight, a)
    assert bias.dtype == torch.float32
    found = dynamic_mask_attention(q, k, v, bias, Choice(window=20), kernel=kernel).double()
    kept = Choice(window=20).map(bias[:, :, None], 70)
    near = [x.double() for x in (q, k, v)]
    wanted = reference.attention(*near, bias.double()[:, :, None].expand(-1, -1, 70, -1), kept, 6**-0.5)
    plain = torch.where(kept, bias[:, :, None], -torch.inf).to(dtype).repeat_interleave(2, dim=1)
    eager = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=plain, enable_gqa=True)
    budget = 2 * float((eager.double() - wanted).abs().max()) + 1e-5
    assert float((found - wanted).abs().max()) <= budget


def test_long_texts_are_gathered_and_short_ones_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr("saccade.papers.dma.attention.attend_gathered", lambda *args: taken.append(args) or args[0])
    for m, window in ((300, 40), (300, 200), (100, 10)):
        q, k, v, weight, a = (x.detach() for x in operands(m, m))
        dynamic_mask_attention(q, k, v, key_bias(v, weight, a), Choice(window=window))
    assert len(taken) == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": (2, 2, 6, 5)}, r"k \(2, 2, 6, 5\) .* must be \(b h n d\), \(b g m d\)"),
        ({"q": (2, 3, 6, 4)}, "h a multiple of g"),
        ({"q": (2, 4, 0, 4)}, "a dimension of size 0; give at least one of everything"),
        ({"q": (2, 4, 9, 4)}, "keys must be at least as many as queries"),
        ({"bias": (2, 3, 6)}, r"bias \(2, 3, 6\) must be \(2, 2, 6\) or broadcast to \(2, 2, 6, 6\)"),
        ({"mask": torch.ones(2, 5).bool()}, r"mask \(2, 5\) must be \(batch, 6\)"),
        ({"kernel": "flash"}, "kernel='flash' is unknown; choose one of gathered, tiles, dense"),
    ],
)
def test_operands_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    shapes = {"q": (2, 4, 6, 4), "k": (2, 2, 6, 4), "v": (2, 2, 6, 4), "bias": (2, 2, 6)}
    given_ = {name: torch.zeros(changes.get(name, shape)) for name, shape in shapes.items()}
    more = {name: value for name, value in changes.items() if name not in shapes}
    with pytest.raises(ValueError, match=message):
        dynamic_mask_attention(**given_, choice=Choice(window=3), **more)


@pytest.mark.bad_input
def test_weights_that_do_not_fit_the_heads_are_refused() -> None:
    v = torch.zeros(1, 2, 5, 4)
    with pytest.raises(ValueError, match=r"weight \(4, 8\) must be \(2, 8\): one score for each of the 2 key heads"):
        key_bias(v, torch.zeros(4, 8), torch.zeros(4))
    with pytest.raises(ValueError, match=r"a \(4,\) must be \(2,\): one number for each key head"):
        key_bias(v, torch.zeros(2, 8), torch.zeros(4))
    with pytest.raises(ValueError, match="form='cubic' is unknown; choose one of exp, linear"):
        key_bias(v, torch.zeros(2, 8), torch.zeros(2), "cubic")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choice", "more", "reason"),
    [
        (Choice(select="relu"), {}, "only the w best keys in causal order, block_size=1, have lifetimes"),
        (Choice(window=3), {"mask": torch.ones(1, 1, 6, 6).bool()}, "the mask differs by query; give padding as"),
        (Choice(window=3), {"bias": torch.zeros(2, 2, 6, 6)}, "the bias differs by query"),
    ],
)
def test_a_kernel_that_cannot_says_why(choice: Choice, more: dict[str, Any], reason: str) -> None:
    q, k, v = torch.zeros(2, 4, 6, 4), torch.zeros(2, 2, 6, 4), torch.zeros(2, 2, 6, 4)
    with pytest.raises(RefusedError, match=reason):
        dynamic_mask_attention(q, k, v, more.pop("bias", torch.zeros(2, 2, 6)), choice, kernel="gathered", **more)
