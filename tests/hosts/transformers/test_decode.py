"""Generation with a cache: the queries are the last tokens of the keys, and a plan is made for both."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout, Segment
from tests.hosts.stand_ins import Masked, Near, Same, looking
from tests.hosts.tiny import BY_NAME
from tests.hosts.transformers.pictured import qwen2_vl_inputs
from tests.hosts.transformers.texts import LEFT, LENGTH, words

pytestmark = pytest.mark.host
SPLITS = pytest.mark.parametrize("split", [(6, 1, 1, 1, 1), (4, 3, 3), (1,) * LENGTH], ids=["words", "chunks", "all"])


def cache_of(model: Any, kind: str) -> Any:
    from transformers import DynamicCache, StaticCache

    return (
        DynamicCache(config=model.config) if kind == "dynamic" else StaticCache(config=model.config, max_cache_len=16)
    )


def walk(model: Any, ids: Tensor, split: tuple[int, ...], kind: str, padding: Tensor | None = None) -> Tensor:
    """Logits of all tokens, some of them at a time."""
    cache, start, found = cache_of(model, kind), 0, []
    for n in split:
        mask = {} if padding is None else {"attention_mask": padding[:, : start + n]}
        with torch.no_grad():
            found.append(model(input_ids=ids[:, start : start + n], past_key_values=cache, **mask).logits)
        start += n
    return torch.cat(found, dim=1)


@SPLITS
@pytest.mark.parametrize("padding", [None, LEFT], ids=["none", "left"])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_decoding_through_saccade_agrees_with_the_host(
    kind: str, padding: Tensor | None, split: tuple[int, ...]
) -> None:
    model, inputs = BY_NAME["llama"].build()
    ids = inputs["input_ids"]
    plain = walk(model, ids, split, kind, padding)
    with attach(model, Same()):
        through = walk(model, ids, split, kind, padding)
    real = torch.ones_like(ids).bool() if padding is None else padding.bool()
    torch.testing.assert_close(through[real], plain[real], rtol=1e-4, atol=1e-5)


@SPLITS
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_window_is_the_same_in_one_forward_and_in_many(name: str, split: tuple[int, ...]) -> None:
    model, inputs = BY_NAME[name].build()
    with attach(model, Masked(Near(3))):
        whole = model(input_ids=inputs["input_ids"]).logits
        parts = walk(model, inputs["input_ids"], split, "dynamic")
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def layouts(model: Any, ids: Tensor, split: tuple[int, ...], kind: str, **options: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def look(call: AttentionCall) -> None:
        assert call.q.shape[2] == call.layout_q.n and call.k.shape[2] == call.layout_k.n
        found.append((call.layout_q.describe(), call.layout_k.describe()))

    with attach(model, looking(look), **options):
        walk(model, ids, split, kind)
    return list(dict.fromkeys(found))


def test_layouts_tell_queries_keys_and_what_a_cache_has_not_written() -> None:
    model, inputs = BY_NAME["llama"].build()
    ids = inputs["input_ids"]
    assert layouts(model, ids, (6, 3, 1), "dynamic") == [
        ("text 6", "text 6"),
        ("text 3", "text 9"),
        ("text 1", "text 10"),
    ]
    assert layouts(model, ids, (6, 4), "static") == [
        ("text 6", "text 6 | unwritten 10"),
        ("text 4", "text 10 | unwritten 6"),
    ]


def test_a_layout_by_hand_is_cut_to_what_a_cache_lets_see() -> None:
    model, inputs = BY_NAME["llama"].build()
    stated = Layout((Segment("prompt", "text", 6), Segment("answer", "text", 2)))
    assert layouts(model, inputs["input_ids"], (5, 2, 3), "dynamic", layout=stated) == [
        ("prompt 5", "prompt 5"),
        ("prompt 1 | answer 1", "prompt 6 | answer 1"),
        ("answer 1 | later 2", "prompt 6 | answer 2 | later 2"),
    ]


def test_a_layout_by_hand_names_prompt_and_answer_of_a_diffusion_lm() -> None:
    model, inputs = BY_NAME["llada"].build()
    stated = Layout((Segment("prompt", "text", 6), Segment("generation", "text", 4)))
    found = []
    with attach(model, looking(lambda call: found.append(call.layout_k.describe())), layout=stated):
        model(**inputs)
    assert set(found) == {"prompt 6 | generation 4"}
    with attach(model, Same(), layout=Layout.plain(9)):
        with pytest.raises(ValueError, match="got 10 queries and 10 keys, its layout says 9 and 9"):
            model(**inputs)


@pytest.mark.parametrize("name", ["llama", "qwen2_vl", "llava"])
def test_what_is_generated_stays_the_same(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    given = {k: v for k, v in inputs.items() if k not in ("use_cache", "return_dict")}
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(**given, **options)
    with attach(model, Same()) as run:
        assert torch.equal(model.generate(**given, **options), plain)
    assert run.report().forwards == 4


def test_pictures_keep_their_place_while_words_are_generated() -> None:
    model, _ = BY_NAME["qwen2_vl"].build()
    found: list[tuple[str, str]] = []
    given = {k: v for k, v in qwen2_vl_inputs((1, 4, 8), (1, 6, 4)).items() if k not in ("use_cache", "return_dict")}
    with attach(model, looking(lambda call: found.append((call.layout_q.describe(), call.layout_k.describe())))):
        model.generate(**given, max_new_tokens=3, do_sample=False, pad_token_id=0)
    first = "text 4 | image 8 (1x2x4) | text2 4 | image2 6 (1x3x2) | text3 "
    assert list(dict.fromkeys(found)) == [
        (first + "3", first + "3"),
        ("text3 1", first + "4"),
        ("text3 1", first + "5"),
    ]


def test_a_mask_among_pictures_leaves_decoding_to_the_host_and_the_report_counts_it() -> None:
    model, inputs = BY_NAME["qwen2_vl"].build()
    given = {k: v for k, v in inputs.items() if k not in ("use_cache", "return_dict")}
    with attach(model, Masked()) as run:
        model.generate(**given, max_new_tokens=4, do_sample=False, pad_token_id=0)
    report = run.report()
    assert report.forwards == 4 and {site.calls for site in report.sites if not site.note} == {1}


def test_a_cache_filled_elsewhere_is_refused_where_it_may_hold_pictures() -> None:
    model, inputs = BY_NAME["llava"].build()
    cache = model(**{**inputs, "use_cache": True, "return_dict": True}).past_key_values
    word = words(length=1)["input_ids"]
    with attach(model, Same()), pytest.raises(ValueError, match="holds 23 tokens that were not seen while attached"):
        model(input_ids=word, past_key_values=cache)
