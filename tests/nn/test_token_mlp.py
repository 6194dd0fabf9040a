"""Mixers made for one number of tokens, and feed-forwards beside them, in models that know how many there are."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from saccade.models import CausalLM, DiT, ViT
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_feedforward, make_mixer

SIZES: dict[str, Any] = {"depth": 1, "width": 8, "heads": 2, "side": 8, "patch": 2}
X = torch.randn(1, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
PLACE = TokenPositions(grid=(2, 3))


@pytest.mark.parametrize("mixer", ["token_mlp", "ninformer", "token_mlp(hidden=3)"])
def test_models_say_how_many_tokens_there_are(mixer: str) -> None:
    assert ViT(**SIZES, mixer=mixer).blocks[0].mixer.tokens == 16
    assert ViT(**SIZES, mixer=mixer, pool="class").blocks[0].mixer.tokens == 17
    denoiser = DiT(**SIZES, mixer=mixer)
    assert denoiser.blocks[0].mixer.tokens == 16
    assert denoiser(torch.randn(2, 4, 8, 8), torch.rand(2), torch.tensor([0, 1])).out.shape == (2, 8, 8, 8)
    for pool in ("mean", "class"):
        assert ViT(**SIZES, mixer=mixer, pool=pool)(torch.randn(2, 3, 8, 8)).out.shape == (2, 10)


def test_a_number_that_is_named_goes_first_and_none_is_an_error() -> None:
    assert make_mixer("token_mlp(tokens=5)", 8, 2, tokens=16).tokens == 5
    with pytest.raises(
        ValueError, match="mixer 'token_mlp' is made for one number of tokens; give it, as in tokens=64"
    ):
        make_mixer("token_mlp", 8, 2)
    with pytest.raises(ValueError, match="mixer 'ninformer' is made for one number of tokens"):
        CausalLM(vocabulary=5, depth=1, width=8, heads=2, mixer="ninformer")


def test_token_mixing_is_static_and_fourier_is_unitary() -> None:
    mixer, fourier = make_mixer("token_mlp(tokens=6)", 4, 1).double(), make_mixer("fourier", 4, 1)
    found: Any = torch.autograd.functional.jacobian(lambda x: mixer(x, PLACE).out, X)
    crossed = found[0, :, :, 0].abs().amax((0, 2)) > 0
    assert torch.equal(crossed, torch.eye(4, dtype=torch.bool))  # channels never meet
    spectrum = torch.fft.fft2(X, norm="ortho")
    torch.testing.assert_close(fourier(X, PLACE).out, spectrum.real)
    torch.testing.assert_close(spectrum.abs().square().sum(), X.square().sum())
    assert fourier(X.half(), PLACE).out.dtype == torch.float16


def test_local_mlp_looks_at_neighbours() -> None:
    ffn = make_feedforward("local_mlp(ratio=2)", 4).double()
    hidden = F.gelu(ffn.up(X)).mT.unflatten(-1, (2, 3))
    kernel = ffn.local.conv
    hidden = F.gelu(F.conv2d(hidden, kernel.weight, kernel.bias, padding=1, groups=8)).flatten(2).mT
    torch.testing.assert_close(ffn(X, PLACE).out, ffn.down(hidden))
    assert torch.equal(make_feedforward("none", 4)(X, PLACE).out, torch.zeros_like(X))
