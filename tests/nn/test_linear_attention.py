"""Linear attention, gated convolution and DyDiLA against plain rewrites in double precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.models.dit import DiT
from saccade.nn.linear_attention import GatedConv, LinearAttention
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_mixer
from saccade.nn.routing import record_routing
from saccade.ops.linear import focused_features, normalised, relu_features
from saccade.papers.dydila.differential_linear import DifferentialLinearAttention, Measure, Projectors, TokenRouter

GRID = TokenPositions(grid=(3, 4))


def _mixer(**options: object) -> DifferentialLinearAttention:
    torch.manual_seed(0)
    return DifferentialLinearAttention(16, 2, **options).double()  # type: ignore[arg-type]


def _x(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 12, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _phi(z: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    z = z.clamp(min=0) + 1e-6
    return z**g * z.norm(dim=-1, keepdim=True) / (z**g).norm(dim=-1, keepdim=True)


def _plain(m: DifferentialLinearAttention, x: torch.Tensor) -> torch.Tensor:
    """The paper's lines, one token, one head, one pair at a time."""
    bank = {"q": m.redundant_q, "k": m.redundant_k}
    rows = []
    for picture in x:
        q, k, v = (picture @ w.mT for w in m.qkv.weight.chunk(3))
        r = {
            side: torch.stack([p.bank[(p.router.linear.weight @ token).argmax()] @ token for token in picture])
            for side, p in bank.items()
        }
        heads = []
        for h in range(m.heads):
            cut = slice(h * m.head_dim, (h + 1) * m.head_dim)

            def kernel(z: torch.Tensor, measure: Measure, cut: slice = cut) -> torch.Tensor:
                chosen = (z[:, cut] @ measure.router.linear.weight.mT).argmax(-1)
                return _phi(z[:, cut], measure.exponents[chosen][:, None])

            qt, kt = kernel(q, m.measure_q), kernel(k, m.measure_k)
            qr, kr = kernel(r["q"], m.measure_rq), kernel(r["k"], m.measure_rk)
            lq = m.factors[(torch.cat((qt, qr), -1) @ m.factor_q.linear.weight.mT).argmax(-1)][:, None]
            lk = m.factors[(torch.cat((kt, kr), -1) @ m.factor_k.linear.weight.mT).argmax(-1)][:, None]
            scores = (qt - lq * qr) @ (kt - lk * kr).mT
            heads.append(scores @ v[:, cut] / len(kt) / (qt @ kt.mean(0) + 1e-6)[:, None])
        rows.append(torch.cat(heads, dim=-1))
    return m.out(torch.stack(rows))


def _vary(m: DifferentialLinearAttention) -> DifferentialLinearAttention:
    """Banks whose entries differ, so that choices matter."""
    for name, weight in m.named_parameters():
        if "exponents" in name:
            weight.data.uniform_(1, 6)
        if name == "factors":
            weight.data.uniform_(0, 0.3)
    return m


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_lines_of_the_paper(training: bool) -> None:
    mixer = _vary(_mixer(local=0)).train(training)
    torch.testing.assert_close(mixer(_x(), GRID).out, _plain(mixer, _x()), rtol=1e-9, atol=1e-12)


