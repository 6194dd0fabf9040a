"""DiCo: published sizes, official names, any sides divisible by four, and what it may and may not see."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from saccade.models import Architecture
from saccade.models.checkpoint_names import State
from saccade.models.macs import macs
from saccade.nn.embedders import sinusoid
from saccade.papers.dico.model import SIZES, DiCo, DiCoConfig

TINY = DiCoConfig(width=8, depths=(1, 2, 1, 1, 2), channels=3, classes=5)


def _batch(h: int = 8, w: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(2, 3, h, w).double(), torch.tensor([3.0, 700.0]).double(), torch.tensor([0, 5])


def _stirred(model: DiCo) -> DiCo:
    """Weights that are no longer zero anywhere."""
    torch.manual_seed(0)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model.double()


def _multiplied(size: str, side: int) -> int:
    with torch.device("meta"):
        model, x = DiCo.of(size), torch.zeros(1, 4, side, side)
        return macs(model, x, torch.zeros(1), torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize(
    ("size", "count", "published", "gigas"),
    [
        ("S", 33_137_672, 4.25, 4.2365),
        ("B", 129_992_712, 16.88, 16.8558),
        pytest.param("L", 463_897_992, 60.24, 60.1688, marks=pytest.mark.slow),
        pytest.param("XL", 701_151_368, 87.30, 87.2210, marks=pytest.mark.slow),
        pytest.param("H", 1_037_408_328, 194.15, 194.0294, marks=pytest.mark.slow),
    ],
)
def test_sizes(size: str, count: int, published: float, gigas: float) -> None:
    assert DiCo.parameters_of(SIZES[size]) == count
    found = _multiplied(size, 32) / 1e9
    assert found == pytest.approx(gigas, abs=5e-5) and found == pytest.approx(published, rel=0.01)


@pytest.mark.slow
def test_cost_grows_with_the_area() -> None:
    small, large = _multiplied("XL", 32), _multiplied("XL", 64)
    assert large / 1e9 == pytest.approx(347.8599, abs=5e-5)
    fixed = small - (large - small) / 3  # what does not grow: embedders, modulations, gates
    assert large - fixed == 4 * (small - fixed) and 0 < fixed < 0.01 * small


@pytest.mark.parametrize("mixer", ["dico", "dico(gate='none')", "attention"])
def test_fresh_model_answers_zero_and_blocks_pass(mixer: str) -> None:
    model, (x, t, labels) = DiCo(TINY, mixer=mixer).double(), _batch()
    out, losses = model(x, t, labels)
    assert out.shape == (2, 6, 8, 12) and not out.any() and losses == {}
    seen: list[bool] = []
    for block in (*model.encoder1.children(), *model.middle.children(), *model.decoder1.children()):
        block.register_forward_hook(lambda _, given, part: seen.append(torch.equal(given[0], part.out)))
    model(x, t, labels)
    assert seen == [True] * 4


def _plain(w: State, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The official architecture on the official weights, convolution by convolution."""

    def conv(name: str, x: torch.Tensor, groups: int = 1) -> torch.Tensor:
        kernel = w[f"{name}.weight"]
        return F.conv2d(x, kernel, w.get(f"{name}.bias"), padding=kernel.shape[-1] // 2, groups=groups)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def vectors(name: str, c: torch.Tensor, count: int) -> list[torch.Tensor]:
        return [*linear(f"{name}.adaLN_modulation.1", F.silu(c))[..., None, None].chunk(count, dim=1)]

    def normed(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()

    def level(name: str, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        for i in range(len({key.split(".")[1] for key in w if key.startswith(f"{name}.")})):
            at = f"{name}.{i}"
            shift1, scale1, gate1, shift2, scale2, gate2 = vectors(at, c, 6)
            h = conv(f"{at}.conv1", normed(x) * (1 + scale1) + shift1)
            h = F.gelu(conv(f"{at}.conv2", h, groups=h.shape[1]))
            h = h * conv(f"{at}.ca.1", h.mean((2, 3), keepdim=True)).sigmoid()
            x = x + gate1 * conv(f"{at}.conv3", h)
            h = F.gelu(conv(f"{at}.conv4", normed(x) * (1 + scale2) + shift2))
            x = x + gate2 * conv(f"{at}.conv5", h)
        return x

    c = [
        linear(f"t_embedder_{i + 1}.mlp.2", F.silu(linear(f"t_embedder_{i + 1}.mlp.0", sinusoid(t).to(x.dtype))))
        + w[f"y_embedder.embedding_table_{i}.weight"][labels]
        for i in range(3)
    ]
    e1 = level("encoder_level_1", conv("x_embedder.proj", x), c[0])
    e2 = level("encoder_level_2", F.pixel_unshuffle(conv("down1_2.body.0", e1), 2), c[1])
    m = level("latent", F.pixel_unshuffle(conv("down2_3.body.0", e2), 2), c[2])
    g2 = torch.cat((F.pixel_shuffle(conv("up3_2.body.0", m), 2), e2), 1)
    g2 = level("decoder_level_2", conv("reduce_chan_level2", g2), c[1])
    g1 = torch.cat((F.pixel_shuffle(conv("up2_1.body.0", g2), 2), e1), 1)
    g1 = level("decoder_level_1", conv("reduce_chan_level1", g1), c[1])
    shift, scale = vectors("final_layer", c[1], 2)
    return conv("final_layer.out_proj", normed(g1) * (1 + scale) + shift)


@given(h=st.integers(1, 4), w=st.integers(1, 4))
@settings(deadline=None, max_examples=4)
def test_equals_a_plain_rewrite_on_official_weights(h: int, w: int) -> None:
    model, batch = _stirred(DiCo(TINY)), _batch(4 * h, 4 * w)
    torch.testing.assert_close(model(*batch).out, _plain(model.official_state(), *batch))


def test_official_names_round_trip() -> None:
    model, other = _stirred(DiCo(TINY)), DiCo(TINY).double()
    state = model.official_state()
    assert state["latent.0.ca.1.weight"].shape == (32, 32, 1, 1)
    assert state["encoder_level_2.1.adaLN_modulation.1.bias"].shape == (6 * 16,)
    assert state["final_layer.out_proj.weight"].shape == (6, 16, 3, 3)
    assert other.load_official(state).complete
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_stored_and_read(tmp_path: Path) -> None:
    model, batch = _stirred(DiCo(TINY, mixer="dico(kernel=5)", ratio=1.5)), _batch()
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path).double()
    assert again.config == model.config
    assert torch.equal(again(*batch).out, model(*batch).out)


def test_without_gates_a_shift_by_four_shifts_the_output() -> None:
    model = _stirred(DiCo(TINY, width=4, depths=(1, 1, 1, 1, 1), mixer="dico(gate='none')"))  # sees 21 pixels far
    _, t, labels = _batch()
    x = torch.zeros(2, 3, 72, 72).double()
    x[..., 32:40, 32:40] = torch.randn(2, 3, 8, 8)
    moved = model(x.roll((4, -8), (2, 3)), t, labels).out.roll((-4, 8), (2, 3))
    inner = (..., slice(32, 40), slice(32, 40))
    torch.testing.assert_close(moved[inner], model(x, t, labels).out[inner])
    askew = model(x.roll(2, 3), t, labels).out.roll(-2, 3)
    assert not torch.allclose(askew[inner], model(x, t, labels).out[inner])


@pytest.mark.parametrize(("mixer", "sees"), [("dico", True), ("dico(gate='none')", False)])
def test_only_the_gates_see_far(mixer: str, sees: bool) -> None:
    model, (_, t, labels) = _stirred(DiCo(TINY, mixer=mixer, depths=(1, 0, 0, 0, 1))), _batch()
    x = torch.randn(2, 3, 40, 40).double()
    y = x.clone()
    y[..., 0, 0] += 1
    assert (model(x, t, labels).out != model(y, t, labels).out)[..., 36:, 36:].any() == sees


def test_resampling_loses_nothing() -> None:
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2), x)
    y = torch.randn(2, 12, 4, 6)
    assert torch.equal(F.pixel_unshuffle(F.pixel_shuffle(y, 2), 2), y)


