"""Agreement with the released code: losses with their gradients, named sets merged and not, masks of subjects."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.core.projections import LowRankTerm
from saccade.mechanisms.low_rank import LowRank
from saccade.papers.dreamrelation.lora import RelationLora
from saccade.papers.dreamrelation.losses import appearance, contrastive_loss, dynamics, masked_reconstruction
from saccade.papers.dreamrelation.masks import latent_masks, subject_masks
from saccade.papers.dreamrelation.system import RelationSwitch

FOLDER = Path(__file__).resolve().parents[2] / "goldens" / "dreamrelation"
LAYOUT = Layout.plain(4)


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    file = FOLDER / f"case_{name}.safetensors"
    with safe_open(file, "pt") as opened:
        return load_file(file), opened.metadata()


class TwoLayers(nn.Module):
    """The released layers as the queries and values of an attention."""

    heads = 1

    def __init__(self, case: dict[str, Tensor]) -> None:
        super().__init__()
        out, inner = case["q.weight"].shape
        self.to_q, self.to_k, self.to_v = (nn.Linear(inner, out) for _ in range(3))
        for name, linear in (("q", self.to_q), ("v", self.to_v)):
            linear.load_state_dict({part: case[f"{name}.{part}"] for part in ("weight", "bias")})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (linear(x)[:, None] for linear in (self.to_q, self.to_k, self.to_v))
        return F.scaled_dot_product_attention(q, k, v)[:, 0]


def learned(case: dict[str, Tensor], said: dict[str, str]) -> RelationLora:
    """The sets by the names of the released state dict: LAYER.lora_A.SET."""
    sets: dict[str, dict[tuple[str, str], LowRankTerm]] = {}
    for key in case:
        layer, _, rest = key.partition(".lora_A.")
        if rest:
            term = LowRankTerm(case[key], case[f"{layer}.lora_B.{rest}"])
            sets.setdefault(rest, {})["0", f"to_{layer}"] = term
    made = {name: LowRank(found) for name, found in sets.items()}
    return RelationLora(made, rank=int(said["rank"]), alpha=float(said["alpha"]))


def outputs(model: nn.Module, switch: RelationSwitch | None, x: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with attach(model, *(() if switch is None else (switch,)), layout=LAYOUT):
        model(x)  # hooks of terms stand from the first forward on
        hooks = [
            linear.register_forward_hook(lambda _, __, out, name=name: found.__setitem__(name, out))
            for name, linear in (("q", model.get_submodule("0.to_q")), ("v", model.get_submodule("0.to_v")))
        ]
        model(x)
        for hook in hooks:
            hook.remove()
    return found


def test_named_sets_and_their_merger_agree() -> None:
    case, said = golden("lora_and_masks")
    model, sets = nn.Sequential(TwoLayers(case)), learned(case, said)
    switch = RelationSwitch(learned=sets)
    for active in ((), ("relation",), ("subject1",)):
        with switch.using(*active):
            found = outputs(model, switch, case["x"])
        for name, out in found.items():
            wanted = case.get(f"{name}_out_{active[0] if active else 'none'}")
            if wanted is not None:
                torch.testing.assert_close(out, wanted, atol=1e-6, rtol=0)
    with sets.merged(model):
        torch.testing.assert_close(model[0].to_q.weight, case["q_merged_weight"], atol=1e-6, rtol=0)
        torch.testing.assert_close(outputs(model, None, case["x"])["q"], case["q_out_merged"], atol=1e-6, rtol=0)
    assert torch.equal(model[0].to_q.weight, case["q.weight"])


def test_masks_agree_exactly() -> None:
    case, _ = golden("lora_and_masks")
    wanted = case["latent_mask"]
    found = latent_masks(subject_masks(case["frames"].numpy()), tuple(wanted.shape[-2:]), strides=(6, 8))
    assert torch.equal(found, wanted)


def test_the_contrastive_loss_agrees_with_its_gradients() -> None:
    case, said = golden("losses")
    anchor, negative = (case[f"fn_a_{name}"].requires_grad_() for name in ("anchor", "negative"))
    loss = contrastive_loss(anchor, case["fn_a_positive"], negative, temperature=float(said["tau"]))
    loss.backward()
    torch.testing.assert_close(loss, case["fn_a_loss"], atol=1e-6, rtol=1e-5)
    for name, value in (("anchor", anchor), ("negative", negative)):
        torch.testing.assert_close(value.grad, case[f"fn_a_grad_{name}"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_the_loss_of_a_step_agrees_with_its_gradient(step: int) -> None:
    case, said = golden("losses")
    predicted = case[f"step{step}_pred"].requires_grad_()
    loss = masked_reconstruction(
        predicted, case[f"step{step}_target"], case[f"step{step}_mask"], weight=float(said["loss_mask_lam"]),
        compat="official",
    )  # fmt: skip
    if f"step{step}_rcl" in case:
        features, order = appearance(predicted[0]), case[f"step{step}_anchor_order"].long()
        anchors, negative = dynamics(features)[order], case[f"step{step}_rcl_negative"]
        torch.testing.assert_close(anchors, case[f"step{step}_rcl_anchor"], atol=1e-6, rtol=1e-5)
        own = features.expand(len(anchors), -1, -1)
        torch.testing.assert_close(own, negative[:, : own.shape[1]], atol=1e-6, rtol=1e-5)
        negatives = torch.cat((own, negative[:, own.shape[1] :]), dim=1)
        contrast = contrastive_loss(
            anchors, case[f"step{step}_rcl_positive"], negatives, temperature=float(said["tau"])
        )
        torch.testing.assert_close(contrast, case[f"step{step}_rcl"], atol=1e-6, rtol=1e-5)
        loss = loss + float(said["rcl_lam"]) * contrast
    loss.backward()
    torch.testing.assert_close(loss, case[f"step{step}_loss"], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(predicted.grad, case[f"step{step}_grad_pred"], atol=1e-5, rtol=1e-5)
