"""The released attention on a real CogVideoX transformer, whose projections answer with recorded operands."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.rows import Rows
from saccade.papers.ditctrl import DiTCtrl
from saccade.papers.ditctrl.matched_regions import stretched

pytestmark = pytest.mark.host
GOLDEN = load_file(Path(__file__).parents[2] / "goldens" / "ditctrl" / "case_attention.safetensors")
TIMES, GRID, LAYERS = (1000, 700, 400, 100), (3, 2, 4), range(3)
PAIR = Rows.of("source", "target")


class Recorded(nn.Module):
    """Answers with (b n h*d) of recorded operands (b h n d)."""

    def __init__(self, operand: Tensor) -> None:
        super().__init__()
        self.operand = operand.transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.operand


class Kept(nn.Module):
    """Keeps what the attention hands to its output projection, as (b h n d)."""

    kept: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.kept = x.unflatten(2, (2, 8)).transpose(1, 2)
        return x


def host() -> Any:
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=16, num_layers=3, sample_width=8, sample_height=4, sample_frames=9, patch_size=2,
        temporal_compression_ratio=4, max_text_seq_length=5,
    )  # fmt: skip
    for layer, block in enumerate(model.transformer_blocks):
        attention: Any = block.attn1
        for name in "qkv":
            setattr(attention, f"to_{name}", Recorded(GOLDEN[name][layer]))
        for name in "qk":
            getattr(attention, f"norm_{name}").load_state_dict(
                {part: GOLDEN[f"{name}_norm.{layer}.{part}"] for part in ("weight", "bias")}
            )
        attention.to_out = nn.ModuleList((Kept(), nn.Identity()))
    return model.eval()


def outputs(step: int, system: DiTCtrl) -> tuple[list[Tensor], dict[str, Any]]:
    """Of each layer (b h n d), and what the system kept of the forward."""
    model, noise = host(), torch.randn(1, 3, 4, 4, 8).expand(4, -1, -1, -1, -1)
    with attach(model, system, rows=PAIR, schedule=TIMES) as run, torch.no_grad():
        time = torch.full((4,), TIMES[step])
        model(hidden_states=noise, encoder_hidden_states=torch.randn(4, 5, 16), timestep=time)
        kept = dict(run.state.forward.get("ditctrl", {}))
    return [block.attn1.to_out[0].kept for block in model.transformer_blocks], kept


def test_plain_sharing_is_the_released_codes() -> None:
    system = DiTCtrl(layers=(1, 2), steps=(1, 2))
    wanted = {0: {1: GOLDEN["out_kv_step0"][0]}, 1: dict(enumerate(GOLDEN["out_kv_step1"]))}
    for step, layers in wanted.items():
        found = outputs(step, system)[0]
        for layer, out in layers.items():
            torch.testing.assert_close(found[layer], out, rtol=0, atol=2e-6)
    plain = outputs(1, DiTCtrl(layers=()))[0]
    assert (plain[1] - GOLDEN["out_kv_step1"][1])[[1, 3]].abs().max() > 0.1  # what is shared counts


def test_sharing_is_on_where_the_released_code_has_it_on() -> None:
    system, base = DiTCtrl(layers=(1, 2), steps=(1, 2)), outputs(0, DiTCtrl(layers=()))[0]
    for step, layers in enumerate(GOLDEN["active_step_layer"].bool()):
        found = outputs(step, system)[0]
        assert [not torch.equal(found[i], base[i]) for i in LAYERS] == layers.tolist()


@pytest.mark.parametrize("layer", LAYERS)
def test_maps_and_masks_are_the_released_codes(layer: int) -> None:
    _, kept = outputs(1, DiTCtrl(words=(1, 2), layers=(layer,), steps=(1, 2)))
    for role, name, row in (("source", "src", 2), ("target", "tgt", 3)):
        mean = kept["columns"][role] / kept["count"]
        wanted = GOLDEN[f"mg_video_to_text_mean_l{layer}"][row, :, 1:3].sum(-1)
        torch.testing.assert_close(mean.flatten(), wanted, rtol=0, atol=2e-6)
        heat = stretched(mean)[0]
        torch.testing.assert_close(heat, GOLDEN[f"mg_{name}_map_l{layer}"], rtol=0, atol=1e-4)
        assert torch.equal(heat >= 0.3, GOLDEN[f"mg_{name}_mask_l{layer}"].bool())


def test_mask_guided_sharing_is_the_released_codes() -> None:
    found = outputs(1, DiTCtrl(words=(1, 2), layers=(1, 2), steps=(1, 2), threshold=0.3))[0]
    torch.testing.assert_close(found[1], GOLDEN["mg_out_layer1"], rtol=0, atol=2e-6)
    assert (found[1] - GOLDEN["out_kv_step1"][1]).abs().max() > 1e-2