def test_local_term_is_added_to_it() -> None:
    mixer = _mixer(local=3)
    v = _x() @ mixer.qkv.weight.chunk(3)[2].mT
    local = mixer.local.conv(v.mT.unflatten(-1, (3, 4))).flatten(2).mT
    torch.testing.assert_close(
        mixer(_x(), GRID).out - _plain(mixer, _x()), local @ mixer.out.weight.mT, atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize("exponent", [1.0, 3.0])
def test_without_difference_it_is_focused_linear_attention(exponent: float) -> None:
    mixer = _mixer(exponent=exponent, factor=0.0, local=0)
    plain = LinearAttention(16, 2, features="focused", exponent=exponent).double()
    plain.load_state_dict(mixer.state_dict(), strict=False)
    torch.testing.assert_close(mixer(_x(), GRID).out, plain(_x(), GRID).out, rtol=1e-12, atol=1e-12)
    off = _mixer(exponent=exponent, difference=False, local=0)
    off.load_state_dict(mixer.state_dict(), strict=False)
    torch.testing.assert_close(off(_x(), GRID).out, plain(_x(), GRID).out, rtol=1e-12, atol=1e-12)
    if exponent == 1:
        relu = LinearAttention(16, 2, features="relu").double()
        relu.load_state_dict(plain.state_dict())
        torch.testing.assert_close(plain(_x(), GRID).out, relu(_x(), GRID).out, rtol=1e-12, atol=1e-12)


def test_products_associate_and_expand_into_four() -> None:
    q, k, rq, rk, v = (torch.rand(1, 2, 7, 5, dtype=torch.float64) for _ in range(5))
    lq, lk = torch.rand(2, 1, 2, 7, 1, dtype=torch.float64)
    qd, kd = q - lq * rq, k - lk * rk
    rows = (q @ k.mT).sum(-1, keepdim=True) + 7e-6
    made = normalised(qd, kd, v, below=(q, k))
    torch.testing.assert_close(made, (qd @ kd.mT) @ v / rows, rtol=1e-12, atol=1e-12)
    four = q @ k.mT - q @ (lk * rk).mT - lq * (rq @ k.mT) + lq * (rq @ (lk * rk).mT)
    torch.testing.assert_close(made, four @ v / rows, rtol=1e-12, atol=1e-12)


@given(g=st.floats(1, 16), c=st.floats(0.01, 100))
@settings(deadline=None, max_examples=30)
def test_features_keep_length_and_scale(g: float, c: float) -> None:
    z = torch.randn(5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    made = focused_features(z, g)
    torch.testing.assert_close(made.norm(dim=-1), relu_features(z).norm(dim=-1))
    torch.testing.assert_close(focused_features(c * z, g), c * made, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(focused_features(z, 1.0), relu_features(z))


def test_higher_powers_sharpen() -> None:
    z = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    peaks = [(f := focused_features(z, g)).amax(-1).div(f.norm(dim=-1)).mean() for g in (1.0, 2.0, 3.0, 6.0)]
    assert peaks == sorted(peaks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_zero_vectors_and_steep_powers_stay_finite(dtype: torch.dtype) -> None:
    z = torch.cat((torch.zeros(1, 8), -torch.ones(1, 8), torch.randn(3, 8) * 50)).to(dtype).requires_grad_()
    exponent = torch.full((5, 1), 16.0, requires_grad=True)
    made = focused_features(z, exponent)
    made.float().sum().backward()
    assert made.isfinite().all() and made[:2].abs().max() < 1e-5
    assert z.grad.isfinite().all() and exponent.grad.isfinite().all()


def test_choices_are_hard_forward_and_soft_backward() -> None:
    side = Projectors(6, 3).double()
    x = torch.randn(1, 5, 6, dtype=torch.float64)
    every = torch.einsum("bni,udi->bnud", x, side.bank)
    index = side.router(x).index
    picked = every.gather(2, index[..., None].expand(-1, -1, -1, 6))[:, :, 0]
    assert torch.equal(side(x), picked)
    torch.testing.assert_close(side.eval()(x), picked)
    weight = torch.randn_like(picked)
    (side.train()(x) * weight).sum().backward()
    probs = side.router.linear(x).softmax(-1)
    wanted = torch.autograd.grad(
        (probs[..., None] * every.detach() * weight[:, :, None]).sum(), side.router.linear.weight
    )[0]
    torch.testing.assert_close(side.router.linear.weight.grad, wanted)
    hard = torch.zeros_like(side.bank)
    for token, chosen, w in zip(x[0], index[0, :, 0], weight[0], strict=True):
        hard[chosen] += w[:, None] * token
    torch.testing.assert_close(side.bank.grad, hard)


def test_gradients_reach_everything() -> None:
    mixer = _vary(_mixer())
    mixer(_x(), GRID).out.square().sum().backward()
    still = [name for name, w in mixer.named_parameters() if w.grad is None or not w.grad.any()]
    assert still == []


def test_one_choice_makes_routers_idle() -> None:
    mixer = _mixer(projectors=1, exponents=1, factors=1)
    mixer(_x(), GRID).out.square().sum().backward()
    routers = [m for m in mixer.modules() if isinstance(m, TokenRouter)]
    assert len(routers) == 8 and all(r.linear.weight.grad.abs().max() < 1e-12 for r in routers)


def test_tokens_may_be_permuted_without_the_local_term() -> None:
    mixer, order = _vary(_mixer(local=0)), torch.randperm(12)
    torch.testing.assert_close(mixer(_x()[:, order], GRID).out, mixer(_x(), GRID).out[:, order])


def test_rows_of_the_undifferenced_map_are_a_distribution() -> None:
    mixer = _mixer(factor=0.0, local=0)
    q, k, _ = mixer.operands(_x(), GRID)
    rows = (q @ k.mT) / (q @ k.sum(2)[..., None])
    assert (rows >= 0).all()
    torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows.sum(-1)))


@pytest.mark.parametrize("text", ["dydila(local=0)", "linear", 'linear(features="focused")'])
def test_padding_counts_for_nothing(text: str) -> None:
    mixer, x = make_mixer(text, 16, 2).eval(), _x().float()
    keep = torch.arange(12).expand(2, 12) < 9
    torch.testing.assert_close(mixer(x, TokenPositions(keep=keep)).out[:, :9], mixer(x[:, :9], TokenPositions()).out)


def test_extra_parameters() -> None:
    d, e, projectors, exponents, factors = 16, 8, 3, 9, 9
    plain = sum(w.numel() for w in LinearAttention(16, 2).parameters())
    extra = (
        2 * projectors * d * d + 2 * d * projectors + 4 * (e * exponents + exponents) + 2 * 2 * e * factors + factors
    )
    assert sum(w.numel() for w in DifferentialLinearAttention(16, 2, local=0).parameters()) == plain + extra


def test_no_map_of_all_pairs_is_made() -> None:
    mixer, n = DifferentialLinearAttention(16, 2, local=0).eval(), 512
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            largest = max(
                [largest, *(o.numel() for o in (out if isinstance(out, tuple) else (out,)) if torch.is_tensor(o))]
            )
            return out

    with Watch(), torch.no_grad():
        mixer(torch.randn(1, n, 16), TokenPositions())
    assert largest <= 2 * n * 3 * 16 < n * n


def test_signed_and_no_normaliser() -> None:
    x = _x()
    for normaliser in ("none", "signed"):
        mixer = _vary(_mixer(local=0, normaliser=normaliser))
        q, k, v = mixer.operands(x, GRID)
        qd, kd = mixer.differenced(x, q, k, GRID)
        scores = qd @ kd.mT
        wanted = scores @ v * 8**-0.5 if normaliser == "none" else scores @ v / (scores.sum(-1, keepdim=True) + 12e-6)
        torch.testing.assert_close(mixer(x, GRID).out, mixer.out(wanted.transpose(1, 2).flatten(2)))


def test_its_choices_are_recorded() -> None:
    mixer = _mixer()
    with record_routing(mixer) as found:
        mixer(_x(), GRID)
    assert found["redundant_q.router"][0].index.shape == (2, 12, 1) and len(found) == 8


def test_gated_conv_is_its_formula() -> None:
    ffn, x = GatedConv(4, ratio=1.5), torch.randn(1, 12, 4)
    up = ffn.local.conv
    a, b = up(ffn.up(x).mT.unflatten(-1, (3, 4))).flatten(2).mT.chunk(2, dim=-1)
    torch.testing.assert_close(ffn(x, GRID).out, ffn.down(a * torch.nn.functional.silu(b)))


def test_a_dit_of_these_parts_learns() -> None:
    model = DiT(depth=1, width=16, heads=2, side=8, channels=3, classes=3, mixer="dydila(local=3)", ffn="gated_conv")
    x, t, labels = torch.randn(2, 3, 8, 8), torch.rand(2), torch.tensor([0, 3])
    assert not model(x, t, labels).out.any()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    model(x, t, labels).out.square().sum().backward()
    assert all(w.grad is not None for w in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projectors": 0}, "choices=0 of a router must be at least 1"),
        ({"exponent": 0.5}, r"exponent=0.5 must be in \[1, 16\]"),
        ({"normaliser": "rows"}, "normaliser='rows' must be"),
        ({"local": 4}, "local=4 must be an odd side"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DifferentialLinearAttention(16, 2, **options)  # type: ignore[arg-type]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="width=16 must be a multiple of heads=3"):
        DifferentialLinearAttention(16, 3)
    with pytest.warns(UserWarning, match=r"factor=1.5 outside \[0, 1\)"):
        DifferentialLinearAttention(16, 2, factor=1.5)
    with pytest.raises(ValueError, match=r"local convolution needs a grid \(h, w\) of 12 tokens; place.grid=\(3, 3\)"):
        _mixer()(_x(), TokenPositions(grid=(3, 3)))
    with pytest.raises(ValueError, match="causal or packed sequences need 'attention'"):
        _mixer()(_x(), TokenPositions(grid=(3, 4), causal=True))
    with pytest.raises(ValueError, match="features='gelu' must be one of relu, elu, focused"):
        LinearAttention(16, 2, features="gelu")  # type: ignore[arg-type]
