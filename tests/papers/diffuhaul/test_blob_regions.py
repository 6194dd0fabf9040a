"""Step 1: who sees whom in a gate, in maps and in diffusers' own layer; and words, where text is in the sequence."""

import pytest
import torch
from diffusers.models.attention import GatedSelfAttentionDense
from torch import Tensor

from saccade.core.call import plain_call
from saccade.core.layout import Layout, Segment
from saccade.core.masks import lower
from saccade.core.rows import Rows
from saccade.core.state import Memory
from saccade.mechanisms.region_grid import RegionGrid
from saccade.papers.diffuhaul import Blob
from saccade.papers.diffuhaul.blob_regions import BlobRegions

GRID = (1, 6, 6)
LEFT, RIGHT = Blob(x=0.25, y=0.25, a=0.25, b=0.25), Blob(x=0.7, y=0.7, a=0.3, b=0.2)
OVER = Blob(x=0.4, y=0.4, a=0.3, b=0.3)
PAIR = Rows.of("source", "target")


def gate(tokens: int) -> Layout:
    return Layout.image_only(GRID).append(Segment("grounding", "extra", tokens))


def maps(layout: Layout, rows: Rows = PAIR, **given: object) -> Tensor:
    """(b n m) of a call."""
    regions = BlobRegions(**{"source": (LEFT, OVER), "target": (RIGHT, OVER), **given})  # type: ignore[arg-type]
    regions.check(layout, layout)
    q = torch.randn(rows.n, 1, layout.n, 4)
    mask = regions.pairs(plain_call(q, q, q, layout=layout, rows=rows), Memory()).mask
    assert mask is not None
    return mask.materialize(layout, layout)[:, 0]


def test_the_map_is_the_rule_written_out_for_each_row() -> None:
    layout, n = gate(4), 36
    found = maps(layout)
    for row, blobs in enumerate(((LEFT, OVER), (RIGHT, OVER))):
        inside = torch.stack([blob.on((6, 6)).flatten() for blob in blobs])
        assert found[row, :n, :n].all()
        assert torch.equal(found[row, n : n + 2, :n], inside) and torch.equal(found[row, :n, n : n + 2], inside.T)
        assert torch.equal(found[row, n : n + 2, n : n + 2], torch.eye(2, dtype=torch.bool))
        assert not found[row, :n, n + 2 :].any() and not found[row, n + 2 :, : n + 2].any()
    assert found.any(-1).all()
    both = (LEFT.on((6, 6)) & OVER.on((6, 6))).flatten()
    assert both.any() and found[0, :36][both, 36:38].all()


def test_rows_of_guidance_and_several_samples_have_their_own_layouts() -> None:
    rows = Rows.of("source", "target", samples=2).under("uncond", "cond")
    found, one = maps(gate(2), rows), maps(gate(2))
    assert torch.equal(found, one[[0, 0, 1, 1] * 2])


def test_nothing_n_by_n_is_made() -> None:
    regions = BlobRegions(source=(LEFT,), target=(RIGHT,))
    layout = gate(1)
    regions.check(layout, layout)
    q = torch.randn(2, 1, layout.n, 4)
    mask = regions.pairs(plain_call(q, q, q, layout=layout, rows=PAIR), Memory()).mask
    kept = mask.mask if hasattr(mask, "mask") else mask
    assert isinstance(kept, RegionGrid) and kept.allow.shape[2:] == (4, 4)
    assert lower(mask, layout, layout) is not None


@pytest.mark.parametrize("open_gate", [True, False])
def test_in_diffusers_own_layer_a_caption_changes_its_own_blob_alone(open_gate: bool) -> None:
    """And with tanh(gamma) = 0 nothing at all."""
    from saccade.attach import attach
    from tests.papers.diffuhaul.hauling import InGate

    torch.manual_seed(0)
    layer = GatedSelfAttentionDense(query_dim=16, context_dim=8, n_heads=2, d_head=8).eval()
    torch.nn.init.constant_(layer.alpha_attn, 0.7 if open_gate else 0.0)
    image, objects = torch.randn(1, 36, 16), torch.randn(1, 2, 8)
    other = torch.cat((torch.randn(1, 1, 8), objects[:, 1:]), 1)

    def update(objects: Tensor, *systems: object) -> Tensor:
        with torch.no_grad(), attach(layer, *systems, layout=gate(2), rows=Rows.of("target"), heads=2):  # type: ignore[arg-type]
            return layer(image, objects)

    masked = InGate(BlobRegions(source=(LEFT, OVER), target=(RIGHT, OVER)))
    inside = RIGHT.on((6, 6)).flatten()
    gap = (update(other, masked) - update(objects, masked)).abs().amax(-1)[0]
    assert (gap[~inside] == 0).all() and bool((gap[inside] > 0).all()) is open_gate
    everywhere = Blob(x=0.5, y=0.5, a=1, b=1, shape="box")
    free = (update(other) - update(objects)).abs().amax(-1)[0]
    assert bool((free > 0).all()) is open_gate
    if not open_gate:
        assert torch.equal(update(objects, masked), update(objects))
    one = InGate(BlobRegions(source=(everywhere,), target=(everywhere,)))
    with torch.no_grad():
        plain = layer(image, objects[:, :1])
    with torch.no_grad(), attach(layer, one, layout=gate(1), rows=Rows.of("target"), heads=2):
        torch.testing.assert_close(layer(image, objects[:, :1]), plain)


def test_words_of_an_object_and_its_blob_see_each_other_and_all_text_sees_all_text() -> None:
    layout = Layout.joint(text=5, grid=GRID)
    found = maps(layout, source_words=((1, 2), (4,)), target_words=((1, 2), (4,)))
    text = found[0, :5, :5]
    assert text.all()
    assert torch.equal(found[0, 2, 5:], LEFT.on((6, 6)).flatten()) and torch.equal(
        found[1, 5:, 1], RIGHT.on((6, 6)).flatten()
    )
    assert found[:, 0, 5:].all() and found[:, 5:, 3].all() and found[:, 5:, 5:].all()


@pytest.mark.bad_input
def test_too_few_grounding_tokens_and_words_beyond_the_text_are_named() -> None:
    with pytest.raises(ValueError, match="was given 1 grounding tokens for 2 objects"):
        maps(gate(1))
    with pytest.raises(ValueError, match=r"words=\[5\] of object 1 lie beyond the 5 text tokens"):
        maps(Layout.joint(text=5, grid=GRID), source_words=((1,), (5,)))
