"""The official code's masks, layer and gradients, through the public names."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.nn import TokenPositions
from saccade.papers.dma import Choice, DynamicMaskAttention, choose_keys, dynamic_mask_attention, key_bias
from saccade.papers.dma.half_rotation import half_angles

GOLDENS = Path(__file__).resolve().parents[2] / "goldens" / "dma"


def bits(x: Tensor, n: int) -> Tensor:
    return torch.from_numpy(np.unpackbits(x.numpy(), axis=-1, bitorder="little")[..., :n]).bool()


def test_the_official_masks() -> None:
    golden = load_file(GOLDENS / "case_mask_builder.safetensors")
    key, query, causal = golden["bias_per_key"], golden["bias_per_query"], bits(golden["causal_bits"], 19)[:, None]
    alone = choose_keys(key, window=5)
    assert torch.equal(alone, bits(golden["topk5_nomask_bits"], 19))
    assert torch.equal(alone[:, :, 0].nonzero()[:, 2].view(2, 2, 5), golden["topk_indices_w5"])
    assert torch.equal(choose_keys(query, causal, window=5), bits(golden["topk5_causal_perquery_bits"], 19))
    assert torch.equal(choose_keys(query, causal, select="relu"), bits(golden["relu_causal_bits"], 19))
    assert torch.equal(Choice(window=5).map(query, 7), bits(golden["topk5_causal_perquery_bits"], 19))


def test_the_official_layer_from_its_operands_on() -> None:
    golden = load_file(GOLDENS / "case_linear_form_official_integration.safetensors")
    q, k, v = (golden[name].transpose(1, 2) for name in "qkv")
    bias = key_bias(v, golden["w.dt_proj.weight"], golden["w.A"], "linear")
    torch.testing.assert_close(bias[:, :, None], golden["bias"], atol=1e-10, rtol=0)
    choice = Choice(window=6)
    assert torch.equal(choice.map(bias[:, :, None], 21), bits(golden["keep_bits"], 21))
    for kernel in ("dense", "gathered", "tiles"):
        out = dynamic_mask_attention(q, k, v, bias, choice, kernel=kernel).transpose(1, 2)
        torch.testing.assert_close(out, golden["attn_out_before_o_proj"], atol=1e-10, rtol=0)
        out = out.flatten(2) @ golden["w.o_proj.weight"].T
        torch.testing.assert_close(out, golden["out"], atol=1e-10, rtol=0)


def test_the_official_layer_with_all_gradients() -> None:
    golden = load_file(GOLDENS / "case_linear_form_official_integration.safetensors")
    layer = DynamicMaskAttention(16, 4, kv_heads=2, head_dim=8, window=6, bias_form="linear").double()
    layer.load_state_dict({name[2:]: value for name, value in golden.items() if name.startswith("w.")})
    angles = half_angles(torch.arange(21.0, dtype=torch.float64)[:, None], 8, 10000.0)
    torch.testing.assert_close(angles.cos().repeat(1, 2), golden["cos"], atol=1e-6, rtol=0)
    x, place = golden["x"].requires_grad_(), TokenPositions(causal=True)
    for ours, name in zip(layer.operands(x, place), "qkv", strict=True):
        torch.testing.assert_close(ours.transpose(1, 2), golden[name], atol=1e-5, rtol=0)
    out = layer(x, place).out
    torch.testing.assert_close(out, golden["out"], atol=1e-5, rtol=0)
    (out * golden["cotangent"]).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, golden["grad_x"], atol=1e-5, rtol=0)
    for name, value in layer.named_parameters():
        torch.testing.assert_close(value.grad, golden[f"grad.{name}"], atol=1e-5, rtol=0)
