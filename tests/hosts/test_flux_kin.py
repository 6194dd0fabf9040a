"""What models of FLUX's make have besides: references that are seen or not, or kept in a cache, and lower precision."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.masks import forbid
from saccade.papers.clear import Clear
from tests.hosts.host import Host, output
from tests.hosts.models.flux_kin import flux2, flux3, places
from tests.hosts.stand_ins import Masked, Same, looking

pytestmark = pytest.mark.host
REFERENCES = torch.cat((places(2, 3, number=10, axes=4), places(4, 1, number=20, axes=4)))
UNSEEN = forbid("text", "reference2") & forbid("image", "reference2") & forbid("reference1", "reference2")


def test_a_reference_nobody_sees_is_as_if_it_were_not_there() -> None:
    model, given = Host("", flux2).build()
    fewer = {**given, **{name: given[name][:, :-4] for name in ("hidden_states", "img_ids")}}
    with attach(model, Masked(UNSEEN)):
        hidden = output(model, given)[:, :-4]
    torch.testing.assert_close(hidden, output(model, fewer), rtol=1e-4, atol=1e-5)
    assert (hidden - output(model, given)[:, :-4]).abs().max() > 1e-3


def test_flux3_references_nobody_sees_are_as_if_there_were_none() -> None:
    model, given = Host("", flux3).build()
    alone = {name: value for name, value in given.items() if not name.startswith("image_cond")}
    with attach(model, Masked(forbid("text", "extra") & forbid("image", "extra"))):
        torch.testing.assert_close(output(model, given), output(model, alone), rtol=1e-4, atol=1e-5)
    assert (output(model, given) - output(model, alone)).abs().max() > 1e-3


def test_flux3_runs_without_references() -> None:
    model, given = Host("", flux3).build()
    alone = {name: value for name, value in given.items() if not name.startswith("image_cond")}
    found: set[str] = set()
    with attach(model, looking(lambda call: found.add(call.layout_q.describe()))):
        output(model, alone)
    assert found == {"image 12 (1x3x4)", "text 6 | image 12 (1x3x4)"}


def test_flux2_in_bfloat16_stays_near_float32_under_a_system() -> None:
    model, given = Host("", flux2).build()
    with attach(model, Clear(radius=2)):
        wanted = output(model, given)
    low = {k: v.bfloat16() if isinstance(v, Tensor) and not k.endswith("ids") else v for k, v in given.items()}
    with attach(model.bfloat16(), Clear(radius=2)) as run:
        got = output(model, low)
    assert got.dtype == torch.bfloat16 and run.report().forwards == 1
    torch.testing.assert_close(got.float(), wanted, rtol=0.05, atol=0.05 * wanted.abs().max().item())


def keeping() -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A model with a cache, the arguments of its first step, and those of later ones but for the cache."""
    from diffusers.models.transformers import transformer_flux2 as flux2_module

    model, given = Host("", flux2).build()
    for block in model.transformer_blocks:
        block.attn.set_processor(flux2_module.Flux2KVAttnProcessor())
    for block in model.single_transformer_blocks:
        block.attn.set_processor(flux2_module.Flux2KVParallelSelfAttnProcessor())
    image, n = places(3, 4, axes=4), len(REFERENCES)
    first = {**given, "img_ids": torch.cat((REFERENCES, image)), "kv_cache_mode": "extract", "num_ref_tokens": n}
    return model, first, {**given, "img_ids": image, "hidden_states": torch.randn(2, 12, 4), "kv_cache_mode": "cached"}


def both(model: Any, first: dict[str, Any], later: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """What the first step and a later one give."""
    with torch.no_grad():
        one, cache = model(**first)
        return one, model(**later, kv_cache=cache)[0]


@pytest.mark.parametrize("inference", [False, True])
def test_references_that_are_kept_are_keys_of_later_steps(inference: bool) -> None:
    model, first, later = keeping()
    plain, layouts = both(model, first, later), dict[str, str]()

    def look(call: AttentionCall) -> None:
        layouts[call.layout_q.describe()] = call.layout_k.describe()

    with torch.inference_mode(inference), attach(model, Same(), looking(look)):
        through = both(model, first, later)
    keys = "text 6 | references 10 | image 12 (1x3x4)"
    assert layouts == {keys: keys, "text 6 | image 12 (1x3x4)": keys}
    for one, other in zip(through, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    with attach(model):
        assert all(torch.equal(a, b) for a, b in zip(both(model, first, later), plain, strict=True))


def test_what_hides_kept_references_does_so_in_every_step() -> None:
    model, first, later = keeping()
    plain = both(model, first, later)
    moved = {**first, "hidden_states": first["hidden_states"].index_fill(1, torch.arange(10), 1.0)}
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(both(model, moved, later), plain, strict=True))
    with attach(model, Masked(forbid("text", "references") & forbid("image", "references"))):
        for one, other in zip(both(model, first, later), both(model, moved, later), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_kept_keys_have_no_places() -> None:
    model, first, later = keeping()
    with attach(model, looking(lambda call: None, "host.rotary")), pytest.raises(ValueError, match="without their ids"):
        both(model, first, later)
