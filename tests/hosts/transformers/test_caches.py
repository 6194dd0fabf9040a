"""Every kind of cache: of a fixed size, of layers that see all and layers that see a window, past the window."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout, Segment
from tests.hosts.stand_ins import Same, looking
from tests.hosts.tiny import BY_NAME
from tests.hosts.transformers.test_decode import walk
from tests.hosts.transformers.texts import LEFT, LENGTH, SHARED, words

pytestmark = pytest.mark.host
WINDOW = 4
MIXED: dict[str, Any] = {
    **SHARED, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 0,
    "layer_types": ["full_attention", "sliding_attention"],
}  # fmt: skip


def mixed() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**MIXED, head_dim=8))


def mixed_the_other_way() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**{**MIXED, "layer_types": MIXED["layer_types"][::-1]}))


def sliding() -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**SHARED, sliding_window=WINDOW))


def full() -> Any:
    return BY_NAME["qwen3"].build()[0]


MAKERS = (full, mixed, mixed_the_other_way, sliding)
every_model = pytest.mark.parametrize("make", MAKERS)


@pytest.mark.parametrize("padding", [None, LEFT], ids=["none", "left"])
@pytest.mark.parametrize("implementation", ["dynamic", "static"])
@every_model
def test_what_is_generated_stays_the_same(make: Any, implementation: str, padding: Tensor | None) -> None:
    torch.manual_seed(0)
    model = make().eval()
    given = {**words(padding), "max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    given |= {"cache_implementation": implementation, "output_logits": True, "return_dict_in_generate": True}
    del given["return_dict"]
    plain = model.generate(**given)
    with attach(model, Same()) as run:
        through = model.generate(**given)
    assert torch.equal(through.sequences, plain.sequences) and run.report().forwards == 5
    torch.testing.assert_close(torch.stack(through.logits), torch.stack(plain.logits), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("split", [(6, 1, 1, 2), (2, 3, 5), (LENGTH,)], ids=str)
@pytest.mark.parametrize("kind", ["dynamic", "static"])
@every_model
def test_decoding_agrees_with_the_host(make: Any, kind: str, split: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, ids = make().eval(), words()["input_ids"]
    plain = walk(model, ids, split, kind)
    with attach(model, Same()):
        torch.testing.assert_close(walk(model, ids, split, kind), plain, rtol=1e-4, atol=1e-5)


def test_maps_made_beforehand_by_kind_of_layer_are_read() -> None:
    model, ids = mixed().eval(), words()["input_ids"]
    at = torch.arange(LENGTH)
    near = (at[:, None] >= at) & (at[:, None] - at < 3)
    maps = {"full_attention": None, "sliding_attention": near[None, None].expand(2, 1, -1, -1)}
    plain = model(input_ids=ids, attention_mask=maps).logits
    with attach(model, Same()):
        torch.testing.assert_close(model(input_ids=ids, attention_mask=maps).logits, plain, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain, model(input_ids=ids).logits)


def test_each_layer_is_told_the_tokens_its_cache_holds() -> None:
    model, ids = mixed().eval(), words()["input_ids"]
    stated = Layout((Segment("prompt", "text", 6), Segment("answer", "text", 4)))
    found: dict[int, list[str]] = {0: [], 1: []}

    def look(call: AttentionCall) -> None:
        assert (call.q.shape[2], call.k.shape[2]) == (call.layout_q.n, call.layout_k.n)
        found[call.site.index].append(f"{call.layout_q.describe()} / {call.layout_k.describe()}")

    with attach(model, looking(look), layout=stated):
        walk(model, ids, (7, 1, 2), "dynamic")
    both = "prompt 6 | answer 1"
    assert found == {
        0: [f"{both} / {both}", "answer 1 / prompt 6 | answer 2", "answer 2 / prompt 6 | answer 4"],
        1: [f"{both} / {both}", "answer 1 / prompt 2 | answer 2", "answer 2 / prompt 1 | answer 4"],
    }
