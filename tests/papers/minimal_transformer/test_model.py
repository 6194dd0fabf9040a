"""The minimal transformer: the replication's counts, its block, over-determination, and what it refuses."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from saccade.models import Architecture
from saccade.papers import MinimalTransformer, overdetermination
from saccade.papers.minimal_transformer.model import MinimalTransformerConfig

COUNTS = {
    "unchanged+mlp": (156_298, 165_450), "wqk+mlp": (131_338, 140_490), "wqk_novo+mlp": (81_418, 90_570),
    "unchanged": (106_378, 115_530), "cholesky-1": (68_938, 78_090), "cholesky-4": (59_722, 68_874),
    "wqk": (81_418, 90_570), "wqk_novo": (31_498, 40_650),
}  # fmt: skip
SMALL = {"depth": 2, "width": 8, "side": 8, "patch": 4, "classes": 3}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_of_the_replication(name: str) -> None:
    found = tuple(
        MinimalTransformer.parameters_of(MinimalTransformer.sizes[f"{data}/{name}"]) for data in ("MNIST", "CIFAR-10")
    )
    assert found == COUNTS[name] and len(MinimalTransformer.sizes) == 16


def test_no_weight_stands_idle() -> None:
    full, bare = (MinimalTransformerConfig(use_mlp=mlp) for mlp in (True, False))
    counts = [MinimalTransformer.parameters_of(config) for config in (full, bare)]
    assert counts == [156_298, 106_378 - 6 * 2 * 64]
    wide = MinimalTransformerConfig(ratio=4.0)
    assert MinimalTransformer.parameters_of(wide) - counts[0] == 6 * (2 * 3 * 64**2 + 3 * 64)  # 2 h N^2 + (h + 1) N


@pytest.mark.parametrize("use_mlp", [True, False])
def test_equals_a_plain_rewrite(use_mlp: bool) -> None:
    model = MinimalTransformer(**SMALL, heads=2, use_mlp=use_mlp).double().eval()  # type: ignore[arg-type]
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(2, 4, 16)  # row-major
    tokens = patches @ model.patches.conv.weight.flatten(1).T + model.patches.conv.bias
    tokens = torch.cat((model.token.expand(2, -1, -1), tokens), 1) + model.positions
    for block in model.blocks:
        attention, layer = block.attention, block.attention.similarity
        q, k, v = (each(tokens).view(2, 5, 2, 4).transpose(1, 2) for each in (layer.query, layer.key, attention.value))
        mixed = ((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).reshape(2, 5, 8)
        tokens = F.layer_norm(tokens + attention.out(mixed), (8,), block.norm1.weight, block.norm1.bias)
        if use_mlp:
            fed = block.mlp.down(F.gelu(block.mlp.up(tokens)))
            tokens = F.layer_norm(tokens + fed, (8,), block.norm2.weight, block.norm2.bias)
    torch.testing.assert_close(model(x), model.head(tokens[:, 0]))


def test_every_weight_learns_and_it_is_stored(tmp_path: Path) -> None:
    model = MinimalTransformer(**SMALL, kind="symmetric/cholesky", use_mlp=False)  # type: ignore[arg-type]
    model(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    model.save_pretrained(tmp_path)
    again, x = Architecture.from_pretrained(tmp_path), torch.randn(2, 1, 8, 8)
    assert again.config == model.config and torch.equal(again.eval()(x), model.eval()(x))


def test_dropout_acts_in_training_only() -> None:
    model, x = MinimalTransformer(**SMALL, dropout=0.5), torch.randn(2, 1, 8, 8)  # type: ignore[arg-type]
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_overdetermination() -> None:
    assert round(overdetermination(60_000, 10, 156_298), 2) == 3.84
    with pytest.warns(UserWarning, match=r"Q=0.50 is below 1: 20,000 parameters for 10,000 targets"):
        assert overdetermination(1000, 10, 20_000) == 0.5
    with pytest.raises(ValueError, match="samples=0 must be at least 1"):
        overdetermination(0, 10, 100)


@pytest.mark.bad_input
def test_bad_input() -> None:
    with pytest.raises(ValueError, match="side=28 must be a multiple of patch=8"):
        MinimalTransformerConfig(patch=8)
    with pytest.raises(ValueError, match="width=64 must be a multiple of heads=5"):
        MinimalTransformer(heads=5)
    with pytest.raises(ValueError, match="kind='wqk' with heads=4 stores 4 matrices"):
        MinimalTransformer(kind="wqk", heads=4)
    with pytest.raises(ValueError, match="compat='repl' is unknown; choose one of none, replication"):
        MinimalTransformerConfig(compat="repl")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ratio=0.0 leaves no channel"):
        MinimalTransformerConfig(ratio=0.0)
    with pytest.raises(ValueError, match=r"x of shape \(1, 1, 32, 32\) must be \(batch, 1, 28, 28\)"):
        MinimalTransformer(depth=1)(torch.zeros(1, 1, 32, 32))
