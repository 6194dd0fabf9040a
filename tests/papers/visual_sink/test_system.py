"""Redistribution in real models of transformers: against loops, with caches and batches, and what is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.errors import SelectorError, StateError
from saccade.core.layout import Layout, Segment
from saccade.core.site import Site, at
from saccade.papers.visual_sink import SinkRedistribution
from tests.papers.visual_sink.models import (
    CHANNEL,
    LOUD,
    PICTURE,
    Written,
    by_hand,
    entered,
    llama,
    llava,
    pictures,
    prompts,
)

pytestmark = pytest.mark.host
LOOSE: dict[str, Any] = {"rho": 0.3, "take": 0.4, "least": 0.05}
SYSTEM = SinkRedistribution(dims=(CHANNEL,), tau=1.95, **LOOSE)
HOW = Written(tau=1.95, prompt=26, image=(PICTURE,), **LOOSE)
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def logits(host: Any, ids: Tensor, pixels: Tensor | None = None, **given: Any) -> Tensor:
    more = {} if pixels is None else {"pixel_values": pixels.to(next(host.parameters()).dtype)}
    with torch.no_grad():
        return host(input_ids=ids, **more, **given).logits


def decoded(host: Any, ids: Tensor, pixels: Tensor, following: Tensor, cache: Any = None) -> Tensor:
    """Logits of the prompt's last token and of all that follow, one at a time."""
    cache = DynamicCache(config=host.config) if cache is None else cache
    found = [logits(host, ids, pixels, past_key_values=cache)[:, -1:]]
    found += [logits(host, token, past_key_values=cache) for token in following.split(1, dim=1)]
    return torch.cat(found, dim=1)


def test_a_prompt_is_redistributed_as_by_loops() -> None:
    host, ids = llava().double(), prompts(2)
    with torch.no_grad():
        wanted, changed = by_hand(host, entered(host, input_ids=ids, pixel_values=pictures(2).double()), HOW)
    plain = logits(host, ids, pictures(2))
    with attach(host, SYSTEM):
        made = logits(host, ids, pictures(2), use_cache=False)
    assert changed > 20 and (made - plain).abs().max() > 1e-2
    torch.testing.assert_close(made, wanted, **CLOSE)
    assert torch.equal(logits(host, ids, pictures(2)), plain)


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_decoding_is_the_last_row_of_a_whole_forward(kind: str) -> None:
    """By the sinks of the prompt, which a token written later cannot join."""
    host, ids, following = llava().double(), prompts(2), torch.tensor([[3, LOUD, 5], [LOUD, 2, 9]])
    pixels = pictures(2).double()
    cache = None if kind == "dynamic" else StaticCache(config=host.config, max_cache_len=32)
    with attach(host, SYSTEM):
        made = decoded(host, ids, pixels, following, cache)
    x = entered(host, input_ids=torch.cat((ids, following), dim=1), pixel_values=pixels)
    with torch.no_grad():
        wanted, _ = by_hand(host, x, HOW)
    torch.testing.assert_close(made, wanted[:, ids.shape[1] - 1 :], **CLOSE)


def test_a_prompt_in_pieces_is_the_whole_prompt() -> None:
    host, ids = llava().double(), prompts(1, words=8)
    with attach(host, SYSTEM):
        whole = logits(host, ids, pictures(1))
        cache = DynamicCache(config=host.config)
        first = logits(host, ids[:, :22], pictures(1), past_key_values=cache)
        rest = logits(host, ids[:, 22:], past_key_values=cache)
    torch.testing.assert_close(torch.cat((first, rest), 1), whole, **CLOSE)


