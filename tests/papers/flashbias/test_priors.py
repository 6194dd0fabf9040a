"""Priors: what each says, how they add and multiply, and how they are laid on a layout's tokens."""

import pytest
import torch
from torch import Tensor

from saccade.core.biases import Bias, BiasSum, DenseBias, LowRank
from saccade.core.layout import Layout, Segment
from saccade.papers.flashbias.place_priors import Alibi, Cosine, Polynomial, SegmentBias, SpatialDistance
from saccade.papers.flashbias.prior_bias import PriorBias, prior_tokens
from saccade.papers.flashbias.priors import Prior, PriorTokens

HEADS = 4
JOINT = Layout.joint(text=3, grid=(1, 4, 6))
CPU = torch.device("cpu")


def dense(bias: Bias, layout: Layout = JOINT) -> Tensor:
    return bias.materialize(layout.n, layout.n)


def laid(prior: Prior, layout: Layout = JOINT, **options) -> Tensor:  # noqa: ANN003
    return dense(PriorBias(prior=prior, **options).bind(layout, layout, HEADS, CPU), layout)


def squared_distance(layout: Layout) -> Tensor:
    at = layout.coords()[layout.is_("image")].double()
    return (at[:, None] - at).square().sum(-1)


def image_part(values: Tensor, layout: Layout = JOINT) -> Tensor:
    chosen = layout.is_("image")
    return values[..., chosen, :][..., chosen]


@pytest.mark.parametrize("text_first", [True, False])
@pytest.mark.parametrize(
    "prior", [SpatialDistance(), Alibi(), Cosine(period=5), Polynomial(coefficients=((0, 1), (1,)))][:3]
)
def test_text_gets_a_bias_of_exactly_zero(prior: Prior, text_first: bool) -> None:
    layout = Layout.joint(text=3, grid=(1, 4, 6), text_first=text_first)
    values, text = laid(prior, layout), layout.is_("text")
    assert values[..., text, :].eq(0).all() and values[..., text].eq(0).all()
    assert image_part(values, layout).abs().max() > 0


def test_distance_is_measured_in_tokens_or_sides() -> None:
    tokens = image_part(laid(SpatialDistance(strength=0.5, unit="token")))
    torch.testing.assert_close(tokens.double(), -0.5 * squared_distance(JOINT).expand_as(tokens), rtol=1e-5, atol=1e-5)
    sides = image_part(laid(SpatialDistance(strength=0.5)))
    torch.testing.assert_close(sides, tokens / 36, rtol=1e-5, atol=1e-5)


def test_the_same_strength_means_the_same_on_a_larger_grid() -> None:
    small, large = (Layout.image_only((1, n, n)) for n in (4, 8))
    corners = [laid(SpatialDistance(), layout)[0, 0, 0, -1].item() for layout in (small, large)]
    assert corners == pytest.approx([-2 * (3 / 4) ** 2, -2 * (7 / 8) ** 2], rel=1e-5)


def test_distance_on_videos_counts_time_in_lengths() -> None:
    layout = Layout.image_only((4, 2, 2))
    values = laid(SpatialDistance(), layout)[0, 0]
    assert values[0, 4].item() == pytest.approx(-1 / 16) and values[0, 1].item() == pytest.approx(-1 / 4)


@pytest.mark.parametrize("strength", [(0.1, 0.2, 0.0, 0.4), 0.3])
def test_strengths_count_per_head(strength: float | tuple[float, ...]) -> None:
    values = laid(SpatialDistance(strength=strength))
    per_head = values[0, :, 3, -1].expand(HEADS) / values[0, -1, 3, -1]
    wanted = torch.tensor(strength if isinstance(strength, tuple) else (strength,)).expand(HEADS)
    torch.testing.assert_close(per_head, wanted / wanted[-1])


def test_alibi_falls_into_the_past_with_the_right_sign() -> None:
    layout = Layout.plain(9)
    values = laid(Alibi(), layout, tokens="*")[0]
    assert values[:, 8, 0].tolist() == pytest.approx([-8 * 2.0 ** (-2 * (h + 1)) for h in range(HEADS)])
    torch.testing.assert_close(laid(Alibi(compat="official"), layout, tokens="*")[0], -values)


