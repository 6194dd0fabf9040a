"""The classifier: published counts, official names, and what it refuses."""

from pathlib import Path

import pytest
import torch

from saccade.models import Architecture
from saccade.models.checkpoint_names import LoadError
from saccade.papers import NiNBlock, NiNformer
from saccade.papers.ninformer.model import SIZES, NiNformerConfig

SMALL = {"depth": 2, "width": 8, "hidden": 6, "side": 8, "patch": 2}


@pytest.mark.parametrize(("size", "count"), [("CIFAR-10", 2_652_170), ("CIFAR-100", 2_675_300), ("MNIST", 2_582_478)])
def test_parameters_of_published_sizes(size: str, count: int) -> None:
    assert NiNformer.parameters_of(SIZES[size]) == count


def test_parameters_of_a_block_by_formula() -> None:
    n, d, f = 64, 256, 512
    with torch.device("meta"):
        found = [sum(w.numel() for w in NiNBlock(d, tokens=n, hidden=f, shared_norm=s).parameters()) for s in (1, 0)]
    over_tokens, over_channels = n * f + f + f * n + n, 2 * d * f + f + d
    assert found[0] == 6 * d + over_tokens + 2 * over_channels + d**2 + d == 659_264
    assert found[1] == found[0] + 2 * d


def test_multiply_adds_are_linear_in_the_number_of_tokens() -> None:
    def inside(side: int) -> int:
        with torch.device("meta"):
            model = NiNformer.of("CIFAR-10", side=side)
            return model.macs(torch.zeros(1, 3, side, side)) - 256 * 10

    n, d, f = 64, 256, 512
    assert inside(32) == 4 * (2 * d * n * f + 2 * n * d * f + n * d**2 + 2 * n * d * f) + n * d * 48
    assert round(inside(32) / 1e6, 1) == 218.9 and inside(64) == 4 * inside(32)


def test_official_names_go_both_ways() -> None:
    model, other = NiNformer(**SMALL), NiNformer(**SMALL)  # type: ignore[arg-type]
    state = model.official_state()
    assert {"patcher.weight", "model.1.mgu.Mixer.token_mix.2.net.3.bias", "classifier.bias"} <= state.keys()
    assert other.load_official(state).complete
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(model.eval()(x), other.eval()(x))
    with pytest.raises(LoadError, match="unexpected: model.0.mgu.scale"):
        other.load_official({**state, "model.0.mgu.scale": torch.ones(1)})


def test_logits_are_read_from_the_mean_over_row_major_patches() -> None:
    model = NiNformer(**SMALL).double().eval()  # type: ignore[arg-type]
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    rows = [x[0, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten() for i in range(4) for j in range(4)]
    tokens = torch.stack(rows)[None] @ model.patches.conv.weight.flatten(1).T + model.patches.conv.bias
    for block in model.stack.blocks:
        tokens = block(tokens)
    torch.testing.assert_close(model(x), model.head(tokens.mean(1)))


def test_every_weight_learns_and_it_is_stored(tmp_path: Path) -> None:
    model = NiNformer(**SMALL, gate="conv", activation="tanh", shared_norm=False)  # type: ignore[arg-type]
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path)
    x = torch.randn(2, 3, 8, 8)
    assert again.config == model.config and torch.equal(again.eval()(x), model.eval()(x))


@pytest.mark.bad_input
def test_bad_input() -> None:
    with pytest.raises(ValueError, match="side=30 must be a multiple of patch=4"):
        NiNformerConfig(side=30)
    for name in ("width", "hidden", "depth"):
        with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
            NiNformer(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"dropout=1.0 must be in \[0, 1\)"):
        NiNformerConfig(dropout=1.0)
    model = NiNformer(**SMALL)  # type: ignore[arg-type]
    for shape in ((1, 3, 8, 16), (1, 3, 16, 16), (1, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"must be \(batch, 3, 8, 8\), as the config says"):
            model(torch.zeros(shape))
