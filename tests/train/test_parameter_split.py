"""Which weights go to which optimiser: by rule, by pattern, in a table; what is refused."""

import pytest
import torch
from torch import nn

from saccade.models import DiT
from saccade.nn.moe import MoE
from saccade.train.muon import Muon
from saccade.train.parameter_split import Assigned, ParameterSplit, split_params


class Small(nn.Module):
    """Some of everything, its head tied to its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 8)
        self.stem, self.conv = nn.Conv2d(3, 8, 2), nn.Conv2d(8, 8, 3)
        self.filter = nn.Conv1d(8, 8, 3)
        self.norm, self.qkv, self.proj = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.moe = MoE(8, experts=4, top=2, shared=1, hidden=4)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.classifier = nn.Linear(8, 3)
        self.out = nn.Linear(8, 7, bias=False)
        self.out.weight = self.words.weight


MUON = {"conv.weight", "qkv.weight", "proj.weight"} | {
    f"moe.{part}.{layer}.weight" for part, layers in (("experts", ("gate", "up", "down")),) for layer in layers
} | {f"moe.shared.{layer}.weight" for layer in ("gate", "up", "down")}  # fmt: skip


def test_the_rule() -> None:
    split = split_params(Small())
    assert {each.name for each in split.muon} == MUON
    why = {each.name: each.why for each in split.adamw}
    assert why["words.weight"] == "embedding" and why["stem.weight"] == "first convolution"
    assert why["moe.router.gate.weight"] == "router" and why["classifier.weight"] == "head, by its name"
    assert why["filter.weight"] == "convolution along one axis" and why["norm.weight"] == "not a matrix"
    assert "frozen.weight" not in why


def test_patterns_and_routers() -> None:
    split = split_params(Small(), adamw=("proj.*",), muon=("filter.weight",), routers=True)
    names = {each.name for each in split.muon}
    assert names == MUON - {"proj.weight"} | {"moe.router.gate.weight", "filter.weight"}


def test_a_fused_projection_is_split_unless_told() -> None:
    split = split_params(Small())
    rows = {tuple(name for name, _ in group["params"]): group["split_rows"] for group in split.muon_groups()}
    assert rows[("qkv.weight",)] == (8, 8, 8) and set(rows.values()) == {None, (8, 8, 8)}
    assert {group["split_rows"] for group in split_params(Small(), fused={}).muon_groups()} == {None}


def test_routers_of_other_libraries_are_known_by_name_and_fused_stacks_split() -> None:
    experts, gate = nn.ParameterDict({"gate_up": torch.randn(3, 8, 4)}), nn.Linear(4, 3, bias=False)
    block = nn.ModuleDict({"mlp": nn.ModuleDict({"experts": experts, "gate": gate})})
    split = split_params(block, fused={"*gate_up": 2})
    assert [each.split_rows for each in split.muon] == [(4, 4)]
    assert [(each.name, each.why) for each in split.adamw] == [("mlp.gate.weight", "router, by its name")]
    assert {each.name for each in split_params(block, routers=True).muon} == {"mlp.experts.gate_up", "mlp.gate.weight"}
    assert Muon(split.muon_groups()).param_groups[0]["split_rows"] == (4, 4)


def test_the_house_rule_agrees_on_its_own_models() -> None:
    model = DiT(depth=2, width=8, heads=2, side=4, classes=3)
    expected = [
        f"blocks.{i}.{part}.weight" for i in (0, 1) for part in ("mixer.qkv", "mixer.out", "ffn.up", "ffn.down")
    ]
    assert {each.name for each in split_params(model).muon} >= set(expected)
    assert not any("modulation" in each.name for each in split_params(model).muon)


def test_every_trained_number_is_in_the_table_once() -> None:
    model = Small()
    split, trained = split_params(model), [each for each in model.parameters() if each.requires_grad]
    assert sum(row[3] for row in split.rows()) == sum(each.numel() for each in trained)
    lines = str(split).splitlines()
    assert lines[0].split() == ["optimiser", "weight", "shape", "numbers", "why"] and len(lines) == len(trained) + 1
    assert "AdamW      words.weight" in str(split) and "7 x 8" in str(split)


def test_both_optimisers_at_one_rate() -> None:
    model = Small()
    adam, muon = split_params(model).optimisers(2e-3, weight_decay=0.05, method="svd")
    assert isinstance(muon, Muon) and [group["lr"] for group in muon.param_groups] == [2e-3, 2e-3]
    group = muon.param_groups[0]
    assert (group["method"], group["adjust_lr"], group["weight_decay"]) == ("svd", "match_rms_adamw", 0.05)
    assert adam.param_groups[0]["betas"] == (0.9, 0.95)
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    for each in model.parameters():
        each.grad = torch.randn_like(each) if each.requires_grad else None
    adam.step()
    muon.step()
    assert all(torch.equal(each, before[name]) == name.startswith("frozen") for name, each in model.named_parameters())


def test_refusals_and_the_warning() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    one = Assigned("a.weight", weight, "")
    with pytest.raises(ValueError, match=r"a.weight is in both groups, as b.weight too; leave it in one"):
        ParameterSplit(muon=(one,), adamw=(one._replace(name="b.weight"),))
    with pytest.warns(UserWarning, match=r"Muon has lm_head.weight, by its name an embedding or a head"):
        ParameterSplit(muon=(one._replace(name="lm_head.weight"),))
    with pytest.warns(UserWarning, match=r"Muon has classifier.weight"):
        split_params(Small(), muon=("classifier.weight",))
    with pytest.raises(ValueError, match=r"muon='attn.\*' matches no trained weight"):
        split_params(Small(), muon=("attn.*",))
    with pytest.raises(ValueError, match=r"proj.weight is named by muon= and by adamw="):
        split_params(Small(), muon=("proj.weight",), adamw=("proj.*",))
