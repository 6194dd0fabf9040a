"""Agreement of the three operators with the released code, and their names both ways."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.models.checkpoint_names import LoadError
from saccade.papers import ChannelPAT, SelfPAT, SpatialPAT
from saccade.papers.patnet.channel_gate import statistics
from saccade.papers.patnet.official import OfficialLayer
from saccade.papers.patnet.relative_bias import buckets

STORED = load_file(Path(__file__).resolve().parents[2] / "goldens" / "patnet" / "case_operators.safetensors")
GOLDEN = {name: value.float() if value.is_floating_point() else value for name, value in STORED.items()}
LAYERS = {"pat_ch": lambda: ChannelPAT(16), "pat_sp": lambda: SpatialPAT(15), "pat_sf4": lambda: SelfPAT(16, heads=4)}


def weights(name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"w_{name}/"): value for key, value in GOLDEN.items() if key.startswith(f"w_{name}/")}


def loaded(name: str) -> OfficialLayer:
    layer = LAYERS[name]()
    assert layer.load_official(weights(name)).complete
    return layer.eval()


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize(("name", "out"), [("pat_ch", "y_eval"), ("pat_sp", "y"), ("pat_sf4", "y")])
@torch.no_grad()
def test_outputs_agree(name: str, out: str) -> None:
    close(loaded(name)(GOLDEN[f"{name}/x"]), GOLDEN[f"{name}/{out}"])


@torch.no_grad()
def test_the_channel_gate_agrees_step_by_step() -> None:
    layer, rest = loaded("pat_ch"), GOLDEN["pat_ch/x"][:, 4:]
    close(statistics(rest)[:, :, 0], GOLDEN["pat_ch/mid_u"][:, :, 0])
    close(layer.gate.gate(rest), GOLDEN["pat_ch/mid_gate"])
    close(layer.gate(rest), GOLDEN["pat_ch/mid_gated"])


@torch.no_grad()
def test_the_spatial_gate_and_the_bias_agree() -> None:
    close(loaded("pat_sp").gate(GOLDEN["pat_sp/x"][:, :8]), GOLDEN["pat_sp/mid_gate"])
    assert torch.equal(buckets(5, 7, torch.device("cpu")), GOLDEN["pat_sf4/mid_bucket"].long())
    assert torch.equal(loaded("pat_sf4").attention.bias(5, 7), GOLDEN["pat_sf4/mid_bias"])


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_official_names_both_ways(name: str) -> None:
    exported, wanted = loaded(name).official_state(), weights(name)
    assert exported.keys() == wanted.keys()
    assert all(torch.equal(exported[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_what_is_not_of_this_layer_is_refused(name: str) -> None:
    few = dict(list(weights(name).items())[1:])
    for wrong in (few, weights(name) | {"attn.more.weight": torch.zeros(1)}):
        with pytest.raises(LoadError, match=f"does not fit this {type(LAYERS[name]()).__name__}"):
            LAYERS[name]().load_official(wrong)
