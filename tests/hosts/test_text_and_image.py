"""What some models of text and image in one sequence have besides: references in a cache, a model for each branch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.masks import forbid
from tests.hosts.host import Host, output
from tests.hosts.models.text_and_image import cogview4, glm_image, ideogram4
from tests.hosts.stand_ins import Masked, looking

pytestmark = pytest.mark.host


def with_reference(model: Any, given: dict[str, Any], shade: float) -> Tensor:
    """GLM-Image: a picture is read alone, then its keys are there for every step."""
    from diffusers.models.transformers.transformer_glm_image import GlmImageKVCache

    cache = GlmImageKVCache(2)
    cache.set_mode("write")
    sizes = {name: given[name][:1] for name in ("target_size", "crop_coords")}
    reference = {
        "hidden_states": torch.full((1, 4, 4, 6), shade), "encoder_hidden_states": torch.zeros(1, 0, 16),
        "prior_token_id": torch.arange(6)[None], "prior_token_drop": torch.zeros(1, 6, dtype=torch.bool),
        "timestep": torch.zeros(1), "return_dict": False,
    }  # fmt: skip
    output(model, {**reference, **sizes, "kv_caches": cache})
    cache.set_mode("read")
    return output(model, {**given, "kv_caches": cache})


def test_glm_references_are_read_by_the_host_alone_and_keys_of_every_step() -> None:
    model, given = Host("", glm_image).build()
    plain, found = with_reference(model, given, 0.5), set[tuple[str, str]]()
    assert not torch.equal(plain, with_reference(model, given, -0.5))

    def look(call: AttentionCall) -> None:
        found.add((call.layout_q.describe(), call.layout_k.describe()))

    with attach(model, looking(look), schedule=[501.0]) as run:
        torch.testing.assert_close(with_reference(model, given, 0.5), plain, rtol=1e-4, atol=1e-5)
    assert found == {("text 6 | image 12 (1x3x4)", "references 6 | text 6 | image 12 (1x3x4)")}
    assert run.report().steps == 1
    with attach(model, Masked(forbid("text", "references") & forbid("image", "references"))):
        unseen = with_reference(model, given, 0.5), with_reference(model, given, -0.5), output(model, given)
    for other in unseen[1:]:
        torch.testing.assert_close(unseen[0], other, rtol=1e-4, atol=1e-5)


def test_cogview4_refuses_a_mask_that_would_hide_nothing() -> None:
    model, given = Host("", cogview4).build()
    with attach(model, Masked()), pytest.raises(ValueError, match="attention_mask would hide nothing"):
        output(model, {**given, "attention_mask": torch.ones(2, 6)})


def test_ideograms_unconditional_branch_has_no_text() -> None:
    model, given = Host("", ideogram4).build()
    alone = {k: v[:, 6:] if isinstance(v, Tensor) and v.ndim > 1 else v for k, v in given.items()}
    layouts = set[str]()
    with attach(model, looking(lambda call: layouts.add(call.layout_q.describe())), Masked()):
        output(model, alone)
    assert layouts == {"text 0 | image 12 (1x3x4)"}


def test_ideogram_wants_one_picture_in_the_same_place_of_every_row() -> None:
    model, given = Host("", ideogram4).build()
    indicator = given["indicator"].clone()
    indicator[0, 5] = 2
    with attach(model, Masked()), pytest.raises(ValueError, match="has pictures in other places from row to row"):
        output(model, {**given, "indicator": indicator})
