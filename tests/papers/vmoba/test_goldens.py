"""The official code's outputs, gradients, gates and choices, through the system as it attaches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.core.call import plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.papers.vmoba import VMoBA, chosen_chunks
from saccade.papers.vmoba.selection import gates, mean_keys
from tests.papers.vmoba.test_vmoba import VIDEO, both_ways, run

GOLDENS = Path(__file__).resolve().parents[2] / "goldens" / "vmoba"


def bits(x: Tensor, n: int) -> Tensor:
    return torch.from_numpy(np.unpackbits(x.numpy(), axis=-1, bitorder="little")[..., :n]).bool()


def golden_mask(chosen: Tensor, order: Tensor, own: Tensor) -> Tensor:
    """(c h s) in partitioned order as (h c s) in raster order, own chunks included."""
    whole = (chosen | own).transpose(0, 1)
    return torch.zeros_like(whole).index_copy(2, order, whole)


@both_ways
def test_the_published_case_with_its_gradients(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    golden = load_file(GOLDENS / "case_2d_threshold_headglobal.safetensors")
    q, k, v = inputs = [golden[name].transpose(1, 2).requires_grad_() for name in "qkv"]
    system = VMoBA(tile=(2, 3), tau=0.4)
    out = run(system, q, k, v).total.transpose(1, 2)
    torch.testing.assert_close(out, golden["out"], atol=1e-5, rtol=0)
    up = torch.autograd.grad((out * golden["cotangent"]).sum(), inputs)
    for ours, name in zip(up, ("dq", "dk", "dv"), strict=True):
        torch.testing.assert_close(ours.transpose(1, 2), golden[name], atol=1e-5, rtol=0)
    check_choice(system, q, k, golden, "", VIDEO)


@both_ways
@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("topk.query_head.3", {"select": "topk", "scope": "query_head", "k": 3}),
        ("threshold.query_head.0.25", {"scope": "query_head"}),
        ("threshold.head_global.0.25", {}),
    ],
)
def test_the_published_rules(case: str, options: Any, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    golden, layout = load_file(GOLDENS / "case_3d_one_sample.safetensors"), Layout.image_only((4, 4, 6))
    q, k, v = (golden[name].transpose(1, 2) for name in "qkv")
    system = VMoBA(box=(2, 2, 3), **options)
    out = run(system, q, k, v, layout).total.transpose(1, 2)
    torch.testing.assert_close(out, golden[f"b0.{case}.out"], atol=1e-5, rtol=0)
    check_choice(system, q, k, golden, f"b0.{case}.", layout)


def check_choice(system: VMoBA, q: Tensor, k: Tensor, golden: dict[str, Tensor], case: str, layout: Layout) -> None:
    (_, act), n = system.plan(Site(name="x"), Clock()), layout.n
    assert isinstance(act, chosen_chunks.ChosenChunks)
    parts, order = act._chunks(layout, q.device), golden["perm"].long()
    assert torch.equal(parts.order, order)
    gate = gates(q, mean_keys(k, parts))[0]
    named = golden["gate" if not case else "b0.gate"].transpose(0, 1)
    torch.testing.assert_close(parts.to_blocks(gate, 2), named, atol=1e-5, rtol=0)
    expected = golden_mask(bits(golden[f"{case}chosen_bits"], n), order, parts.own[:, None, order])
    assert torch.equal(act.choose(plain_call(q, k, k, layout=layout))[0], expected)
    if not case:
        edges = golden["cu_chunk"].diff().tolist()
        assert parts.sizes == tuple(edges)
        assert torch.equal(bits(golden["self_bits"], n)[:, 0], parts.own[:, order])
