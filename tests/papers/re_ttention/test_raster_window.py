"""The window of the paper: its pairs, counted and written out by loops."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.core.layout import Layout, Segment
from saccade.core.places import RasterBand
from saccade.papers.re_ttention import RasterWindow

TWO = Layout((Segment("a", "image", 12, (1, 3, 4)), Segment("words", "text", 3), Segment("b", "image", 48, (2, 4, 6))))


def written_out(layout: Layout, keep: float) -> torch.Tensor:
    """(n n): pairs of one grid by the distance of their places in the raster of a frame; all others open."""
    allowed = torch.ones(layout.n, layout.n, dtype=torch.bool)
    for segment in layout.of("image"):
        assert segment.grid is not None
        frame, start = segment.grid[1] * segment.grid[2], layout.span(segment.name).start
        for i in range(segment.n):
            for j in range(segment.n):
                allowed[start + i, start + j] = abs(i % frame - j % frame) <= int(frame * keep) // 2
    return allowed


@settings(max_examples=15)
@given(
    layout=st.sampled_from([Layout.joint(text=3, grid=(3, 2, 7)), Layout.image_only((1, 5, 9)), TWO]),
    keep=st.floats(1 / 12, 1),
)
def test_a_window_is_its_pairs_written_out(layout: Layout, keep: float) -> None:
    bound, expected = RasterWindow(keep).bind(layout, layout), written_out(layout, keep)
    assert torch.equal(bound.token()[0, 0], expected)
    assert bound.pairs() == int(expected.sum()) and bound.closed is not None
    assert bound.empty_row() is None


def test_pairs_of_the_published_sizes() -> None:
    image = Layout.image_only((1, 64, 64))
    assert RasterWindow(1 / 32).bind(image, image).pairs() == 524_224
    video = Layout.joint(text=226, grid=(13, 30, 45))
    bound = RasterWindow(1 / 32).bind(video, video)
    assert video.n == 17_776 and round(bound.density(), 3) == 0.056
    assert round((bound.pairs() - 226 * (2 * video.n - 226)) / (video.n - 226) ** 2, 4) == 0.0316
    middle = bound.token(torch.tensor([226 + 600]))[0, 0, 0, 226:].reshape(13, 1350)
    assert (middle.sum(1) == 43).all()  # 21 places to either side, in every frame


def test_keys_appended_later_stay_open() -> None:
    layout = Layout.image_only((1, 5, 9))
    longer = layout.append(Segment("memory", "extra", 4))
    assert RasterWindow(0.1).materialize(layout, longer)[..., 45:].all()


def test_blocks_of_a_long_raster_are_judged_without_a_look() -> None:
    layout = Layout.image_only((1, 128, 128))
    block = torch.arange(layout.n).reshape(-1, 64)
    at = torch.arange(len(block))
    verdict = RasterBand(256).bind(layout, layout).coarse(block, block)(at[:, None], at)
    assert (verdict.some[0, 0].sum(-1) <= 11).all() and verdict.every[0, 0].diagonal().all()
