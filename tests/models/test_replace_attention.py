"""Mixers of the kit inside diffusers' DiT and PixArt."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from saccade.models.replace_attention import ReplacedAttention, replace_attention
from saccade.nn.part import MixerOutput, TokenPositions
from tests.hosts import vits
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host
NAMES = ("dit", "pixart")


@pytest.fixture(params=NAMES)
def host(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, dict[str, Any]]]:
    model, inputs = BY_NAME[request.param].make()
    yield model.eval(), inputs


def _calls(replaced_attention: ReplacedAttention) -> list[tuple[torch.Tensor, TokenPositions, torch.Tensor]]:
    """Inputs, places and outputs of the mixers, filled as they run."""
    found: list[tuple[torch.Tensor, TokenPositions, torch.Tensor]] = []

    def record(_: nn.Module, given: tuple[torch.Tensor, TokenPositions], part: MixerOutput) -> None:
        found.append((*given, part.out))

    for mixer in replaced_attention.mixers:
        mixer.register_forward_hook(record)
    return found


MIXERS = (
    "dico", "dico(gate='none', kernel=5)", "attention(rotary=True)", "ninformer(tokens=16)",
    "minimal(kind='wqk_novo', heads=1)",
)  # fmt: skip


@pytest.mark.parametrize("mixer", MIXERS)
def test_mixers_stand_on_the_grid_of_patches(host: tuple[nn.Module, dict[str, Any]], mixer: str) -> None:
    model, inputs = host
    dense = output(model, inputs)
    with replace_attention(model, mixer) as replaced_attention:
        calls = _calls(replaced_attention)
        mixed = output(model, inputs)
    assert [(tuple(x.shape), place.grid) for x, place, _ in calls] == [((2, 16, 32), (4, 4))] * 2
    assert mixed.shape == dense.shape and not torch.allclose(mixed, dense)


def test_the_grid_follows_the_picture_and_words_stay_out() -> None:
    model, inputs = BY_NAME["pixart"].make()
    inputs["hidden_states"] = torch.randn(2, 4, 6, 10)
    with replace_attention(model, "dico") as replaced_attention:
        calls = _calls(replaced_attention)
        output(model, inputs)
    assert [place.grid for _, place, _ in calls] == [(3, 5)] * 2
    assert all(x.shape[1] == 15 and place.keep is None for x, place, _ in calls)


def test_attention_with_the_same_weights_draws_the_same(host: tuple[nn.Module, dict[str, Any]]) -> None:
    model, inputs = host
    dense = output(model, inputs)
    with replace_attention(model, "attention") as replaced_attention, torch.no_grad():
        for mixer, old in zip(replaced_attention.mixers, replaced_attention.replaced.values(), strict=True):
            for name in ("weight", "bias"):
                qkv = [getattr(getattr(old, part), name) for part in ("to_q", "to_k", "to_v")]
                getattr(mixer.qkv, name).copy_(torch.cat([torch.zeros(32) if w is None else w for w in qkv]))
                getattr(mixer.out, name).copy_(getattr(old.to_out[0], name))
        torch.testing.assert_close(output(model, inputs), dense)


def test_undone_it_leaves_no_trace(host: tuple[nn.Module, dict[str, Any]]) -> None:
    model, inputs = host
    before, shown, dense = {**model.state_dict()}, repr(model), output(model, inputs)
    replaced_attention = replace_attention(model, "dico")
    assert "transformer_blocks.1.attn1.mixer.depthwise.weight" in model.state_dict()
    replaced_attention.undo()
    assert repr(model) == shown and not model._forward_pre_hooks
    assert model.state_dict().keys() == before.keys() and torch.equal(output(model, inputs), dense)


def test_new_mixers_learn_in_the_type_of_the_model(host: tuple[nn.Module, dict[str, Any]]) -> None:
    model, inputs = host
    with replace_attention(model.double(), "dico") as replaced_attention:
        halves = {name: value.double() if _is_float(value) else value for name, value in inputs.items()}
        model(**halves)[0].square().sum().backward()
        weights = list(replaced_attention.mixers.parameters())
    assert all(w.dtype == torch.float64 and w.grad is not None and w.grad.any() for w in weights)


def timm_vit(**options: Any) -> tuple[nn.Module, str]:
    return vits.create("vit_tiny_patch16_224", **options).eval(), "blocks.*.attn"


def transformers_vit() -> tuple[nn.Module, str]:
    from transformers import ViTConfig, ViTForImageClassification

    tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = ViTForImageClassification(ViTConfig(image_size=32, patch_size=4, **tiny))
    return model.eval(), "*layers.*.attention"


@pytest.mark.parametrize("make", [timm_vit, transformers_vit])
@pytest.mark.parametrize("mixer", ["ninformer(tokens=65)", "minimal(kind='symmetric/shared')"])
def test_a_vision_transformer_takes_mixers_beside_its_class_token(make: Any, mixer: str) -> None:
    model, sites = make()
    inputs = {"x" if make is timm_vit else "pixel_values": torch.randn(2, 3, 32, 32)}
    before, dense = repr(model), output(model, inputs)
    with replace_attention(model, mixer, sites=sites) as replaced_attention:
        calls = _calls(replaced_attention)
        assert not torch.allclose(output(model, inputs), dense)
    assert [(tuple(x.shape), place.grid) for x, place, _ in calls] == [((2, 65, 32), ())] * 2
    assert repr(model) == before and torch.equal(output(model, inputs), dense)


def test_without_a_class_token_a_vision_transformer_has_a_grid() -> None:
    model, sites = timm_vit(class_token=False, global_pool="avg")
    with replace_attention(model, "dico", sites=sites) as replaced_attention:
        calls = _calls(replaced_attention)
        model(torch.randn(1, 3, 32, 32))
    assert [place.grid for _, place, _ in calls] == [(8, 8)] * 2


def test_attention_of_its_own_weights_classifies_the_same() -> None:
    model, sites = timm_vit()
    x = torch.randn(2, 3, 32, 32)
    dense = model(x)
    with replace_attention(model, "attention", sites=sites) as replaced_attention, torch.no_grad():
        for mixer, old in zip(replaced_attention.mixers, replaced_attention.replaced.values(), strict=True):
            mixer.qkv.load_state_dict(old.qkv.state_dict())
            mixer.out.load_state_dict(old.proj.state_dict())
        torch.testing.assert_close(model(x), dense)


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


class _Telling(nn.Module):
    def forward(self, x: torch.Tensor, place: TokenPositions) -> MixerOutput:
        return MixerOutput(x, {"balance": x.sum()})


def test_bad_input(host: tuple[nn.Module, dict[str, Any]]) -> None:
    model, inputs = host
    with pytest.raises(ValueError, match=r"sites='blocks.\*' match nothing in (DiT|PixArt)Transformer2DModel"):
        replace_attention(model, "dico", sites="blocks.*")
    with pytest.raises(ValueError, match="no mixer is named 'diko'"):
        replace_attention(model, "diko")
    with pytest.raises(
        ValueError, match=r"'transformer_blocks.0.ff' \(FeedForward\) is no self-attention that has to_q"
    ):
        replace_attention(model, "dico", sites="transformer_blocks.*.ff")
    with pytest.raises(ValueError, match="mixer 'ninformer' is made for one number of tokens; give it"):
        replace_attention(model, "ninformer")
    assert not model._forward_pre_hooks
    with replace_attention(model, "dico"):
        model.transformer_blocks[0].attn1.mixer = _Telling()
        with pytest.raises(ValueError, match=r"losses of its own \(balance\)"):
            output(model, inputs)
