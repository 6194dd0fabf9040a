"""The low-resolution stream on the real FLUX class: the official output, and what it must leave alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.errors import StateError
from saccade.core.masks import Table
from saccade.papers.scale_dit import LowStream, LowTokens, ScaleDiT, add_lora_, anchored
from saccade.papers.scale_dit.lora import LoraLinear, lora_layers
from saccade.systems.dense import Dense

pytestmark = pytest.mark.host
GOLDENS = load_file(Path(__file__).parents[2] / "goldens" / "scale-dit" / "case_train_path.safetensors")
HIGH, LOW, TEXT = (8, 8), (2, 2), 5
LAYOUT = anchored(text=TEXT, high=HIGH, low=LOW)


def flux(*, lora: bool = True, layers: tuple[int, int] = (2, 2)) -> Any:
    """Random weights, LoRA's among them."""
    torch.manual_seed(0)
    model = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=layers[0], num_single_layers=layers[1], attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=6, pooled_projection_dim=5, guidance_embeds=True,
        axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    if lora:
        add_lora_(model, rank=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def inputs(seed: int = 0, high: tuple[int, int] = HIGH, text: int = TEXT) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.cartesian_prod(torch.zeros(1), torch.arange(float(high[0])), torch.arange(float(high[1])))
    return {
        "hidden_states": torch.randn(2, high[0] * high[1], 4, generator=generator),
        "encoder_hidden_states": torch.randn(2, text, 6, generator=generator),
        "pooled_projections": torch.randn(2, 5, generator=generator),
        "timestep": torch.tensor([0.3, 0.8]),
        "guidance": torch.ones(2),
        "img_ids": ids,
        "txt_ids": torch.zeros(text, 3),
        "return_dict": False,
    }


def anchor(**options: Any) -> LowTokens:
    tokens = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(9))
    return LowTokens(tokens=tokens, low=LOW, high=HIGH, **options)


@torch.no_grad()
def carried(stream: LowStream, system: Any = None, low: LowTokens | None = None, **changed: Any) -> Tensor:
    with stream.holding(low or anchor()), attach(stream.transformer, *([system] if system else []), layout=LAYOUT):
        return stream.transformer(**(inputs() | changed))[0]


def test_the_training_path_is_the_official_one() -> None:
    model = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=6, pooled_projection_dim=5, guidance_embeds=True, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    add_lora_(model, rank=2, alpha=2)
    model.load_state_dict({name[2:]: value for name, value in GOLDENS.items() if name.startswith("w.")})
    seen: dict[str, Tensor] = {}
    model.transformer_blocks[0].register_forward_hook(lambda m, a, out: seen.update(text=out[0], image=out[1]))
    layout, ids = anchored(text=6, high=(8, 12), low=(2, 3)), inputs(high=(8, 12))["img_ids"]
    low = LowTokens(tokens=GOLDENS["in.low_res"], low=(2, 3), high=(8, 12))
    with torch.no_grad(), LowStream(model) as stream, stream.holding(low):
        with attach(model, ScaleDiT.training(window=4), layout=layout):
            out = model(
                hidden_states=GOLDENS["in.hidden_states"], encoder_hidden_states=GOLDENS["in.text"],
                pooled_projections=GOLDENS["in.pooled"], timestep=GOLDENS["in.timestep"], img_ids=ids,
                txt_ids=torch.zeros(6, 3), guidance=torch.ones(2), return_dict=False,
            )[0]  # fmt: skip
        tables = model.pos_embed(torch.cat((torch.zeros(6, 3), ids)))
    for name, table in zip(("rope_cos", "rope_sin"), tables, strict=True):
        torch.testing.assert_close(table, GOLDENS[name], atol=1e-6, rtol=0)
    found = {"double0.text": seen["text"], "double0.hr": seen["image"][:, :96], "double0.lr": seen["image"][:, 96:]}
    for name, value in (found | {"out": out}).items():
        torch.testing.assert_close(value, GOLDENS[name], atol=1e-4, rtol=0)


