"""FlashBias as a system: what it plans where, and the door's functions."""

import warnings

import pytest
import torch
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.core.call import plain_call
from saccade.core.catalogue import lookup
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.mechanism import System
from saccade.core.site import Site, at
from saccade.core.stack import make_plan, run_plan
from saccade.core.state import Memory
from saccade.ops.parts import attend_parts
from saccade.papers.flashbias import (
    PAPER,
    Alibi,
    BiasTable,
    Cosine,
    FactoredBias,
    FlashBias,
    LearnedDistance,
    SpatialDistance,
    attention_with_factors,
    factorize,
)
from saccade.papers.flashbias.prior_bias import PriorBias

SITE = Site(name="blocks.3.attn", index=3, count=8, kind="joint", heads=2)
JOINT = Layout.joint(text=3, grid=(1, 4, 4))
CPU = torch.device("cpu")


def attended(system: FlashBias, q: Tensor, k: Tensor, v: Tensor, layout: Layout = JOINT) -> Tensor:
    plan = make_plan({system.name: system.plan(SITE, Clock())}, SITE, layout, layout, CPU)
    call = plain_call(q, k, v, layout=layout)
    return run_plan(plan, call, {system.name: Memory()}, attend_parts).total


def operands(n: int = JOINT.n) -> list[Tensor]:
    return list(torch.randn(3, 1, 2, n, 8, generator=torch.Generator().manual_seed(0)))


def test_it_is_registered_with_its_citation() -> None:
    entry = lookup("flashbias")
    assert entry.load() is FlashBias and isinstance(FlashBias(), System)
    assert "wu2025flashbias" in PAPER.bibtex and PAPER.arxiv == "2505.12044" and PAPER.claims and PAPER.deviations


def test_image_tokens_attend_with_the_prior_and_text_as_before() -> None:
    q, k, v = operands()
    places, image = JOINT.coords().double(), JOINT.is_("image")
    bias = -2.0 * (places[:, None] - places).square().sum(-1) / 16 * (image[:, None] & image)
    scores = q.double() @ k.double().mT * 8**-0.5 + bias
    out = attended(FlashBias(prior=SpatialDistance(strength=2.0)), q, k, v)
    torch.testing.assert_close(out.double(), scores.softmax(-1) @ v.double(), rtol=1e-5, atol=1e-5)


def test_a_neutral_prior_plans_nothing() -> None:
    assert FlashBias(prior=SpatialDistance(strength=0.0)).plan(SITE, Clock()) == ()


def test_plans_of_one_phase_are_equal_values() -> None:
    system = FlashBias(prior=SpatialDistance(strength=2.0) + Cosine(period=4.0, axis="x"), where=at(heads=(1,)))
    first, second = (system.plan(SITE, Clock(step=s, num_steps=4)) for s in (0, 3))
    assert first == second and hash(first) == hash(second)
    assert first == (PriorBias(prior=system.prior, heads=(1,)),)  # type: ignore[arg-type]


def test_where_chooses_sites_and_steps() -> None:
    system = FlashBias(where=at("*.3.*", during=(0.0, 0.5)))
    assert system.plan(SITE, Clock(step=1, num_steps=4)) != ()
    assert system.plan(SITE, Clock(step=2, num_steps=4)) == ()
    assert system.plan(Site(name="blocks.4.attn", kind="joint", heads=2), Clock()) == ()
    assert FlashBias().plan(Site(name="blocks.3.attn", kind="cross", heads=2), Clock()) == ()


def test_sites_may_have_priors_of_their_own() -> None:
    learned = LearnedDistance(weight=torch.ones(4))
    near = SpatialDistance(strength=3.0)
    system = FlashBias(prior={"*.3.*": near, "*.4.*": learned, "*.5.*": FactoredBias()})
    plans = [system.plan(Site(name=f"blocks.{i}.attn", kind="joint", heads=2), Clock()) for i in range(3, 7)]
    assert plans == [(PriorBias(prior=near),), (learned,), (FactoredBias(),), ()]


def test_the_scale_of_the_host_is_applied_once() -> None:
    q, k, v = operands()
    plan = make_plan({"flashbias": FlashBias().plan(SITE, Clock())}, SITE, JOINT, JOINT, CPU)
    assert plan.bias is not None
    for scale in (1.0, 0.1):
        call = plain_call(q, k, v, layout=JOINT, scale=scale)
        out = run_plan(plan, call, {"flashbias": Memory()}, attend_parts).total
        scores = q @ k.mT * scale + plan.bias.materialize(JOINT.n, JOINT.n)
        torch.testing.assert_close(out, scores.softmax(-1) @ v, rtol=1e-5, atol=1e-5)