def test_one_picture_does_not_see_the_others() -> None:
    model, (x, t, labels) = _stirred(DiCo(TINY)), _batch()
    torch.testing.assert_close(model(x, t, labels).out[:1], model(x[:1], t[:1], labels[:1]).out)


def test_every_weight_learns() -> None:
    model = _stirred(DiCo(TINY))
    model(*_batch()).out.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_starts_xavier_uniform() -> None:
    model = DiCo(TINY, width=32)
    kernels = {"enter": model.enter, "down1": model.down1, "up1": model.up1, "join1": model.join1}
    for weight in (layer.weight for layer in kernels.values()):
        bound = (6 / ((weight.shape[0] + weight.shape[1]) * weight[0, 0].numel())) ** 0.5
        assert 0.9 * bound < weight.abs().max() <= bound
    assert model.label[2].table.weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.compile
def test_compiles_in_one_graph() -> None:
    model, batch = _stirred(DiCo(TINY)), _batch()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*batch).out, model(*batch).out)


def test_half_precision_errs_at_most_twice_as_much_as_the_plain_rewrite() -> None:
    model, (x, t, labels) = _stirred(DiCo(TINY)), _batch()
    exact = model(x, t, labels).out
    half = model.bfloat16()
    plain = _plain(half.official_state(), x.bfloat16(), t, labels)
    found = half(x.bfloat16(), t, labels).out
    assert found.dtype == torch.bfloat16
    assert (found - exact).abs().max() <= 2 * (plain - exact).abs().max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 9}, "width=9 must be even"),
        ({"depths": (1, 1, 1)}, "depths=(1, 1, 1) must be five numbers of blocks"),
        ({"ratio": 0.0}, "ratio=0.0 must be above 0"),
        ({"ratio": -1.0}, "ratio=-1.0 must be above 0"),
        ({"classes": 0}, "classes=0 must be at least 1"),
        ({"mixer": "dico(gate='all')"}, "gate='all' is unknown"),
    ],
)
def test_bad_configs(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        DiCo(TINY, **changes)
    assert message in str(error.value)


def test_bad_input() -> None:
    model, (x, t, labels) = DiCo(TINY).double(), _batch()
    with pytest.raises(ValueError, match=r"sides \(8, 10\) of x must be multiples of 4"):
        model(x[..., :10], t, labels)
    with pytest.raises(ValueError, match=r"sides \(6, 12\)"):
        model(x[..., :6, :], t, labels)
    with pytest.raises(ValueError, match=r"x of shape \(2, 2, 8, 12\) must have channels=3"):
        model(x[:, :2], t, labels)
    with pytest.raises(ValueError, match="label 6 is outside 0 to 5"):
        model(x, t, labels + 1)