def test_one_column_forms_give_the_same_attention_where_all_keys_have_a_bias() -> None:
    layout = Layout.image_only((1, 4, 6))
    for full, short in ((Alibi(), Alibi(form="keys")), (SpatialDistance(), SpatialDistance(form="keys"))):
        a, b = (laid(prior, layout).double() for prior in (full, short))
        torch.testing.assert_close(a.softmax(-1), b.softmax(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "prior", [Alibi(form="keys"), SpatialDistance(form="keys"), SpatialDistance() + Alibi(form="keys")]
)
def test_one_column_forms_are_refused_beside_keys_without_the_bias(prior: Prior) -> None:
    with pytest.raises(
        ValueError, match="exact only up to a constant per query.*text 3 | image 24.*keeps row constants"
    ):
        laid(prior)


def test_priors_add_and_multiply() -> None:
    a, b = Cosine(period=7), SpatialDistance(strength=0.3)
    torch.testing.assert_close(laid(a + b), laid(a) + laid(b), rtol=0, atol=1e-6)
    torch.testing.assert_close(laid(a * b), laid(a) * laid(b), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="a row constant cannot be dropped before multiplying"):
        _ = Alibi(form="keys") * a


def test_neutral_priors_say_so() -> None:
    zero, some = SpatialDistance(strength=0.0), SpatialDistance()
    assert zero.neutral and (zero + zero).neutral and (zero * some).neutral and Cosine(period=3, amplitude=0).neutral
    assert SegmentBias(values=(("image", "text", 0.0),)).neutral
    assert not some.neutral and not (zero + some).neutral


def test_waves_run_along_one_axis() -> None:
    values = image_part(laid(Cosine(period=4, amplitude=2.0, axis="x")))[0, 0]
    assert values[0, :6].tolist() == pytest.approx([2, 0, -2, 0, 2, 0], abs=1e-6)
    torch.testing.assert_close(values[0, 6:12], values[0, :6])


def test_segments_bias_pairs_of_segments() -> None:
    values = laid(SegmentBias(values=(("image", "text", 0.5), ("text", "text", -1.0))), tokens="*")[0, 0]
    image, text = JOINT.is_("image"), JOINT.is_("text")
    assert values[image][:, text].eq(0.5).all() and values[text][:, text].eq(-1).all()
    assert values[:, image].eq(0).all()


def test_heads_without_the_bias_keep_zero() -> None:
    values = laid(SpatialDistance(), heads=(1, 3))
    assert values[0, [0, 2]].eq(0).all() and values[0, [1, 3]].abs().amax((-1, -2)).gt(0).all()


def test_two_named_pictures_may_have_one_bias_each() -> None:
    layout = Layout((Segment("a", "image", 4, (1, 2, 2)), Segment("b", "image", 4, (1, 2, 2))))
    values = laid(SpatialDistance(), layout, tokens="b")[0, 0]
    assert values[:4].eq(0).all() and values[4:, 4:].abs().max() > 0


def test_columns_are_split_where_bfloat16_would_round_them() -> None:
    layout = Layout.plain(600)
    fine, rough = (
        PriorBias(prior=Alibi(), tokens="*", split_columns=flag).bind(layout, layout, 8, CPU) for flag in (True, False)
    )
    assert isinstance(fine, LowRank) and isinstance(rough, LowRank) and (fine.rank, rough.rank) == (4, 2)
    torch.testing.assert_close(dense(fine, layout), dense(rough, layout), rtol=0, atol=1e-4)
    halves = LowRank(fine.phi_q.bfloat16().float(), fine.phi_k.bfloat16().float())
    torch.testing.assert_close(dense(halves, layout), dense(rough, layout), rtol=0, atol=1e-4)


def test_rules_are_values() -> None:
    a, b = (PriorBias(prior=SpatialDistance(strength=0.5) + Alibi()) for _ in range(2))
    assert a == b and hash(a) == hash(b) and a != PriorBias(prior=Alibi())


def test_dense_terms_are_laid_like_factors() -> None:
    class Given(Prior):
        def bias(self, q: PriorTokens, k: PriorTokens, heads: int) -> Bias:
            return DenseBias(torch.ones(1, 1, len(q.order), len(k.order)))

    bias = PriorBias(prior=Given() + Cosine(period=3)).bind(JOINT, JOINT, HEADS, CPU)
    assert isinstance(bias, BiasSum)
    torch.testing.assert_close(dense(bias), laid(Given()) + laid(Cosine(period=3)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Alibi(form="row"), "form='row' must be one of"),
        (lambda: Alibi(compat="theirs"), "compat='theirs' must be one of"),
        (lambda: SpatialDistance(unit="pixel"), "unit='pixel' must be one of"),
        (lambda: Cosine(period=0), "period=0 must be positive"),
        (lambda: Cosine(period=2, axis="z"), "axis='z' must be one of"),
        (lambda: laid(SpatialDistance(), tokens="*"), "meets tokens without one .*choose tokens='image'"),
        (lambda: laid(SpatialDistance(), tokens="picture"), "tokens='picture' selects nothing in text 3"),
        (lambda: laid(SpatialDistance(strength=(1.0, 2.0))), r"strength=\(1.0, 2.0\) has 2 entries for 4 heads"),
        (lambda: laid(Alibi(slopes=(1.0, 2.0, 3.0))), r"slopes=\(1.0, 2.0, 3.0\) has 3 entries for 4 heads"),
        (lambda: laid(SpatialDistance(), heads=(4,)), r"heads=\[4\] must lie in 0..3"),
    ],
)
def test_bad_options_are_named(make, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        make()


def test_prior_tokens_know_order_and_places() -> None:
    chosen = prior_tokens(JOINT, "image")
    assert chosen.order.tolist() == list(range(24)) and chosen.place[-1].tolist() == [0, 3, 5]
