"""Every kin known, by its own tiny model: what it offers, caches under a plan, and what it refuses."""

from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import SilentSiteError
from saccade.run.attached_model import family_of
from tests.hosts.host import Host, output
from tests.hosts.models import encoders, pictured
from tests.hosts.models.decoders import HOSTS, decoder
from tests.hosts.stand_ins import Masked, Near, Same, looking
from tests.hosts.transformers.pictured import END, IMAGE, START, VIDEO
from tests.hosts.transformers.test_decode import walk
from tests.hosts.transformers.texts import words

pytestmark = pytest.mark.host
every_kin = pytest.mark.parametrize("host", (*HOSTS, *encoders.HOSTS, *pictured.HOSTS), ids=lambda host: host.name)
every_decoder = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
BY_NAME = {host.name: host for host in HOSTS}


@every_kin
def test_what_is_offered_leads_to_the_values_of_the_call(host: Host) -> None:
    """Rotation keeps the length of k, which shows its norm."""
    model, inputs = host.build()
    items = [item for item in ("hidden", "stream", "enter", "project") if item not in family_of(model).unsupported]

    def look(call: AttentionCall) -> None:
        torch.testing.assert_close(call.host.enter(call.host.stream), call.host.hidden)
        if "project" in items:
            k, v = call.host.project(call.host.hidden)
            torch.testing.assert_close(v, call.v)
            torch.testing.assert_close(k.norm(dim=-1), call.k.norm(dim=-1), rtol=1e-4, atol=1e-5)

    with attach(model, looking(look, *(f"host.{item}" for item in items))) as run:
        output(model, inputs)
    assert {site.calls for site in run.report().sites if not site.note} == {1}


@every_decoder
def test_a_window_is_the_same_in_one_forward_and_with_a_cache(host: Host) -> None:
    model, _ = host.build()
    ids = words()["input_ids"]
    with torch.no_grad(), attach(model, Masked(Near(3))):
        whole = model(input_ids=ids).logits
        parts = walk(model, ids, (6, 1, 3), "dynamic")
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("name", ["gptoss", "deepseekv3", "gemma3", "falcon"])
def test_decoding_through_saccade_agrees_with_the_host(name: str, kind: str) -> None:
    model, _ = BY_NAME[name].build()
    ids = words()["input_ids"]
    plain = walk(model, ids, (6, 1, 3), kind)
    with attach(model, Same()):
        torch.testing.assert_close(walk(model, ids, (6, 1, 3), kind), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.bad_input
def test_soft_capped_scores_are_refused_with_the_mend() -> None:
    model, _ = decoder("Gemma2", attn_logit_softcapping=50.0)
    with pytest.raises(SilentSiteError, match=r"attn_logit_softcapping=50.0 bends .*=None, as sdpa needs it"):
        attach(model, Same())


@pytest.mark.bad_input
def test_attention_by_hand_is_refused_with_the_mend() -> None:
    model, _ = decoder("Falcon", attn_implementation="eager")
    with pytest.raises(SilentSiteError, match="'eager' multiplies q, k and v by hand; load the model with .*='sdpa'"):
        attach(model, Same())


def test_a_sink_takes_its_share_of_every_softmax() -> None:
    """The higher the sink, the less of v is left; what a window closes is not given to it."""
    model, inputs = BY_NAME["gptoss"].build()
    site, left = model.model.layers[0].self_attn, []
    hook = site.o_proj.register_forward_pre_hook(lambda module, given: left.append(given[0].abs().sum().item()))
    with attach(model, Masked(Near(3))):
        for sink in (-1e4, 0.0, 1e4):
            site.sinks.data.fill_(sink)
            output(model, inputs)
    hook.remove()
    assert left[0] > left[1] > left[2] == 0


def test_a_bias_in_the_hosts_map_is_kept_with_a_cache() -> None:
    """Falcon's ALiBi arrives added to the map of its causal order."""
    torch.manual_seed(0)
    model: Any = decoder("Falcon", alibi=True)[0].eval()
    ids = words()["input_ids"]
    plain = walk(model, ids, (6, 1, 3), "dynamic")
    with attach(model, Same()):
        torch.testing.assert_close(walk(model, ids, (6, 1, 3), "dynamic"), plain, rtol=1e-4, atol=1e-5)


def test_every_other_head_of_a_kin_is_known() -> None:
    from transformers import FalconModel, GPT2Config, GPT2ForSequenceClassification, Olmo2Config, Olmo2Model

    small = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    models = (GPT2ForSequenceClassification(GPT2Config(**small)), Olmo2Model(Olmo2Config(**small)))
    assert [family_of(model).name for model in models] == ["GPT-2", "Llama"]
    for model in (*models, FalconModel(decoder("Falcon")[0].config)):
        with attach(model, Same()) as run:
            assert len(run.sites) == model.config.num_hidden_layers


@pytest.mark.parametrize("host", pictured.HOSTS, ids=lambda host: host.name)
def test_what_is_generated_after_pictures_stays_the_same(host: Host) -> None:
    model, inputs = host.build()
    given = {key: x for key, x in inputs.items() if key not in ("use_cache", "return_dict", "attention_mask")}
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    options |= {"suppress_tokens": [IMAGE, VIDEO, START, END]}
    plain = model.generate(**given, **options)
    found: list[int] = []
    with attach(model, looking(lambda call: found.append(len(call.layout_k.of("image"))))) as run:
        assert torch.equal(model.generate(**given, **options), plain)
    assert run.report().forwards == 4 and found[0] > 0