def test_factorize_takes_formulas_and_tables() -> None:
    exact = factorize(Alibi(), tokens=(7, 9), heads=4)
    assert (exact.rank, exact.rel_err, exact.phi_q.shape[2], exact.phi_k.shape[2]) == (2, 0.0, 7, 9)
    values = exact.phi_q @ exact.phi_k.mT
    by_svd = factorize(Alibi(), method="svd", tokens=(7, 9), heads=4, energy=1.0)
    assert by_svd.rank == 1 and by_svd.rel_err < 1e-12  # row means apart, ALiBi is one column
    assert factorize(values, energy=1.0).rank == 1
    grid = factorize(SpatialDistance(), tokens=Layout.image_only((1, 3, 5)))
    assert grid.rank == 4


def test_factorize_learns_from_features() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 16, 2)
    b = -torch.cdist(x, x)[0].square()
    factors = factorize(b, method="neural", features=(x, x), max_rank=6, steps=60)
    assert factors.rank == 6 and factors.rel_err < 0.6
    table = b - b.mean(-1, keepdim=True)
    residual = b - (factors.phi_q @ factors.phi_k.mT)[0, 0]
    lost = (residual - residual.mean(-1, keepdim=True)).norm() / table.norm()
    assert factors.rel_err == pytest.approx(lost.item(), rel=1e-3)


def test_factors_give_the_attention_of_their_bias() -> None:
    q, k, v = (x.double() for x in operands())
    factors = factorize(Alibi(), tokens=JOINT.n, heads=2)
    want = (q @ k.mT * 8**-0.5 + factors.phi_q @ factors.phi_k.mT).softmax(-1) @ v
    torch.testing.assert_close(attention_with_factors(q, k, v, factors), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: factorize(Alibi()), "speaks about places; give tokens="),
        (lambda: factorize(torch.eye(4), method="exact"), "method='exact' needs a formula, a Prior"),
        (
            lambda: factorize(torch.eye(4), method="neural"),
            r"learns from features; give features=\(per query, per key\)",
        ),
        (lambda: factorize(torch.eye(4), method="guess"), "method='guess' must be one of"),  # type: ignore[arg-type]
        (lambda: factorize(Alibi(), tokens=5, max_rank=1), "max_rank=1 is below the 2 exact columns"),
        (lambda: factorize(torch.full((3, 3), torch.inf)), "9 entries that are nan or inf.*separate mask"),
    ],
)
def test_bad_input_is_named(make, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        make()


def test_too_small_a_rank_warns_with_the_energy_achieved() -> None:
    with pytest.warns(UserWarning, match=r"max_rank=1 keeps less than energy=0.995 .* keeps 0\.\d+"):
        assert factorize(torch.eye(6), max_rank=1).rank == 1


@pytest.mark.filterwarnings("ignore:the table is kept dense")
def test_a_table_beyond_the_rank_rule_runs_dense_and_exact() -> None:
    q, k, v = operands()
    table = 3 * torch.eye(16)
    bias = torch.zeros(19, 19)
    bias[3:, 3:] = table
    out = attended(FlashBias(prior=BiasTable(values=table, max_rank=4)), q, k, v)
    torch.testing.assert_close(out, (q @ k.mT * 8**-0.5 + bias).softmax(-1) @ v, rtol=1e-5, atol=1e-5)


def test_half_precision_keeps_long_positions() -> None:
    n, layout = 700, Layout.plain(700)
    q, k, v = torch.randn(3, 1, 2, n, 8, generator=torch.Generator().manual_seed(1))
    system = FlashBias(prior=Alibi(slopes=(0.5, 0.37)), tokens="*")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half = attended(system, *(x.bfloat16() for x in (q, k, v)), layout=layout)
    order = torch.arange(n, dtype=torch.float64)
    bias = torch.tensor([0.5, 0.37], dtype=torch.float64)[:, None, None] * (order - order[:, None])
    rounded = [x.bfloat16().double() for x in (q, k, v)]
    truth = (rounded[0] @ rounded[1].mT * 8**-0.5 + bias).softmax(-1) @ rounded[2]
    assert (half.double() - truth).abs().max() < 0.03


def test_rank_of_the_default_is_its_dimensions_plus_two() -> None:
    bias = make_plan({"f": FlashBias().plan(SITE, Clock())}, SITE, JOINT, JOINT, CPU).bias
    assert isinstance(bias, LowRank) and bias.rank == 4
