"""Where words, references and what fills up stand in models of one stream; batches without one layout are refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import SilentSiteError
from saccade.core.rows import Rows
from saccade.papers.consistedit import ConsistEdit
from tests.hosts.host import output
from tests.hosts.models.streams import HOSTS
from tests.hosts.stand_ins import Masked, Same, looking

pytestmark = pytest.mark.host
BY_NAME = {host.name: host for host in HOSTS}
Inputs = dict[str, Any]


def seen(model: nn.Module, inputs: Inputs) -> list[tuple[str, str]]:
    """Queries and keys of every kind of call, in order; each layout is what passed attention."""
    found: list[tuple[str, str]] = []

    def look(call: AttentionCall) -> None:
        assert (call.q.shape[2], call.k.shape[2]) == (call.layout_q.n, call.layout_k.n)
        found.append((call.layout_q.describe(), call.layout_k.describe()))

    with attach(model, looking(look)):
        output(model, inputs)
    return list(dict.fromkeys(found))


def test_lumina_leaves_padded_words_out_of_its_stream() -> None:
    model, inputs = BY_NAME["lumina2"].build()
    image, joint = "image 24 (1x4x6)", "text 4 | image 24 (1x4x6)"
    assert seen(model, inputs) == [(image, image), (joint, joint)]
    inputs["encoder_attention_mask"] = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    with attach(model, Same()), pytest.raises(ValueError, match=r"\[4, 2\] words.*captions of different length apart"):
        output(model, inputs)


def prompted(same: bool) -> tuple[nn.Module, Inputs]:
    """OmniGen with a picture of 2 x 3 tokens in its prompts, of which the second is not the first's."""
    model, inputs = BY_NAME["omnigen"].build()
    spans = {0: [[1, 7]], 1: [[1, 7] if same else [2, 8]]}
    n, old = 9, inputs["input_ids"].shape[1]
    whole = n + inputs["attention_mask"].shape[1] - old
    given = {
        "input_ids": torch.randint(1, 38, (2, n)),
        "attention_mask": torch.ones(2, whole, whole),
        "position_ids": torch.arange(whole).repeat(2, 1),
        "input_img_latents": [torch.randn(1, 4, 4, 6) for _ in range(2)],
        "input_image_sizes": spans,
    }
    return model, {**inputs, **given}


@pytest.mark.parametrize(
    ("same", "prompt"), [(True, "text 1 | reference1 6 (1x2x3) | text2 2"), (False, "prompt 9")], ids=["same", "other"]
)
def test_pictures_in_a_prompt_are_no_words_and_no_image(same: bool, prompt: str) -> None:
    layout = f"{prompt} | time 1 | image 24 (1x4x6)"
    assert seen(*prompted(same)) == [(layout, layout)]


@pytest.mark.parametrize("square", [False, True])
def test_hidream_fills_up_what_is_not_square(square: bool) -> None:
    model, inputs = BY_NAME["hidream"].build()
    if square:
        inputs["hidden_states"] = torch.randn(2, 4, 8, 8)
    layout = "image 16 (1x4x4) | text 11" if square else "image 20 (1x4x5) | image padding 4 | text 11"
    assert seen(model, inputs) == [(layout, layout)]


def patched(sizes: list[list[int]]) -> tuple[nn.Module, Inputs]:
    """HiDream's inputs in patches, as its trainers give them."""
    model, inputs = BY_NAME["hidream"].build()
    real = torch.zeros(2, 24)
    for row, (height, width) in enumerate(sizes):
        real[row, : height * width] = 1
    places = {"img_ids": torch.zeros(2, 24, 3), "img_sizes": torch.tensor(sizes), "hidden_states_masks": real}
    return model, {**inputs, **places, "hidden_states": torch.randn(2, 24, 16)}


def test_hidream_takes_patches_of_one_size() -> None:
    layout = "image 12 (1x3x4) | image padding 12 | text 11"
    assert seen(*patched([[3, 4]] * 2)) == [(layout, layout)]
    model, inputs = patched([[3, 4], [4, 3]])
    with attach(model, Same()), pytest.raises(ValueError, match="img_sizes=.* differ in one batch"):
        output(model, inputs)


def edited(cached: bool = False) -> tuple[nn.Module, list[Inputs]]:
    """Qwen-Image 2.1 with two references side by side in its prompt; a step, or two of which one fills a cache."""
    from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache

    model, inputs = BY_NAME["qwen_image21"].build()
    slots = [False] * 2 + [True] * 3 + [False] * 2 + [True] * 6
    given = {
        "hidden_states": torch.randn(2, 4 + 8 + 24, 8),
        "encoder_hidden_states": torch.randn(2, 7, 16),
        "encoder_hidden_states_mask": torch.tensor([[1] * 7, [1] * 6 + [0]]).bool(),
        "img_shapes": [[(1, 2, 2), (1, 2, 4), (1, 4, 6)]] * 2,
        "img_mask": torch.tensor([slots] * 2),
    }
    cache = {"kv_cache": QwenImage21KVCache(2)} if cached else {}
    modes = ({"kv_cache_mode": "extract"}, {"kv_cache_mode": "cached"}) if cached else ({},)
    return model, [{**inputs, **given, **cache, **mode} for mode in modes]


