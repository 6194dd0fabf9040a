"""Muon's share of a model is what its parts say of themselves."""

from torch import nn

from saccade.models import DiT
from saccade.nn.steering import muon_names, steers


def test_rows_of_blocks_are_muons_but_not_what_steers_them() -> None:
    row = nn.Sequential(nn.Linear(2, 2, bias=False), steers(nn.Linear(2, 2, bias=False)))
    assert muon_names(nn.ModuleDict({"row": row, "ends": nn.Linear(2, 2)})) == {"row.0.weight"}


def test_a_name_decides_nothing() -> None:
    row = nn.ModuleList([nn.ModuleDict({"router": nn.Linear(2, 2, bias=False)})])
    assert muon_names(row) == {"0.router.weight"}


def test_modulation_and_embeddings_of_a_dit_are_adamws() -> None:
    model = DiT(depth=2, width=8, heads=2, side=4, classes=3)
    names = {name for name in muon_names(model) if model.get_parameter(name).ndim == 2}
    assert names == {
        f"blocks.{i}.{part}.weight" for i in (0, 1) for part in ("mixer.qkv", "mixer.out", "ffn.up", "ffn.down")
    }
