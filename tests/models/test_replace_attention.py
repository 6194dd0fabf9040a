"""Mixers of the kit inside diffusers' DiT and PixArt."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from saccade.models.replace_attention import ReplacedAttention, replace_attention
from saccade.nn.part import MixerOutput, TokenPositions
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


@pytest.mark.parametrize("mixer", ["dico", "dico(gate='none', kernel=5)", "attention(rotary=True)"])
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
    with replace_attention(model, "dico"):
        model.transformer_blocks[0].attn1.mixer = _Telling()
        with pytest.raises(ValueError, match=r"losses of its own \(balance\)"):
            output(model, inputs)
