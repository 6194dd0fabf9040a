"""The gating unit and the block: a plain rewrite, their limits, what they see, and what they refuse."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from saccade.nn.part import TokenPositions
from saccade.nn.token_mlp import TokenMlp
from saccade.papers import MixerGatingUnit, NiNBlock

TOKENS, WIDTH = 6, 5
PLACE = TokenPositions(grid=(2, 3))
X = torch.randn(2, TOKENS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def stirred(module: Any, seed: int = 0) -> Any:
    noise = torch.Generator().manual_seed(seed)
    module = module.double()
    for weight in module.parameters():
        weight.data = torch.randn(weight.shape, dtype=weight.dtype, generator=noise) * 0.5
    return module


def unit(**options: Any) -> MixerGatingUnit:
    return stirred(MixerGatingUnit(WIDTH, tokens=TOKENS, **{"hidden": 7, **options}))


def block(**options: Any) -> NiNBlock:
    return stirred(NiNBlock(WIDTH, tokens=TOKENS, **{"hidden": 7, **options}))


def still(network: Any, *, tokens: bool = True, channels: bool = True) -> Any:
    """The inner network with residual branches at zero."""
    for layer in [network.mix.net[3]] * tokens + [network.ffn[3]] * channels:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return network


def projecting(made: Any, weight: torch.Tensor, bias: float) -> Any:
    made.projection.weight.data.copy_(weight)
    made.projection.bias.data.fill_(bias)
    return made


def layer_norm(x: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    spread = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return (x - x.mean(-1, keepdim=True)) / spread * norm.weight + norm.bias


def fed(x: torch.Tensor, net: nn.Sequential) -> torch.Tensor:
    hidden = x @ net[0].weight.T + net[0].bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return hidden @ net[3].weight.T + net[3].bias


def gate_by_loops(x: torch.Tensor, made: MixerGatingUnit) -> torch.Tensor:
    """The inner Mixer, channel by channel and token by token."""
    inner: Any = made.inner
    normed, m = layer_norm(x, inner.norm1), x.clone()
    for channel in range(WIDTH):
        m[..., channel] += fed(normed[..., channel], inner.mix.net)
    out = m.clone()
    for token in range(TOKENS):
        out[:, token] += fed(layer_norm(m[:, token], inner.norm2), inner.ffn)
    return out


@pytest.mark.parametrize("token_hidden", [None, 4])
def test_unit_equals_a_plain_rewrite(token_hidden: int | None) -> None:
    made = unit(token_hidden=token_hidden)
    projected = X @ made.projection.weight.T + made.projection.bias  # type: ignore[union-attr, operator]
    torch.testing.assert_close(made(X, PLACE).out, projected * gate_by_loops(X, made))


@pytest.mark.parametrize("shared", [True, False])
def test_block_equals_a_plain_rewrite(shared: bool) -> None:
    made = block(shared_norm=shared)
    normed = layer_norm(X, made.norm)
    x = X + (normed @ made.unit.projection.weight.T + made.unit.projection.bias) * gate_by_loops(normed, made.unit)
    second = made.norm if shared else made.second_norm
    torch.testing.assert_close(made(X), x + fed(layer_norm(x, second), made.ffn))  # type: ignore[arg-type]


def test_a_shared_norm_is_stored_once() -> None:
    shared, own = (NiNBlock(WIDTH, tokens=TOKENS, shared_norm=shared) for shared in (True, False))
    norms = [name for name in shared.state_dict() if "norm" in name]
    assert len(shared.state_dict()) == 20 and len(norms) == 6 and norms[:2] == ["norm.weight", "norm.bias"]
    counts = [sum(weight.numel() for weight in each.parameters()) for each in (shared, own)]
    assert counts[1] - counts[0] == 2 * WIDTH and len(own.state_dict()) == 22


def test_still_branches_leave_a_product_of_each_token_with_its_projection() -> None:
    made = unit()
    still(made.inner)
    assert torch.equal(made.gate(X, PLACE), X)
    torch.testing.assert_close(made(X, PLACE).out, made.projection(X) * X)
    projecting(made, torch.eye(WIDTH), 0.0)
    torch.testing.assert_close(made(X, PLACE).out, X * X)
    torch.testing.assert_close(made(-X, PLACE).out, made(X, PLACE).out)


def test_a_projection_of_ones_is_the_mixer_and_of_zeros_leaves_the_feed_forward() -> None:
    made, zero = block(), torch.zeros(WIDTH, WIDTH)
    projecting(made.unit, zero, 1.0)
    assert torch.equal(made.unit(X, PLACE).out, made.unit.gate(X, PLACE))
    projecting(made.unit, zero, 0.0)
    torch.testing.assert_close(made(X), X + made.ffn(made.norm(X)))


@given(token=st.integers(0, TOKENS - 1))
def test_tokens_meet_in_the_token_feed_forward_alone(token: int) -> None:
    made, moved = block(), X.clone()
    moved[:, token] += torch.linspace(-1, 1, WIDTH, dtype=torch.float64)
    changed = (made(X) - made(moved)).abs().amax((0, 2)) > 1e-9
    assert changed.all()
    still(made.unit.inner, channels=False)
    changed = (made(X) - made(moved)).abs().amax((0, 2)) > 1e-12
    assert changed.tolist() == [i == token for i in range(TOKENS)]


@given(order=st.permutations(range(TOKENS)))
def test_places_matter_through_the_token_feed_forward_alone(order: list[int]) -> None:
    made = block()
    if order != list(range(TOKENS)):
        assert not torch.allclose(made(X[:, order]), made(X)[:, order])
    still(made.unit.inner, channels=False)
    torch.testing.assert_close(made(X[:, order]), made(X)[:, order])


@given(shift=st.floats(-50, 50))
def test_a_constant_on_a_token_passes_by_both_branches(shift: float) -> None:
    made = block()
    moved = X + shift * torch.arange(TOKENS, dtype=torch.float64)[:, None]
    torch.testing.assert_close(made(moved) - moved, made(X) - X, atol=1e-9, rtol=1e-7)


def test_the_derivative_is_that_of_a_product() -> None:
    made, x = unit(), X[:1]
    mixer: Any = torch.autograd.functional.jacobian(lambda x: made.gate(x, PLACE), x)
    found: Any = torch.autograd.functional.jacobian(lambda x: made(x, PLACE).out, x)
    numbers = TOKENS * WIDTH
    gate, projected = made.gate(x, PLACE).flatten(), made.projection(x).flatten()
    weights = torch.block_diag(*[made.projection.weight] * TOKENS)  # type: ignore[list-item]
    wanted = gate.diag() @ weights + projected.diag() @ mixer.view(numbers, numbers)
    torch.testing.assert_close(found.view(numbers, numbers), wanted)
    assert torch.autograd.gradcheck(block(), (x.clone().requires_grad_(),))


def test_dropout_acts_in_training_only() -> None:
    made = block(dropout=0.5)
    assert not torch.equal(made(X), made(X))
    made.eval()
    assert torch.equal(made(X), made(X)) and torch.equal(made(X), block().eval()(X))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_a_bounded_gate(activation: str) -> None:
    free, bounded = unit(), unit(activation=activation)
    torch.testing.assert_close(bounded.gate(X, PLACE), getattr(torch, activation)(free.gate(X, PLACE)))


def test_a_static_gate_is_the_same_for_all_pictures_and_starts_open() -> None:
    made = MixerGatingUnit(WIDTH, tokens=TOKENS, gate="static").double()
    torch.testing.assert_close(made(X, PLACE).out, made.projection(X))
    stirred(made)
    torch.testing.assert_close(made(X, PLACE).out, made.projection(X) * made.inner.weight)
    made.reset()
    assert torch.equal(made.gate(X, PLACE), torch.ones_like(X))


def test_without_a_projection_tokens_gate_themselves() -> None:
    made = unit(projection=False)
    assert torch.equal(made(X, PLACE).out, X * made.gate(X, PLACE))


def test_other_ways_to_mix_inside() -> None:
    normed = unit(gate="fourier").inner.norm1
    fourier, conv = (still_channels(unit(gate=gate)) for gate in ("fourier", "conv"))
    spectrum = torch.fft.fft(torch.fft.fft(layer_norm(X, normed), dim=1), dim=2).real / (TOKENS * WIDTH) ** 0.5
    torch.testing.assert_close(fourier.gate(X, PLACE), X + spectrum)
    kernel, x = conv.inner.mix.local.conv, layer_norm(X, conv.inner.norm1).mT.unflatten(-1, (2, 3))
    near = F.conv2d(x, kernel.weight, kernel.bias, padding=1, groups=WIDTH).flatten(2).mT
    torch.testing.assert_close(conv.gate(X, PLACE), X + near)


def still_channels(made: Any) -> Any:
    for weight in made.inner.ffn[3].parameters():
        nn.init.zeros_(weight)
    return made


def test_under_autocast_the_product_is_float32() -> None:
    made = MixerGatingUnit(2, tokens=1, hidden=2)
    still(made.inner)
    projecting(made, 300 * torch.eye(2), 0.0)
    x = torch.tensor([[[100.0, -100.0]]])
    with torch.autocast("cpu", torch.float16):
        out = made(x, TokenPositions()).out
    assert out.dtype == torch.float32  # float16 ends at 65504
    torch.testing.assert_close(out, torch.full((1, 1, 2), 3e6))


def test_token_mlp_is_one_feed_forward_for_every_channel() -> None:
    made = stirred(TokenMlp(WIDTH, tokens=TOKENS, hidden=4))
    wanted = torch.stack([fed(X[..., channel], made.net) for channel in range(WIDTH)], dim=-1)
    torch.testing.assert_close(made(X, PLACE).out, wanted)


def test_reset_starts_as_pytorch_does() -> None:
    torch.manual_seed(3)
    made = MixerGatingUnit(8, tokens=4)
    stirred(made).float().reset()
    assert made.projection.weight.abs().max() <= 8**-0.5 and torch.equal(made.inner.norm1.weight, torch.ones(8))


@pytest.mark.bad_input
def test_bad_input() -> None:
    made = unit()
    with pytest.raises(ValueError, match="'ninformer' was made for tokens=6 and got 5: its weights belong to places"):
        made(X[:, :5], TokenPositions())
    keep = torch.ones(2, TOKENS, dtype=torch.bool)
    for place in (TokenPositions(causal=True), TokenPositions(lengths=(2, 4)), TokenPositions(keep=keep)):
        with pytest.raises(ValueError, match="causal, packed or padded sequences need 'attention'"):
            made(X, place)
    with pytest.raises(ValueError, match="gate='fft' is unknown; choose one of mixer, fourier, conv, static"):
        MixerGatingUnit(4, tokens=3, gate="fft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="activation='relu' is unknown"):
        MixerGatingUnit(4, tokens=3, activation="relu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tokens=0 must be a whole number of at least 1"):
        MixerGatingUnit(4, tokens=0)
    with pytest.raises(ValueError, match="hidden=0 of a feed-forward must be at least 1"):
        MixerGatingUnit(4, tokens=3, hidden=0)
    for dropout in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"dropout={dropout} must be in \[0, 1\)"):
            NiNBlock(4, tokens=3, dropout=dropout)
    with pytest.raises(ValueError, match=r"needs a grid \(h, w\) of 6 tokens"):
        unit(gate="conv")(X, TokenPositions())