def test_a_batch_is_its_rows_alone_each_with_its_own_picture_and_sinks() -> None:
    host, words = llama().double(), prompts(3)
    ids = torch.where(words == 36, torch.arange(5, 31), words)
    ids[1, 6] = ids[2, [9, 12]] = LOUD
    images = (tuple(range(4, 16)), tuple(range(2, 20)), (3, 4, 9, 10, 11, 12, 13))
    layout = Layout.plain(ids.shape[1])

    def run(rows: Tensor, places: Any) -> Tensor:
        with attach(host, SinkRedistribution(dims=(CHANNEL,), tau=1.95, images=places, **LOOSE), layout=layout):
            cache = DynamicCache(config=host.config)
            return torch.cat((logits(host, rows[:, :-1], past_key_values=cache), logits(host, rows[:, -1:],
                              past_key_values=cache)), 1)  # fmt: skip

    together = run(ids, images)
    alone = torch.cat([run(row[None], (places,)) for row, places in zip(ids, images, strict=True)])
    torch.testing.assert_close(together, alone, **CLOSE)
    with torch.no_grad():
        how = Written(tau=1.95, prompt=ids.shape[1] - 1, image=images, **LOOSE)
        wanted, changed = by_hand(host, entered(host, input_ids=ids), how)
    assert changed > 5
    torch.testing.assert_close(together, wanted, **CLOSE)


@pytest.mark.parametrize("change", [{"take": 0.0}, {"tau": float("inf")}, {"rho": 1.0, "tau": 1.95}, {"least": 1.0}])
def test_where_nothing_is_chosen_the_model_is_itself_to_the_bit(change: dict[str, float]) -> None:
    host, ids, following = llava(), prompts(2), torch.tensor([[3, 4], [5, 6]])
    options = {"dims": (CHANNEL,), "tau": 1.95, **LOOSE, **change}
    plain = decoded(host, ids, pictures(2), following)
    with attach(host, SinkRedistribution(**options)):
        assert torch.equal(decoded(host, ids, pictures(2), following), plain)


def test_the_first_two_layers_and_the_last_are_left_alone() -> None:
    system, official = SYSTEM, SinkRedistribution(dims=(1,), compat="official")
    sites = [Site(name=str(i), layer=i, layers=6) for i in range(6)]
    assert [bool(system.plan(site, Clock())) for site in sites] == [False, False, True, True, True, False]
    assert [bool(official.plan(site, Clock())) for site in sites] == [False, False, True, True, True, True]
    with pytest.raises(SelectorError, match="of the 3 attached sites none lies between"):
        attach(llava(3), SYSTEM)


def test_each_request_has_its_own_sinks() -> None:
    """The released code kept those of the first prompt."""
    host, following = llava(), torch.tensor([[3, 4]])
    first, second = prompts(1, seed=1), prompts(1, words=4, seed=2)
    with attach(host, SYSTEM):
        alone = decoded(host, second, pictures(1, 2), following)
    with attach(host, SYSTEM):
        decoded(host, first, pictures(1, 1), following)
        assert torch.equal(decoded(host, second, pictures(1, 2), following), alone)


def test_generate_answers_with_every_strategy() -> None:
    host, ids = llava(), prompts(2)
    given = {"input_ids": ids, "pixel_values": pictures(2), "attention_mask": torch.ones_like(ids), "max_new_tokens": 4}
    with attach(host, SYSTEM):
        greedy = host.generate(**given, do_sample=False, output_logits=True, return_dict_in_generate=True)
        tokens, made = greedy.sequences[:, ids.shape[1] :], torch.stack(greedy.logits, dim=1)
        torch.testing.assert_close(made, decoded(host, ids, pictures(2), tokens)[:, :-1], rtol=1e-4, atol=1e-5)
        assert host.generate(**given, num_beams=3, do_sample=False).shape == (2, ids.shape[1] + 4)


def test_sinks_that_were_not_kept_are_missed() -> None:
    host, ids, token = llava(), prompts(1), torch.tensor([[3]])
    one, two = DynamicCache(config=host.config), DynamicCache(config=host.config)
    with attach(host, SYSTEM):
        logits(host, ids, pictures(1, 1), past_key_values=one)
        logits(host, ids, pictures(1, 2), past_key_values=two)
        with pytest.raises(StateError, match="is of another prompt than the one whose sinks were kept"):
            logits(host, token, past_key_values=one)
    layout = Layout((Segment("text", "text", 4), Segment("image", "image", 16), Segment("words", "text", 8)))
    with attach(host, SYSTEM, layout=layout):
        with pytest.raises(
            StateError, match=r"holds 1 rows of 26 tokens, whose sinks were not kept \(there are none\)"
        ):
            logits(host, token, past_key_values=two)
        logits(host, ids[:, :25], pictures(1), past_key_values=DynamicCache(config=host.config))
        with pytest.raises(StateError, match=r"there are those of 1 rows of 25"):
            logits(host, token, past_key_values=two)


