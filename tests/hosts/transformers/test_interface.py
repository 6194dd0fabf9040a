"""One registered name, one interceptor a module: what shares a config with an attached module does not see it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, LlamaForCausalLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import MissingError, SaccadeError, SilentSiteError
from saccade.core.site import at
from saccade.seam import interface
from saccade.seam.kernel_choice import key_heads
from tests.hosts.stand_ins import Looking, Masked, Near, Same, Scaled, looking
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host


def pair() -> tuple[Any, Any, dict[str, Any]]:
    """Two models of one config object, and inputs."""
    one, inputs = BY_NAME["llama"].build()
    two = LlamaForCausalLM(one.config).eval()
    two.load_state_dict(one.state_dict())
    assert two.config is one.config
    return one, two, inputs


def configs(model: Any) -> list[tuple[int, str]]:
    owners = [m for m in model.modules() if hasattr(m, "config")]
    return [(id(m.config), repr(m.config.to_dict()) + m.config._attn_implementation) for m in owners]


def test_a_model_of_the_same_config_does_not_see_the_attachment() -> None:
    one, two, inputs = pair()
    plain, before = output(two, inputs), configs(two)
    with attach(one, Looking(Scaled())):
        assert not torch.equal(output(one, inputs), plain)
        assert torch.equal(output(two, inputs), plain) and configs(two) == before
        with attach(two, Masked(Near(2))):
            assert not torch.equal(output(two, inputs), output(one, inputs))
        assert torch.equal(output(two, inputs), plain)


def test_the_models_own_config_is_never_another() -> None:
    model, inputs = BY_NAME["qwen2_vl"].build()
    before, own = configs(model), [model.config, model.config.text_config, model.config.vision_config]
    texts = [config.to_dict() for config in own]
    with attach(model, Same(), where=at("*layers.1.*")):
        output(model, inputs)
        assert [model.config, model.config.text_config, model.config.vision_config] == own
        assert [config.to_dict() for config in own] == texts
        assert all(config._attn_implementation == "sdpa" for config in own)
        changed = [a for a, b in zip(configs(model), before, strict=True) if a != b]
        assert len(changed) == 1 and changed[0][1].endswith(interface.NAME)
    assert configs(model) == before


def test_both_interfaces_know_the_name() -> None:
    assert AttentionInterface()[interface.NAME] is interface.attention
    assert ALL_MASK_ATTENTION_FUNCTIONS[interface.NAME] is ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]


def test_a_model_loaded_with_our_name_has_torchs_attention_until_attached() -> None:
    model, inputs = BY_NAME["qwen3"].build()
    plain = output(model, inputs)
    model.set_attn_implementation(interface.NAME)
    assert torch.equal(output(model, inputs), plain)
    with attach(model):
        assert torch.equal(output(model, inputs), plain)
    with attach(model, Masked(Near(2))):
        assert not torch.equal(output(model, inputs), plain)
    assert torch.equal(output(model, inputs), plain) and model.config._attn_implementation == interface.NAME


def test_eager_attention_stays_eager_where_nothing_is_planned() -> None:
    model, inputs = BY_NAME["qwen3"].build()
    model.set_attn_implementation("eager")
    plain = model(**{**inputs, "output_attentions": True})
    with attach(model):
        assert torch.equal(output(model, inputs), plain[0])
        weights = model(**{**inputs, "output_attentions": True})[-1]
    assert all(torch.equal(a, b) for a, b in zip(weights, plain[-1], strict=True))


def test_heads_that_were_not_chosen_keep_the_hosts_attention() -> None:
    model, inputs = BY_NAME["bert"].build()
    first = at("*layer.0.*", heads=(1, 2))
    seen: list[Tensor] = []
    hook = model.bert.encoder.layer[0].attention.self.register_forward_hook(lambda m, args, out: seen.append(out[0]))
    plain = output(model, inputs)
    with attach(model, Looking(Scaled(factor=4.0)), where=first):
        assert not torch.equal(output(model, inputs), plain)
    hook.remove()
    before, after = (x.unflatten(-1, (4, -1)) for x in seen)
    assert torch.equal(before[:, :, (0, 3)], after[:, :, (0, 3)])
    assert all((before[:, :, h] != after[:, :, h]).any() for h in (1, 2))


def test_keys_shared_among_heads_reach_systems_as_they_are() -> None:
    model, inputs = BY_NAME["llama"].build()
    shapes: list[tuple[int, int]] = []
    with attach(model, looking(lambda call: shapes.append((call.q.shape[1], call.k.shape[1])))) as run:
        output(model, inputs)
    assert set(shapes) == {(4, 2)} and {site.heads for site in run.sites} == {4}
    assert key_heads(model.model.layers[0].self_attn, 4) == 2


@pytest.mark.parametrize("name", ["llama", "qwen3", "bert", "roberta", "modern_bert", "llava", "qwen2_vl"])
def test_stream_and_projection_lead_to_the_values_of_the_call(name: str) -> None:
    model, inputs = BY_NAME[name].build()

    def look(call: AttentionCall) -> None:
        torch.testing.assert_close(call.host.enter(call.host.stream), call.host.hidden)
        k, v = call.host.project(call.host.hidden)
        torch.testing.assert_close(v, call.v)
        assert k.shape == call.k.shape
        if name in ("bert", "roberta"):
            torch.testing.assert_close(k, call.k)

    with attach(model, looking(look, "host.hidden", "host.stream", "host.enter", "host.project")) as run:
        output(model, inputs)
    assert sum(site.calls for site in run.report().sites) == len(run.sites) == 2


@pytest.mark.parametrize("name", ["llama", "modern_bert", "qwen2_vl"])
def test_rotary_tables_are_missing_with_the_mend(name: str) -> None:
    model, _ = BY_NAME[name].build()
    with pytest.raises(MissingError, match="offers no 'rotary' at site '.*'; .*edit q and k as they come, rotated"):
        attach(model, looking(lambda call: None, "host.rotary"))


def test_attention_chosen_after_attach_is_an_error() -> None:
    model, inputs = BY_NAME["llama"].build()
    plain = output(model, inputs)
    with attach(model, Same()):
        model.set_attn_implementation("eager")
        with pytest.raises(SilentSiteError, match=r"0.self_attn' got another attention \(eager\) after attach"):
            output(model, inputs)
        model.set_attn_implementation("sdpa")
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)


def test_attention_whose_masks_cannot_be_read_is_refused() -> None:
    model, inputs = BY_NAME["llama"].build()
    before = configs(model)
    model.set_attn_implementation("flex_attention")
    with pytest.raises(
        SaccadeError, match=r"'flex_attention' at site .*; call model.set_attn_implementation\('sdpa'\)"
    ):
        attach(model, Same())
    model.set_attn_implementation("sdpa")
    assert configs(model) == before


class Deaf(torch.nn.Module):
    """Attention that asks nobody."""

    num_heads = 4

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_a_module_that_asks_no_interface_cannot_be_reached() -> None:
    model, _ = BY_NAME["llama"].build()
    model.model.layers[1].self_attn = Deaf()
    with pytest.raises(
        SilentSiteError, match="1.self_attn' cannot be reached: the code of Deaf asks no attention interface"
    ):
        attach(model, Same())
    assert all(text.endswith("sdpa") for _, text in configs(model))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"softcap": 30.0}, "softcap=30.0 at site '.*' changes attention in a way that is not followed here"),
        ({"output_attentions": True}, "output_attentions=True asks for weights that no kernel here keeps"),
    ],
    ids=["softcap", "weights"],
)
def test_what_cannot_be_followed_is_refused(given: dict[str, Any], message: str) -> None:
    model, inputs = BY_NAME["llama"].build()
    site = model.model.layers[0].self_attn
    q, k = torch.randn(2, 4, 10, 8), torch.randn(2, 2, 10, 8)
    with attach(model, Same()):
        output(model, inputs)
        with pytest.raises(ValueError, match=message):
            interface.attention(site, q, k, k, None, scaling=1.0, **given)


def test_dropout_is_refused() -> None:
    model, inputs = BY_NAME["llama"].build()
    for layer in model.train().model.layers:
        layer.self_attn.attention_dropout = 0.5
    with attach(model, Same()), pytest.raises(ValueError, match=r"dropout_p=0.5 at site '.*'; call eval\(\)"):
        output(model, inputs)


def test_a_copy_of_the_model_taken_before_is_free() -> None:
    model, inputs = BY_NAME["llama"].build()
    free = copy.deepcopy(model)
    plain = output(free, inputs)
    with attach(model, Looking(Scaled())):
        assert torch.equal(output(free, inputs), plain)