@torch.no_grad()
def test_nothing_held_is_bitwise_the_host_and_lora_is_off() -> None:
    bare, tuned = flux(lora=False), flux()
    names = {name.replace(".base_layer", ""): value for name, value in tuned.state_dict().items() if "lora" not in name}
    bare.load_state_dict(names)
    expected = bare(**inputs())[0]
    assert (tuned(**inputs())[0] - expected).abs().max() > 1e-3  # LoRA bites
    with LowStream(tuned):
        assert torch.equal(tuned(**inputs())[0], expected)
    with LowStream(bare) as stream:
        assert torch.equal(bare(**inputs())[0], expected)
        assert (carried(stream) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_lora_of_scale_zero_changes_nothing() -> None:
    bare, tuned = flux(lora=False), flux()
    bare.load_state_dict({k.replace(".base_layer", ""): v for k, v in tuned.state_dict().items() if "lora" not in k})
    for _, layer in lora_layers(tuned):
        layer.scaling = dict.fromkeys(layer.scaling, 0.0)
    with LowStream(bare) as one, LowStream(tuned) as two:
        assert torch.equal(carried(one), carried(two))


@torch.no_grad()
def test_undo_leaves_no_trace() -> None:
    model = flux()
    before, text, names = model(**inputs())[0], repr(model), set(vars(model))
    own = {name: set(vars(module)) for name, module in model.named_modules()}
    stream = LowStream(model)
    carried(stream)
    stream.undo()
    assert torch.equal(model(**inputs())[0], before) and repr(model) == text
    assert {name: set(vars(module)) for name, module in model.named_modules()} == own and set(vars(model)) == names
    LowStream(model).undo()


def states(model: Any) -> dict[str, Tensor]:
    """Low-resolution hidden states after every block, by hooks, filled at each forward."""
    found: dict[str, Tensor] = {}
    for name, block in model.named_modules():
        if name.count(".") == 1 and "blocks" in name:
            block.register_forward_hook(lambda m, a, out, name=name: found.update({name: out[1][:, -4:].clone()}))
    return found


@torch.no_grad()
def test_low_resolution_tokens_learn_nothing_from_the_picture() -> None:
    model = flux()
    found, system = states(model), ScaleDiT(window=4)
    with LowStream(model) as stream:
        carried(stream, system)
        before = dict(found)
        carried(stream, system, hidden_states=inputs(seed=1)["hidden_states"], timestep=torch.tensor([0.1, 0.9]))
        assert len(before) == 4 and all(torch.equal(before[name], found[name]) for name in before)
        carried(stream, system, encoder_hidden_states=inputs(seed=1)["encoder_hidden_states"])
        assert all(torch.equal(before[name], found[name]) for name in before)  # nor from the text
        carried(stream, ScaleDiT.training(window=4), encoder_hidden_states=inputs(seed=1)["encoder_hidden_states"])
        assert not torch.equal(before["transformer_blocks.0"], found["transformer_blocks.0"])


def test_windows_that_cover_all_are_dense_but_for_what_text_and_copy_may_not_see() -> None:
    number = torch.tensor([0] * TEXT + [1] * 64 + [2] * 4)
    allow = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 1]]).bool()

    class ByHand:
        name = "by hand"

        def plan(self, site: Any, clock: Any) -> tuple[Table, ...]:
            return (table,)

    table = Table(number, number, allow)
    with LowStream(flux()) as stream:
        expected = carried(stream, ByHand())
        found = carried(stream, ScaleDiT(window=16, low="all"))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_other_kernels_are_the_same_attention() -> None:
    with LowStream(flux()) as stream:
        chosen = carried(stream, ScaleDiT(window=4))
        low = anchor()
        with (
            torch.no_grad(),
            stream.holding(low),
            attach(stream.transformer, ScaleDiT(window=4), Dense(kernel="reference"), layout=LAYOUT),
        ):
            exact = stream.transformer(**inputs())[0]
    torch.testing.assert_close(chosen, exact, atol=1e-5, rtol=1e-4)


