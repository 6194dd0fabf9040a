"""Models that read one sequence and write another: three kinds of sites, caches, and the encoder by itself."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.site import Where, at
from saccade.run.attached_model import family_of
from tests.hosts.host import output
from tests.hosts.models.encoders import HOSTS
from tests.hosts.stand_ins import WINDOW, Looking, Masked, Near, Same, Scaled, looking

pytestmark = pytest.mark.host
BY_NAME = {host.name: host for host in HOSTS}
PAIRS = tuple(host.name for host in HOSTS if "conditional" in host.name or host.name == "marianmtmodel")
every_pair = pytest.mark.parametrize("name", PAIRS)
EVERY_KIND = Where(kinds=("self", "cross"))


def written(model: Any, inputs: dict[str, Any], split: tuple[int, ...]) -> Tensor:
    """Logits of the words written, some at a time against a cache; what is read is encoded once."""
    from transformers import DynamicCache, EncoderDecoderCache

    given, ids = dict(inputs), inputs["decoder_input_ids"]
    cache, found, start = EncoderDecoderCache(DynamicCache(), DynamicCache()), [], 0
    for n in split:
        given |= {"decoder_input_ids": ids[:, start : start + n], "past_key_values": cache, "use_cache": True}
        with torch.no_grad():
            out = model(**{**given, "return_dict": True})
        found.append(out.logits)
        given["encoder_outputs"] = (out.encoder_last_hidden_state,)
        start += n
    return torch.cat(found, dim=1)


@every_pair
@pytest.mark.parametrize("split", [(1, 1, 3), (2, 2, 1)], ids=str)
def test_words_written_one_by_one_are_those_written_at_once(name: str, split: tuple[int, ...]) -> None:
    model, inputs = BY_NAME[name].build()
    with attach(model, Masked(Near(3))):
        whole = output(model, inputs)
        parts = written(model, inputs, split)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


@every_pair
def test_every_kind_of_site_is_told_its_tokens(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    found: dict[str, set[str]] = {}

    def look(call: AttentionCall) -> None:
        said = f"{call.layout_q.describe()} / {call.layout_k.describe()}"
        found.setdefault("read" if "encoder." in call.site.name[:14] else call.site.kind, set()).add(said)

    with attach(model, looking(look), where=EVERY_KIND) as run:
        written(model, inputs, (3, 2))
    read = BY_NAME[name].layout
    assert found["self"] == {"text 3 / text 3", "text 2 / text 5"}
    assert found["cross"] == {f"text 3 / {read}", f"text 2 / {read}"}
    assert found["read"] == {f"{read} / {read}"}
    assert {site.name.count("decoder.") + 1: site.calls for site in run.report().sites} == {1: 1, 2: 2}


@every_pair
def test_cross_attention_is_edited_where_it_is_asked_for(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    plain = output(model, inputs)
    with attach(model, Same(), where=EVERY_KIND):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    with attach(model, Looking(Scaled(factor=4.0)), where=at(kind="cross")) as run:
        assert (output(model, inputs) - plain).abs().max() > 1e-6
    assert {site.kind for site in run.sites} == {"cross"}


@pytest.mark.parametrize("name", ["t5forconditionalgeneration", "bartforconditionalgeneration"])
def test_what_is_generated_stays_the_same(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    given = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "num_beams": 1}
    plain = model.generate(**given, **options)
    with attach(model, Same()) as run:
        assert torch.equal(model.generate(**given, **options), plain)
    assert {site.calls for site in run.report().sites if site.name.count("decoder.") and not site.note} == {4}


@pytest.mark.parametrize("name", ["t5forconditionalgeneration", "whisperforconditionalgeneration"])
def test_the_encoder_is_a_model_of_its_own(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    encoder, first = model.get_encoder(), next(iter(inputs.values()))
    with torch.no_grad():
        plain = encoder(first)[0]
        with attach(encoder, Masked(Near(2))) as run:
            assert (encoder(first)[0] - plain).abs().max() > 1e-6
    assert len(run.sites) == 2


@pytest.mark.parametrize("name", ["t5encodermodel", "umt5encodermodel"])
def test_a_bias_of_places_stays_in_force(name: str) -> None:
    """The model's own values at every pair, in layers that share them and in layers that have their own."""
    model, inputs = BY_NAME[name].build()
    modules = [block.layer[0].SelfAttention for block in model.encoder.block]
    own = [module for module in modules if module.has_relative_attention_bias]
    wanted = [(own[i] if len(own) > 1 else own[0]).compute_bias(10, 10) for i in range(2)]
    found: list[Tensor] = []
    with attach(model, looking(lambda call: found.append(call.bias.materialize(10, 10)))):
        output(model, inputs)
    for bias, values in zip(found, wanted, strict=True):
        torch.testing.assert_close(bias, values)


def test_places_of_sound_lie_along_time() -> None:
    model, inputs = BY_NAME["whisperforconditionalgeneration"].build()
    at_once = torch.arange(9)
    near = (at_once[:, None] - at_once).abs() < 2
    seen: list[Tensor] = []

    def look(call: AttentionCall) -> None:
        assert call.mask is not None
        seen.append(call.mask.materialize(call.layout_q, call.layout_k)[0, 0])

    with attach(model, Masked(WINDOW), looking(look), where=at("*encoder.layers.*")):
        output(model, inputs)
    assert len(seen) == 2 and all(torch.equal(mask, near) for mask in seen)
    assert family_of(model).text == "apart"