def test_the_image_of_qwen_image_21_sees_words_and_references_in_their_order() -> None:
    model, (inputs,) = edited()
    keys = "text 2 | reference1 4 (1x2x2) | reference2 8 (1x2x4) | text2 2 | image 24 (1x4x6)"
    assert seen(model, inputs) == [("image 24 (1x4x6)", keys)]


def test_a_cache_changes_nothing_under_a_plan() -> None:
    """The image of a step that reads the cache is that of a step that computes all."""
    model, steps = edited(cached=True)
    whole = {name: value for name, value in steps[0].items() if not name.startswith("kv_cache")}
    with attach(model, Masked()):
        plain = output(model, whole)[:, -24:]
        for step in steps:
            torch.testing.assert_close(output(model, step)[:, -24:], plain, rtol=1e-4, atol=1e-5)


def test_what_stands_before_the_image_is_left_to_the_host() -> None:
    model, (inputs,) = edited()
    plain = output(model, inputs)
    with attach(model, Masked()):
        masked = output(model, inputs)
    torch.testing.assert_close(masked[:, :-24], plain[:, :-24], rtol=1e-5, atol=1e-6)
    assert (masked[:, -24:] - plain[:, -24:]).abs().max() > 1e-4


def test_an_edit_takes_operands_whose_keys_are_more_than_its_queries() -> None:
    """The target's image asks and is asked as the source's, which by themselves differ: their prompts do."""
    model, (inputs,) = edited()
    inputs["hidden_states"] = inputs["hidden_states"][:1].expand(2, -1, -1).contiguous()
    found: list[bool] = []

    def look(call: AttentionCall) -> None:
        q, k = call.q, call.k[:, :, call.layout_k.span("image")]
        found.append(torch.equal(q[0], q[1]) and torch.equal(k[0], k[1]))

    for stack in ((), (ConsistEdit(),)):
        with attach(model, *stack, looking(look), rows=Rows.of("source", "target")) as run:
            run.step(0, of=4)
            output(model, inputs)
    assert found == [True, False, True, True]  # in the first block the image has not met the words


def test_a_processor_that_asks_for_all_tokens_at_once_is_refused() -> None:
    from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21FlexAttnProcessor

    model, _ = edited()
    model.set_attn_processor(QwenImage21FlexAttnProcessor())  # type: ignore[operator]
    with pytest.raises(SilentSiteError, match="set_attn_processor.QwenImage21AttnProcessor"):
        attach(model, Same())


def one_picture(model: nn.Module, inputs: Inputs) -> Inputs:
    return {**inputs, "hidden_states": torch.randn(2, 4, 3, 8, 12)}


def alone(model: nn.Module, inputs: Inputs) -> Inputs:
    return {**inputs, "hidden_states": torch.randn(2, 1, 4, 1, 8, 12)}


@pytest.mark.parametrize(
    ("given", "layout"),
    [(one_picture, "image 72 (3x4x6) | text 6"), (alone, "image 24 (1x4x6) | text 6")],
    ids=["video", "alone"],
)
def test_joyimage_without_references(given: Callable[[nn.Module, Inputs], Inputs], layout: str) -> None:
    model, inputs = BY_NAME["joyimage"].build()
    assert seen(model, given(model, inputs)) == [(layout, layout)]


def test_joyimage_denoises_the_last_of_its_pictures() -> None:
    """Another reference leaves what enters the first attention as the image as it was."""
    model, inputs = BY_NAME["joyimage"].build()
    entered: list[Tensor] = []
    with attach(model, looking(lambda call: entered.append(call.host.hidden[:, :24]), "host.hidden")):
        output(model, inputs)
        inputs["hidden_states"][:, 0] += 1  # the reference
        output(model, inputs)
    first, second = entered[0], entered[2]
    assert torch.equal(first, second)


def test_rows_of_joyimage_plus_have_the_same_pictures() -> None:
    model, inputs = BY_NAME["joyimage_plus"].build()
    inputs["shape_list"] = [[(1, 3, 4), (1, 2, 3)], [(1, 3, 4), (1, 3, 2)]]
    with attach(model, Same()), pytest.raises(ValueError, match="shape_list=.*differs in one batch"):
        output(model, inputs)
