"""The network: published counts, blocks, strides, names both ways, folding, storage, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import saccade
from saccade.core.layout import Layout
from saccade.models.checkpoint_names import LoadError
from saccade.models.macs import macs
from saccade.models.sizing import parameters
from saccade.nn.part import MixerOutput, TokenPositions
from saccade.papers import Clear, PATNet, folded
from saccade.papers.patnet.block import PATBlock, drop_rows
from saccade.papers.patnet.spatial import PATMlp
from saccade.systems.dense import Dense

WITH = {"T0": 4_292_072, "T1": 7_793_328, "T2": 12_650_424, "S": 28_975_704, "M": 61_366_776, "L": 104_465_336}
WITHOUT = {"T2": 12_269_816, "S": 28_013_304, "M": 59_179_000, "L": 100_641_336}
GIGA = {"T0": (0.249, 0.260), "T1": (0.552, 0.576), "T2": (1.033, 1.078), "S": (2.705, 2.828), "M": (6.673, 6.996),
        "L": (11.882, 12.466)}  # fmt: skip
TINY: dict[str, Any] = {"width": 16, "depths": (1, 1, 2, 1), "pooled": 24, "classes": 5}


def stirred(**changes: Any) -> PATNet:
    """Weights and running statistics of any value."""
    torch.manual_seed(0)
    model = PATNet(**(TINY | changes))
    for name, value in model.state_dict().items():
        if "running_var" in name:
            value.copy_(torch.rand_like(value) + 0.5)
        elif value.is_floating_point():
            value.add_(torch.randn_like(value) * (0.3 if value.ndim < 2 else value[0].numel() ** -0.5))
    return model.eval()


@pytest.mark.parametrize("size", sorted(WITH))
def test_published_parameters(size: str) -> None:
    with torch.device("meta"):
        model, six = PATNet.of(size), PATNet.of(size, heads=6)
        assert parameters(model) == WITH[size] and parameters(six) - parameters(model) == 4 * 162
        if size in WITHOUT:
            assert parameters(PATNet.of(size, spatial=False)) == WITHOUT[size]


@pytest.mark.parametrize("size", ["T0", "T2", *(pytest.param(size, marks=pytest.mark.slow) for size in ("T1", *"SML"))])
def test_published_multiply_adds(size: str) -> None:
    with torch.device("meta"):
        model, bare, x = PATNet.of(size).eval(), PATNet.of(size, spatial=False).eval(), torch.zeros(1, 3, 224, 224)
        found = macs(bare, x), macs(model, x)
        assert tuple(round(count / 1e9, 3) for count in found) == GIGA[size]
        assert 0 < macs(folded(model), x) - found[0] < 2e-3 * found[0]  # what weighs places remains


def test_depths_of_the_released_files_are_there_by_name() -> None:
    assert PATNet.sizes["T0-yaml"].depths == PATNet.sizes["T1-yaml"].depths == (1, 2, 8, 2)


def test_maps_lie_at_strides_4_to_32() -> None:
    for dense in (False, True):
        model = PATNet(**TINY, dense=dense).eval()
        maps = model.features(torch.randn(1, 3, 64, 96))
        assert [(*each.shape[1:],) for each in maps] == [(16, 16, 24), (32, 8, 12), (64, 4, 6), (128, 2, 3)]
    assert [(*each.shape,) for each in model(torch.randn(1, 3, 64, 96))] == [(*each.shape,) for each in maps]
    assert not any("head" in name or "pool" in name for name in model.state_dict())


def test_blocks_are_those_of_the_paper() -> None:
    model, x = stirred(), torch.randn(2, 16, 4, 4)
    first, last = model.stages[0][0], model.stages[3][0]
    torch.testing.assert_close(first(x), x + first.mlp(first.mixer.layer(x)))
    x = torch.randn(2, 128, 2, 3)
    mixed = x + last.mixer.layer(x)
    torch.testing.assert_close(last(x), mixed + last.mlp(mixed))
    assert [block.residual for stage in model.stages for block in stage] == [False, False, False, False, True]


def test_fasternet_is_partial_convolutions_alone() -> None:
    model = PATNet(**TINY, mixers=("pconv",) * 4, spatial=False)
    block, x = model.stages[3][0].eval(), torch.randn(2, 128, 2, 2)
    assert not block.residual and parameters(block.mixer) == 9 * 32**2
    torch.testing.assert_close(block(x), x + block.mlp(block.mixer.layer(x)))
    both = PATBlock("pconv(residual=True)", 8, 1, PATMlp(8)).eval()
    y = torch.randn(1, 8, 3, 3)
    mixed = y + both.mixer.layer(y)
    torch.testing.assert_close(both(y), mixed + both.mlp(mixed))


def test_any_mixer_of_the_kit_stands_in_a_stage() -> None:
    mixers = ("pat_ch", "pconv(divide=2)", "ulsam", "attention(head_dim=8)")
    model = PATNet(**TINY, mixers=mixers)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5) and model.stages[1][0].mixer.layer.convolved == 16


def test_layer_scale_weighs_the_branch() -> None:
    block, x = PATBlock("pat_ch", 8, 1, PATMlp(8), layer_scale=0.5).eval(), torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(block(x), x + 0.5 * block.mlp(block.mixer.layer(x)))
    assert torch.equal(PATBlock("pat_ch", 8, 1, PATMlp(8), layer_scale=0.0).eval()(x), x)


def test_branches_are_dropped_by_row_in_training_only() -> None:
    x = torch.ones(4000, 1, 1, 1)
    dropped = drop_rows(x, 0.25)
    assert sorted({*dropped.flatten().tolist()}) == pytest.approx([0.0, 4 / 3]) and 0.95 < dropped.mean() < 1.05
    assert drop_rows(x, 0.0) is x
    block, rows = PATBlock("pat_ch", 8, 1, PATMlp(8), drop=0.5), torch.randn(64, 8, 3, 3)
    kept = (block(rows) != rows).flatten(1).any(1)
    assert 10 < kept.sum() < 54 and (block.eval()(rows) != rows).flatten(1).any(1).all()


def test_later_blocks_are_dropped_more() -> None:
    model = PATNet(**TINY, drop_path=0.4)
    drops = [block.drop for stage in model.stages for block in stage]
    assert drops == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_the_folded_network_computes_the_same(spatial: bool, act: str) -> None:
    model, x = stirred(spatial=spatial, act=act), torch.randn(2, 3, 64, 32)
    lean = folded(model)
    with torch.no_grad():
        out = model(x)
        torch.testing.assert_close(lean(x), out, rtol=1e-5, atol=1e-5 * float(out.abs().max()))
        assert macs(lean, x) < macs(model, x) or not spatial
        torch.testing.assert_close(folded(model.double())(x.double()), model(x.double()))
    with pytest.raises(ValueError, match="model is folded already"):
        folded(lean)


def test_folding_leaves_the_model_alone() -> None:
    model, x = stirred().train(), torch.randn(2, 3, 32, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded(model)(x)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("changes", [{}, {"dense": True}, {"spatial": False, "layer_scale": 0.1}], ids=str)
def test_official_names_both_ways(changes: dict[str, Any]) -> None:
    model, x = stirred(**changes), torch.randn(1, 3, 32, 32)
    state = model.official_state()
    assert "stages.0.blocks.0.spatial_mixing.attn.cfc1.weight" in state
    assert "stages.6.blocks.0.spatial_mixing.attn.rpe_k.lookup_table_bias" in state
    assert "stages.5.reduction.weight" in state and ("norm6.weight" in state) == model.config.dense
    assert ("stages.0.blocks.0.mlp.4.norm2.bias" in state) == model.config.spatial
    again = PATNet(model.config).eval()
    assert again.load_official({"state_dict": {f"model.{name}": value for name, value in state.items()}}).complete
    for one, two in zip(again.features(x), model.features(x), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(LoadError, match="1 unexpected: stages.0.blocks.0.more"):
        again.load_official(state | {"stages.0.blocks.0.more": torch.zeros(1)})


def test_is_stored_and_read_back(tmp_path: Path) -> None:
    model, x = stirred(layer_scale=0.5), torch.randn(1, 3, 32, 32)
    model.save_pretrained(tmp_path)
    again = PATNet.from_pretrained(tmp_path).eval()
    assert again.config == model.config and torch.equal(again(x), model(x))


def test_starts_as_the_paper_says() -> None:
    model = PATNet(width=32, depths=(1, 1, 1, 1))
    weight = model.stages[2][0].mlp.enter.weight
    assert (
        0.019 < weight.std() < 0.021
        and not model.head.bias.any()
        and not model.stages[3][0].mixer.layer.attention.bias.table.any()
    )
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d | nn.LayerNorm)]
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)


def test_trains() -> None:
    model = PATNet(**TINY)
    model(torch.randn(3, 3, 64, 64)).logsumexp(1).sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_systems_attach_to_the_attention_of_the_last_stage() -> None:
    model, x = stirred(), torch.randn(2, 3, 128, 160)
    layout, before = Layout.joint(text=0, grid=(1, 4, 5)), model(x)
    with saccade.attach(model, Dense(), layout=layout) as run:
        assert [site.name for site in run.sites] == ["stages.3.0.mixer.layer.attention"]
        assert torch.equal(model(x), before)
    with saccade.attach(model, Clear(radius=1.5), layout=layout):
        assert not torch.allclose(model(x), before)
    assert torch.equal(model(x), before)


class Losing(nn.Module):
    """A mixer with a loss of its own."""

    def forward(self, x: torch.Tensor, place: TokenPositions) -> MixerOutput:
        return MixerOutput(x, {"balance": x.sum()})


def test_bad_input() -> None:
    for options, message in (
        ({"mixers": ("pat_ch", "pat_ch", "channel", "pat_sf")}, "no mixer is named 'channel'; there are "),
        ({"mixers": ("pat_ch",)}, r"mixers=\('pat_ch',\) must be 4, one for each stage"),
        ({"depths": (1, 1, 1)}, r"depths=\(1, 1, 1\) must be 4"),
        ({"depths": (1, 1, 1, -1)}, "must be numbers of blocks, at least 0"),
        ({"drop_path": 1.0}, r"drop_path=1.0 must be in \[0, 1\)"),
        ({"heads": 5}, "width=96 must be a multiple of heads=5"),
        ({"divide": 1}, "divide=1 must be at least 2"),
        ({"classes": 0}, "classes=0 must be at least 1"),
        ({"act": "silu"}, "act='silu' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            PATNet(**(TINY | options))
    model = PATNet(**TINY).eval()
    for shape in ((1, 3, 48, 64), (1, 3, 32, 0), (1, 3, 16, 32)):
        with pytest.raises(ValueError, match=r"of x must be multiples of 32; pad or resize it"):
            model(torch.randn(shape))
    with pytest.raises(ValueError, match=r"x of shape \(1, 4, 32, 32\) must be pictures \(b, 3, h, w\)"):
        model(torch.randn(1, 4, 32, 32))
    with pytest.raises(ValueError, match="this batch holds one picture"):
        model.train()(torch.randn(1, 3, 64, 64))
    model.stages[0][0].mixer = Losing()
    with pytest.raises(ValueError, match=r"losses of its own \(balance\) and logits hand none on"):
        model(torch.randn(2, 3, 32, 32))
    with pytest.raises(ValueError, match=r"drop=1.5 must be in \[0, 1\)"):
        PATBlock("pat_ch", 8, 1, PATMlp(8), drop=1.5)


@pytest.mark.compile
def test_compiles_whole() -> None:
    model, x = stirred(), torch.randn(2, 3, 32, 32)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