def test_scaled_places_are_those_of_the_picture() -> None:
    ids = inputs()["img_ids"]
    assert anchor().ids(ids)[:, 1:].tolist() == [[0, 0], [0, 4], [4, 0], [4, 4]]
    assert anchor(scaled=False).ids(ids)[:, 1:].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    with LowStream(flux()) as stream:
        assert (carried(stream) - carried(stream, low=anchor(scaled=False))).abs().max() > 1e-4


def gradients(checkpointing: bool) -> dict[str, Tensor]:
    model = flux()
    if checkpointing:
        model.train().enable_gradient_checkpointing()
    with LowStream(model) as stream, stream.holding(anchor()):
        with attach(model, ScaleDiT.training(window=4), layout=LAYOUT):
            model(**inputs())[0].square().mean().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.requires_grad and p.grad is not None}


def test_parts_used_after_the_last_keys_of_the_copy_get_no_gradient() -> None:
    found = gradients(checkpointing=False)
    late = [n for n in found if n.startswith("single_transformer_blocks.1.") and "proj" in n and "lora" in n]
    assert late and all(found[name].abs().max() == 0 for name in late)
    early = [n for n in found if n.startswith("single_transformer_blocks.0.proj_out.lora_A")]
    used = [n for n in found if "single_transformer_blocks.1.attn.to_k.lora_A" in n]
    assert all(found[name].abs().max() > 0 for name in (*early, *used))


def test_checkpointing_gives_the_same_gradients() -> None:
    plain, again = gradients(checkpointing=False), gradients(checkpointing=True)
    assert plain.keys() == again.keys()
    for name in plain:
        torch.testing.assert_close(again[name], plain[name], atol=1e-6, rtol=1e-5)


def test_backward_outside_is_an_error_with_the_mend() -> None:
    model = flux().train()
    model.enable_gradient_checkpointing()
    stream = LowStream(model)
    with stream.holding(anchor()):
        loss = model(**inputs())[0].mean()
    with pytest.raises(StateError, match="call backward.. inside `with stream.holding"):
        loss.backward()


def test_half_precision_stays_near() -> None:
    with LowStream(flux()) as stream:
        exact = carried(stream, ScaleDiT(window=4))
        stream.transformer.to(torch.bfloat16)
        low = LowTokens(tokens=anchor().tokens.bfloat16(), low=LOW, high=HIGH)
        given = {n: v.bfloat16() if isinstance(v, Tensor) and "ids" not in n else v for n, v in inputs().items()}
        out = carried(stream, ScaleDiT(window=4), low=low, **given)
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.compile
@pytest.mark.slow
def test_compiled_is_the_same() -> None:
    with LowStream(flux(layers=(1, 1))) as stream:
        exact = carried(stream, ScaleDiT(window=4))
        compiled = torch.compile(stream.transformer)
        with torch.no_grad(), stream.holding(anchor()), attach(compiled, ScaleDiT(window=4), layout=LAYOUT):
            out = compiled(**inputs())[0]
    torch.testing.assert_close(out, exact, atol=1e-5, rtol=1e-4)


