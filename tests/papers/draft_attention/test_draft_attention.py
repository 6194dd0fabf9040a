"""The system: when it is dense, what it refuses, and the official operator's own numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import Lowered
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site, at
from saccade.core.state import Memory
from saccade.mechanisms.region_grid import RegionGrid
from saccade.ops.region_pattern import side
from saccade.papers.draft_attention import DraftAttention
from saccade.papers.draft_attention.draft import draft_map, keep_strongest, patches
from saccade.papers.draft_attention.draft_regions import DraftRegions
from saccade.papers.draft_attention.system import PRESETS, block_number

GOLDEN = Path(__file__).resolve().parents[2] / "goldens" / "draft-attention" / "case_single_text.safetensors"
VIDEO, TEXT, VALID = (2, 16, 32), 40, 29
JOINT = Layout.joint(text=TEXT, grid=VIDEO, text_first=False)


class Operator(nn.Module):
    """A host that is attention alone."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


def operands(found: dict[str, Tensor]) -> list[Tensor]:
    return [found[name].transpose(0, 1)[None] for name in "qkv"]


@pytest.mark.parametrize("options", [{}, {"compat": "official"}, {"strict": True}], ids=str)
def test_the_official_outputs(options: dict[str, Any]) -> None:
    found = golden()
    keep = torch.arange(JOINT.n) < JOINT.n - (TEXT - VALID)
    system = DraftAttention(sparsity=0.6, skip=0, **options)
    with attach(model := Operator(), system, layout=JOINT, heads=2):
        out = model(*operands(found), keep[None, None, None])
    official = found["out_valid"].transpose(0, 1)[None]
    torch.testing.assert_close(out[:, :, : official.shape[2]], official, atol=1e-5, rtol=0)
    dense = Operator()(*operands(found), keep[None, None, None])[:, :, : official.shape[2]]
    assert (dense - official).abs().max() > 0.01


def test_the_official_draft_masks_and_orders() -> None:
    found = golden()
    q, k, _ = (x[:, :, : JOINT.image.n] for x in operands(found))
    draft = draft_map(q, k, q.shape[-1] ** -0.5, VIDEO, (8, 16))
    torch.testing.assert_close(draft[0], found["draft_map"], atol=1e-6, rtol=1e-5)
    for one in (draft[0], found["draft_map"]):
        assert torch.equal(keep_strongest(one[None], 0.6)[0], found["region_mask"].bool())
    assert found["region_mask"].sum((1, 2)).tolist() == [27, 27]
    laid = side(patches(JOINT, (8, 16), torch.device("cpu")), 0, 128)
    assert torch.equal(laid.order[: JOINT.n], found["reorg_idx"].long())
    assert torch.equal(laid.back, found["restore_idx"].long())


def test_the_official_blocks() -> None:
    """Seen by the mechanism of the plan: text dense on both sides."""
    found = golden()
    q, k, v = operands(found)
    site = Site(name="call", heads=2)
    (mechanism,) = DraftAttention(sparsity=0.6, skip=0).plan(site, Clock())
    assert isinstance(mechanism, DraftRegions)
    call = AttentionCall(q=q, k=k, v=v, scale=0.5, layout_q=JOINT, layout_k=JOINT, site=site)
    mask = mechanism.pairs(call, Memory()).mask
    assert isinstance(mask, Lowered) and isinstance(mask.mask, RegionGrid)
    assert torch.equal(mask.mask.allow[0], found["block_mask_segment0"].bool())


def planned(system: DraftAttention, site: Site | None = None, **clock: Any) -> tuple[PlanItem, ...]:
    return system.plan(site or Site(name="blocks.5.attn1", index=10, count=40), Clock(**clock))


def test_the_first_quarter_of_the_steps_is_dense() -> None:
    sparse = [bool(planned(DraftAttention(), step=i, num_steps=8)) for i in range(8)]
    assert sparse == [False] * 2 + [True] * 6
    assert not planned(DraftAttention(skip=1), step=7, num_steps=8)
    assert planned(DraftAttention(skip=0), step=0, num_steps=8)


@pytest.mark.parametrize(("model", "shift", "dense"), [("hunyuan_video", 7, 15), ("wan", 5, 15), ("wan", 3, 10)])
def test_the_released_thresholds_of_50_steps(model: str, shift: float, dense: int) -> None:
    times = [1000 * shift * x / (1 + (shift - 1) * x) for x in (1 - i / 50 for i in range(50))]
    system = DraftAttention.preset(model)
    sparse = [bool(planned(system, step=i, num_steps=50, given=time)) for i, time in enumerate(times)]
    assert sparse == [False] * dense + [True] * (50 - dense)


