"""Which tokens are text, demonstration and query, by layout and by number."""

from typing import Any

import pytest
import torch

from saccade.core.layout import Layout, Segment
from saccade.papers.in_context_brush.token_roles import TokenRoles

JOINT = Layout.joint(text=3, grid=(1, 4, 2))
LAST = Layout.joint(text=3, grid=(1, 4, 2), text_first=False)
VIDEO = Layout.joint(text=2, grid=(2, 2, 2))
WITH_REFERENCE = Layout((*JOINT.segments, Segment("reference1", "extra", 6, (1, 2, 3))))
PICTURE = Layout.image_only((1, 4, 2))


def found(layout: Layout, keys: Layout | None = None, **options: Any) -> tuple[Any, Any, Any]:
    """Query, text and demonstration as lists, None where there are none."""
    at = TokenRoles(**options).on(layout, keys or layout)
    every = torch.arange(64)
    return tuple(None if places is None else every[places].tolist() for places in (at.query, at.text, at.demo))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("layout", "options", "query", "text", "demo"),
    [
        (JOINT, {}, [7, 8, 9, 10], [0, 1, 2], [3, 4, 5, 6]),
        (LAST, {}, [4, 5, 6, 7], [8, 9, 10], [0, 1, 2, 3]),
        (JOINT, {"demo": "left"}, [4, 6, 8, 10], [0, 1, 2], [3, 5, 7, 9]),
        (VIDEO, {"demo": "first"}, [6, 7, 8, 9], [0, 1], [2, 3, 4, 5]),
        (VIDEO, {"demo": "top"}, [4, 5, 8, 9], [0, 1], [2, 3, 6, 7]),
        (JOINT, {"demo": (0, 7)}, [4, 5, 6, 7, 8, 9], [0, 1, 2], [3, 10]),
        (JOINT, {"demo": (0, 7), "query": (2, 4)}, [5, 7], [0, 1, 2], [3, 10]),
        (JOINT, {"query": (7,)}, [10], [0, 1, 2], [3, 4, 5, 6]),
        (JOINT, {"words": (0, 2)}, [7, 8, 9, 10], [0, 2], [3, 4, 5, 6]),
        (WITH_REFERENCE, {"demo": "reference1"}, [*range(3, 11)], [0, 1, 2], [*range(11, 17)]),
        (WITH_REFERENCE, {"demo": "reference1", "query": (0,)}, [3], [0, 1, 2], [*range(11, 17)]),
        (PICTURE, {"text": 5}, [4, 5, 6, 7], None, [0, 1, 2, 3]),
    ],
)
def test_tokens_are_found(layout: Layout, options: dict[str, Any], query: Any, text: Any, demo: Any) -> None:
    assert found(layout, **options) == (query, text, demo)


def test_runs_are_spans_and_others_numbers() -> None:
    at = TokenRoles().on(JOINT, JOINT)
    assert (at.query, at.text, at.demo) == (slice(7, 11), slice(0, 3), slice(3, 7))
    assert isinstance(TokenRoles(demo="left").on(JOINT, JOINT).query, torch.Tensor)


def test_keys_of_cross_attention_are_text_alone() -> None:
    assert found(PICTURE, Layout.plain(5)) == ([4, 5, 6, 7], [0, 1, 2, 3, 4], None)


@pytest.mark.parametrize(("count", "query"), [(7, [5, 6, 7, 8]), (1, [2])])
def test_the_released_half_is_the_first_floor(count: int, query: list[int]) -> None:
    layout = Layout.joint(text=2, grid=(1, 1, 7))
    if count == 7:
        assert found(layout, floor=True) == (query, [0, 1], [2, 3, 4])
    else:
        with pytest.raises(ValueError, match="demo holds 0 and query 1 tokens"):
            found(Layout.joint(text=2, grid=(1, 1, 1)), floor=True)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("layout", "options", "said"),
    [
        (Layout.joint(text=3, grid=(1, 5, 2)), {}, "demo='top': an image of 5 rows of tokens has no equal halves"),
        (Layout.joint(text=3, grid=(1, 2, 3)), {"demo": "left"}, "an image of 3 columns of tokens has no equal"),
        (JOINT, {"demo": "first"}, "an image of 1 frames"),
        (JOINT, {"demo": "reference1"}, "demo='reference1' is neither of .* nor a segment beside the image"),
        (JOINT, {"demo": "image"}, "demo='image' is neither"),
        (JOINT, {"demo": (8,)}, r"demo=\[8\] lie beyond the 8 tokens of the image"),
        (JOINT, {"query": (9,)}, r"query=\[9\] lie beyond the 8 tokens"),
        (JOINT, {"query": (3, 4)}, "token 3 of the image is in demo and in query"),
        (JOINT, {"demo": tuple(range(8))}, "demo holds 8 and query 0 tokens"),
        (JOINT, {"words": (1, 3)}, r"words=\[3\] lie beyond the 3 text tokens"),
        (JOINT, {"text": 512}, "text_tokens=512 is not the number of text tokens, 3, of text 3"),
        (Layout.plain(4), {}, "0 image grids where one is needed"),
    ],
)
def test_tokens_that_do_not_fit_are_named(layout: Layout, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        found(layout, **options)