def test_places_that_are_excluded_are_no_sinks() -> None:
    host, ids = llava().double(), prompts(1)
    plain = logits(host, ids, pictures(1))
    with attach(host, SinkRedistribution(dims=(CHANNEL,), tau=1.95, exclude=PICTURE, **LOOSE)):
        torch.testing.assert_close(logits(host, ids, pictures(1)), plain, rtol=0, atol=0)


def test_all_heads_and_the_highest_share_change_more() -> None:
    host, ids = llava(), prompts(1)
    plain = logits(host, ids, pictures(1))

    def moved(**options: Any) -> float:
        with attach(host, SinkRedistribution(dims=(CHANNEL,), **options)):
            return float((logits(host, ids, pictures(1)) - plain).norm())

    strict = moved(tau=1.95, rho=0.5, take=0.8)
    assert 0 < strict < moved(tau=1.95, rho=0.5, take=0.8, heads="all")
    assert moved() == 0.0 < moved(highest=0.25, heads="all")


def test_gradients_pass() -> None:
    host, ids = llava(), prompts(1)
    with attach(host, SYSTEM):
        host(input_ids=ids, pixel_values=pictures(1), use_cache=False).logits.square().sum().backward()
    grads = {name: p.grad for name, p in host.named_parameters() if p.grad is not None}
    assert all(torch.isfinite(g).all() for g in grads.values()) and len(grads) > 40


def test_what_cannot_be_is_refused() -> None:
    for options, message in (
        ({"tau": 0.0}, "tau=0.0 must be above 0"),
        ({"rho": 1.2}, r"rho=1.2 must be in \[0, 1\]"),
        ({"take": -0.1}, r"take=-0.1 must be in \[0, 1\], the share a sink gives"),
        ({"least": 2.0}, "least=2.0 must be in"),
        ({"highest": 1.0}, r"highest=1.0 must be in \(0, 1\)"),
        ({"heads": "some"}, "heads='some' is unknown"),
        ({"compat": "both"}, "compat='both' must be 'official'"),
        ({"dims": ()}, r"dims=\(\) must name at least one channel"),
        ({"dims": (3, 3)}, r"dims=\(3, 3\) must name"),
        ({"images": ()}, r"images=\(\) names no row"),
        ({"images": (3, 4)}, r"images=\(3, 4\) must hold a tuple of places for each row"),
        ({"where": at(heads=(0,))}, r"where.heads=\(0,\) cannot be chosen here"),
    ):
        with pytest.raises(ValueError, match=message):
            SinkRedistribution(**options)  # type: ignore[arg-type]


def test_a_model_or_prompt_it_cannot_work_on_is_refused() -> None:
    host, ids = llava(), prompts(2)
    with (
        attach(host, SinkRedistribution()),
        pytest.raises(ValueError, match=r"sink channels of llama \(32 channels, 5 layers, 2 key heads\) are not known"),
    ):
        logits(host, ids, pictures(2))
    with (
        attach(host, SinkRedistribution(dims=(32,))),
        pytest.raises(ValueError, match=r"dims=\(32,\) must be channels of a stream of 32; .*find_sink_dims"),
    ):
        logits(host, ids, pictures(2))
    with attach(host, SYSTEM), pytest.raises(ValueError, match=r"the tokens \(text 4\) hold no picture"):
        logits(host, ids[:, :4])
    many = SinkRedistribution(dims=(CHANNEL,), images=((1,), (2,), (3,)))
    with attach(host, many), pytest.raises(ValueError, match="holds the picture's tokens of 3 rows, the batch has 2"):
        logits(host, ids, pictures(2))