@pytest.mark.parametrize(
    ("model", "name", "stage", "sparse"),
    [
        ("hunyuan_video", "transformer_blocks.1.attn", 0, False),
        ("hunyuan_video", "transformer_blocks.2.attn", 0, True),
        ("hunyuan_video", "single_transformer_blocks.0.attn", 1, True), ("wan", "blocks.0.attn1", 0, False),
        ("wan", "blocks.1.attn1", 0, True), ("hunyuan_custom", "transformer_blocks.1.attn", 0, False),
    ],
)  # fmt: skip
def test_the_released_first_blocks_stay_dense(model: str, name: str, stage: int, sparse: bool) -> None:
    site = Site(name=name, index=7, count=40, stage=stage, stages=2)
    assert bool(planned(DraftAttention.preset(model), site, given=500.0)) == sparse


def test_presets_can_be_changed() -> None:
    assert {name: DraftAttention.preset(name).sparsity for name in PRESETS} == {
        "hunyuan_video": 0.9, "hunyuan_custom": 0.9, "wan": 0.75,
    }  # fmt: skip
    changed = DraftAttention.preset("wan", sparsity=0.5, pool=(4, 8))
    assert (changed.sparsity, changed.pool, changed.dense_above, changed.skip) == (0.5, (4, 8), 925, 0)


def test_blocks_are_numbered_by_their_names_or_by_their_places() -> None:
    assert block_number(Site(name="transformer_2.blocks.3.attn1", index=6, count=9)) == 3
    assert block_number(Site(name="attention", index=2, count=3)) == 2


def test_cross_attention_and_places_not_chosen_are_left_alone() -> None:
    assert not planned(DraftAttention(skip=0), Site(name="blocks.5.attn2", kind="cross"))
    system = DraftAttention(skip=0, where=at("*.5.*", during=(0.5, 1.0)))
    assert not planned(system, step=3, num_steps=8) and planned(system, step=4, num_steps=8)
    assert not planned(system, Site(name="blocks.6.attn1", index=6, count=9), step=4, num_steps=8)


def test_equal_phases_have_equal_plans() -> None:
    one, other = DraftAttention(skip=0), DraftAttention(skip=0)
    assert planned(one, step=3, num_steps=8) == planned(other, step=7, num_steps=8)
    assert hash(planned(one)) == hash(planned(other))
    assert planned(DraftAttention(sparsity=0)) == () and not DraftAttention(sparsity=0).timed
    assert DraftAttention().timed and DraftAttention.preset("wan").timed and not DraftAttention(skip=0).timed


def test_the_share_of_pairs_of_the_papers_largest_video() -> None:
    video = Layout.joint(text=256, grid=(33, 48, 80), text_first=False)
    assert DraftAttention().density(video) == pytest.approx(0.1036, abs=5e-5)
    assert DraftAttention(sparsity=0).density(video) == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity=1.0 must be in \[0, 1\), the share dropped; 0 is dense"),
        ({"sparsity": -0.1}, r"sparsity=-0.1 must be in"),
        ({"sparsity": "most"}, r"sparsity='most' must be a number"),
        ({"skip": 1.5}, r"skip=1.5 must be in \[0, 1\]"),
        ({"dense_layers": -1}, r"dense_layers=-1 must be at least 0 blocks"),
        ({"pool": (8,)}, r"pool=\(8,\) must be two sides in tokens, rows and columns, as \(8, 16\)"),
        ({"pool": (0, 16)}, r"pool=\(0, 16\) must be two sides"),
        ({"pool": (4, 4), "strict": True}, r"pool=\(4, 4\) is 16 tokens, and a block of the official kernel 128"),
        ({"pooling": "median"}, r"pooling='median' is unknown; choose one of mean, max"),
        ({"guard": "none"}, r"guard='none' is unknown; choose one of best, diagonal"),
        ({"compat": "paper"}, r"compat='paper' must be 'official' or None"),
        ({"where": at(heads=(0,))}, r"where.heads=\(0,\) cannot be chosen here; pass where= to attach instead"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DraftAttention(**options)


@pytest.mark.bad_input
def test_what_a_host_does_not_say_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"model='sora' is unknown; choose one of hunyuan_video, hunyuan_custom, wan"):
        DraftAttention.preset("sora")
    with pytest.raises(ValueError, match=r"dense_above=925.0 needs the timestep, and this host is given steps alone"):
        planned(DraftAttention.preset("wan"), step=3, num_steps=8)
    q, k, v = operands(golden())
    wrong = attach(model := Operator(), DraftAttention(skip=0), layout=Layout.image_only(VIDEO), heads=2)
    with wrong, pytest.raises(ValueError, match="1064"):
        model(q, k, v)