class PeftLike(nn.Module):
    """A layer as peft makes it: adapters by name, dropout, a switch."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        own = LoraLinear(base, rank=2, alpha=2)
        self.base_layer, self.lora_A, self.lora_B, self.scaling = base, own.lora_A, own.lora_B, own.scaling
        self.lora_dropout = nn.ModuleDict({"default": nn.Dropout(0.5)})
        self.active_adapters, self.disable_adapters, self.merged = ["default"], False, False

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("the stream answers in its place")


@torch.no_grad()
def test_layers_of_peft_do_as_well() -> None:
    ours = flux()
    theirs = flux()
    for name, layer in list(lora_layers(theirs)):
        made = PeftLike(layer.base_layer).eval()
        made.lora_A, made.lora_B = layer.lora_A, layer.lora_B
        theirs.set_submodule(name, made)
    with LowStream(ours) as one, LowStream(theirs) as two:
        assert torch.equal(carried(one), carried(two))
        theirs.x_embedder.merged = True
        with pytest.raises(ValueError, match="LoRA is merged into the weights; unmerge it"):
            carried(two)
        for _, layer in lora_layers(theirs):
            layer.merged, layer.disable_adapters = False, True
        for _, layer in lora_layers(ours):
            layer.scaling = {"default": 0.0}
        assert torch.equal(carried(one), carried(two))


@torch.no_grad()
def test_lora_on_other_layers_acts_as_it_does() -> None:
    model = flux()
    other = LoraLinear(model.transformer_blocks[0].ff_context.net[2], rank=2, alpha=2)
    model.transformer_blocks[0].ff_context.net[2] = other
    nn.init.normal_(other.lora_B["default"].weight)
    x = torch.randn(2, TEXT, other.base_layer.in_features)
    expected = other(x)
    with LowStream(model) as stream, stream.holding(anchor()):
        assert torch.equal(other(x), expected)


def test_lora_starts_by_adding_nothing_and_leaves_only_itself_to_tune() -> None:
    layer = LoraLinear(nn.Linear(3, 5), rank=2, alpha=4)
    x = torch.randn(7, 3)
    assert torch.equal(layer(x), layer.base_layer(x)) and layer.scaling == {"default": 2.0}
    model = flux(lora=False)
    tuned = add_lora_(model, rank=2)
    assert sum(p.numel() for p in tuned) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    with pytest.raises(ValueError, match="has LoRA there already"):
        add_lora_(model)
    with pytest.raises(ValueError, match="rank=0 must be at least 1; the paper has 16"):
        LoraLinear(nn.Linear(2, 2), rank=0, alpha=1)


def test_what_does_not_fit_is_refused() -> None:
    tokens = torch.zeros(2, 4, 4)
    with pytest.raises(ValueError, match=r"high=\(8, 8\) tokens must be a whole multiple of low=\(2, 4\)"):
        LowTokens(tokens=tokens, low=(2, 4), high=(8, 8))
    with pytest.raises(ValueError, match=r"tokens of shape \(2, 4, 4\) must be \(batch, 16, channels\)"):
        LowTokens(tokens=tokens, low=(4, 4), high=(8, 8))
    with pytest.raises(ValueError, match="ntk=0 must be positive; 1 leaves the rotary base as it is"):
        LowStream(flux(), ntk=0)
    with pytest.raises(ValueError, match="Linear is no FLUX transformer; give pipe.transformer"):
        LowStream(nn.Linear(2, 2))
    model = flux()
    with LowStream(model) as stream:
        with pytest.raises(ValueError, match="carries a low-resolution stream already; undo that one first"):
            LowStream(model)
        with pytest.raises(ValueError, match=r"hidden_states have 16 tokens, the anchor is for high=\(8, 8\), 64 tok"):
            carried(stream, **inputs(high=(4, 4)))
        with pytest.raises(ValueError, match="the anchor has 3 rows and hidden_states 2; give one row, or one for ea"):
            carried(stream, low=LowTokens(tokens=torch.zeros(3, 4, 4), low=LOW, high=HIGH))
        with pytest.raises(ValueError, match="controlnet_block_samples are for the picture's tokens alone"):
            carried(stream, controlnet_block_samples=[torch.zeros(2, 64, 16)])


def test_text_of_another_length_needs_a_layout_of_its_own() -> None:
    with LowStream(flux()) as stream, pytest.raises(ValueError, match="its layout says 73"):
        carried(stream, ScaleDiT(window=4), **inputs(text=TEXT + 1))
