"""In-Context Brush's options: what they plan where, what is neutral, what is refused."""

from typing import Any

import pytest

from saccade.core.clock import Clock
from saccade.core.errors import SelectorError
from saccade.core.site import Site, Where, at
from saccade.core.specs import parse_stack
from saccade.papers.in_context_brush import InContextBrush
from saccade.papers.in_context_brush.context_shift import ContextShift

DOUBLE = Site(name="transformer_blocks.0.attn", kind="joint", stage=0, stages=2)
SINGLE = Site(name="single_transformer_blocks.0.attn", kind="joint", stage=1, stages=2)
BESIDE = Site(name="transformer_blocks.0.attn2", kind="self")
CROSS = Site(name="blocks.0.attn2", kind="cross")
APART = Where(kinds=("self", "cross"))


def planned(site: Site, **options: Any) -> ContextShift | None:
    items = InContextBrush(**options).plan(site, Clock())
    return items[0] if items else None  # type: ignore[return-value]


def strengths(site: Site, **options: Any) -> tuple[float, float, float] | None:
    made = planned(site, **options)
    return None if made is None else (made.alpha_text, made.alpha_demo, made.beta)


def test_double_stream_blocks_are_shifted_and_weighed() -> None:
    assert strengths(DOUBLE) == (0.3, 0.3, 0.2) and strengths(SINGLE) is None
    assert strengths(SINGLE, blocks="all") == (0.3, 0.3, 0.2)
    made = planned(DOUBLE)
    assert made is not None and made.rows == "query" and not made.roles.floor


def test_the_released_code_scales_all_rows_in_all_blocks_and_shifts_in_double_ones() -> None:
    assert strengths(DOUBLE, compat="official") == (0.3, 0.3, 0.2)
    assert strengths(SINGLE, compat="official") == (0, 0, 0.2)
    made = planned(SINGLE, compat="official")
    assert made is not None and made.rows == "all" and made.roles.floor


def test_image_only_attention_is_shifted_along_the_demonstration_and_cross_attention_along_the_text() -> None:
    assert strengths(BESIDE) == (0, 0.3, 0)
    assert strengths(CROSS) is None
    assert strengths(CROSS, where=APART, beta=0) == (0.3, 0, 0)
    assert strengths(BESIDE, alpha_demo=0.0) is None


@pytest.mark.parametrize("site", [DOUBLE, SINGLE, BESIDE])
def test_nothing_to_do_plans_nothing(site: Site) -> None:
    system = InContextBrush(alpha_text=0, alpha_demo=0, beta=0, compat="official")
    assert system.neutral and system.plan(site, Clock()) == ()


def test_steps_and_layers_can_be_chosen() -> None:
    early = InContextBrush(where=at(during=(0.0, 0.6)))
    assert [bool(early.plan(DOUBLE, Clock(step=i, num_steps=5))) for i in range(5)] == [True] * 3 + [False] * 2
    assert planned(DOUBLE, where=at("single*")) is None


def test_it_is_written_as_text() -> None:
    (system,) = parse_stack(
        "in_context_brush(alpha_text=0.5, beta=0, demo=left, words=(0, 1), where=at(during=(0, 0.6)))"
    )
    assert system == InContextBrush(alpha_text=0.5, beta=0, demo="left", words=(0, 1), where=at(during=(0, 0.6)))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha_text": -1.01}, "alpha_text=-1.01 must be at least -1"),
        ({"alpha_demo": -2}, "alpha_demo=-2 must be at least -1"),
        ({"alpha_demo": float("nan")}, "alpha_demo=nan must be at least -1"),
        ({"alpha_text": float("inf")}, "alpha_text=inf must be at least -1"),
        ({"alpha_text": "0.3"}, "alpha_text='0.3' must be a number"),
        ({"beta": -0.1}, "beta=-0.1 must be at least 0"),
        ({"beta": float("nan")}, "beta=nan must be at least 0"),
        ({"rows": "text"}, "rows='text' is unknown; choose one of query, all"),
        ({"blocks": "single"}, "blocks='single' is unknown"),
        ({"compat": "old"}, "compat='old' must be 'official'"),
        ({"query": ()}, r"query=\(\) must be numbers of tokens in a tuple"),
        ({"words": (-1,)}, r"words=\(-1,\) must be numbers of tokens"),
        ({"demo": [0, 1]}, r"demo=\[0, 1\] must be numbers of tokens in a tuple"),
        ({"words": (1, 1)}, "words names a token twice"),
        ({"where": at(heads=(0,))}, "where.heads=.* cannot be chosen here"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        InContextBrush(**options)


@pytest.mark.bad_input
def test_a_model_whose_text_is_apart_has_no_heads_to_weigh() -> None:
    sites = [Site(name="blocks.0.attn1", kind="self")]
    with pytest.raises(SelectorError, match=r"beta=0.2 weighs heads by their share of the text.*Give beta=0"):
        InContextBrush().check_sites(sites)
    with pytest.raises(SelectorError, match=r"alpha_text=0.3 acts on .* where=Where\(kinds=\('self', 'cross'\)\)"):
        InContextBrush(beta=0).check_sites(sites)
    InContextBrush(beta=0, alpha_text=0).check_sites(sites)
    InContextBrush(beta=0, where=APART).check_sites([*sites, CROSS])
    InContextBrush().check_sites([DOUBLE, BESIDE])
    InContextBrush(where=at("nothing")).check_sites(sites)
