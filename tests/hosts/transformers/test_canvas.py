"""A canvas refined over a prompt's cache: what it sees, steps without the encoder, and the way past the attachment."""

import pytest
import torch

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import SilentSiteError
from tests.hosts.models.canvas import HOSTS
from tests.hosts.stand_ins import Masked, Near, Same, looking

pytestmark = pytest.mark.host


def test_a_canvas_sees_the_prompt_that_each_layer_keeps_and_itself_both_ways() -> None:
    model, inputs = HOSTS[0].build()
    found: dict[str, str] = {}

    def look(call: AttentionCall) -> None:
        found[call.site.name] = f"{call.layout_q.describe()} / {call.layout_k.describe()}"
        if "decoder." in call.site.name:
            allowed = call.mask.materialize(call.layout_q, call.layout_k)[0] if call.mask else torch.ones(1)
            assert allowed.all()  # the first row has no padding

    with torch.no_grad(), attach(model, looking(look)):
        model(**inputs)
    assert list(found.values()) == [
        "text 10 / text 10",
        "text 10 / text 10",
        "canvas 6 / prompt 3 | canvas 6",
        "canvas 6 / prompt 10 | canvas 6",
    ]


def test_later_steps_read_the_cache_alone_and_agree_with_the_first() -> None:
    model, inputs = HOSTS[0].build()
    given = {key: x for key, x in inputs.items() if key != "return_dict"}
    with torch.no_grad(), attach(model, Masked(Near(4))) as run:
        first = model(**given)
        canvas = {key: given[key] for key in ("decoder_input_ids", "decoder_attention_mask")}
        again = model(**canvas, past_key_values=first.past_key_values)
    torch.testing.assert_close(again.logits, first.logits, rtol=1e-4, atol=1e-5)
    assert {"encoder." in site.name: site.calls for site in run.report().sites if not site.note} == {True: 1, False: 2}


@pytest.mark.bad_input
def test_generation_that_passes_by_the_model_is_refused_with_the_mend() -> None:
    model, inputs = HOSTS[0].build()
    with attach(model, Same()), pytest.raises(SilentSiteError, match=r"generate\(\) passes by .*for every step"):
        model.generate(inputs["input_ids"])
