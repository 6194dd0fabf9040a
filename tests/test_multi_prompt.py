"""Videos of several prompts on tiny pipelines: what is asked is drawn, and a record draws it again bit for bit."""

from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import saccade
from saccade.core.errors import SaccadeError
from saccade.core.site import at
from saccade.multi_prompt import MultiPrompt, Record, replay, write_sheet
from saccade.papers.clear import Clear
from saccade.papers.ditctrl import DiTCtrl
from saccade.papers.draft_attention import DraftAttention
from saccade.papers.sparsed import SparseD
from tests.tiny_flux import tiny_flux
from tests.tiny_videos import SIZES, tiny_cogvideox, tiny_hunyuan, tiny_wan

pytestmark = pytest.mark.host
PROMPTS = ("a red circle moving right", "a blue circle moving right")
WIDE = DiTCtrl(deepest=1.0, where=at())
PIPES = {"cogvideox": tiny_cogvideox, "hunyuan_video": tiny_hunyuan, "wan": tiny_wan}
every_pipe = pytest.mark.parametrize("name", PIPES)


def made(pipe: Any, **given: Any) -> MultiPrompt:
    prompts = given.pop("prompts", PROMPTS)
    return saccade.multi_prompt(pipe, prompts, **{**SIZES, "guidance": 4.0, **given})


@every_pipe
def test_windows_segments_and_density(name: str) -> None:
    found, half, frames = made(PIPES[name]()), *((7, 13) if name == "wan" else (13, 25))  # 2 or 4 frames of a latent
    assert found.videos[0].shape == (frames, 32, 32, 3) and found.segments == (slice(0, half), slice(half, frames))
    assert (found.windows.count, found.windows.frames, found.density) == (3, 7, 1.0)
    assert 0 <= found.videos[0].min() and found.videos[0].max() <= 1


@every_pipe
def test_every_arm_is_another_video(name: str) -> None:
    pipe = PIPES[name]()
    arms: tuple[dict[str, Any], ...] = (
        {"sharing": WIDE}, {"sharing": None}, {"isolated": True}, {"sharing": WIDE, "word": "circle"},
        {"sharing": WIDE, "seeds": 1}, {"sharing": WIDE, "guidance": 1.0}, {"sharing": WIDE, "schedule": "rising"},
        {"sharing": WIDE, "transitions": 0}, {"sharing": WIDE, "negative": "a blue square"},
        {"sharing": WIDE, "negative": ("a blue square", "a red square")},
    )  # fmt: skip
    digests = [made(pipe, **arm).record.digests[0] for arm in arms]
    assert len(set(digests)) == len(arms)
    assert made(pipe, sharing=DiTCtrl(layers=())).record.digests[0] != digests[0]


def test_sharing_nothing_is_blending_only() -> None:
    pipe = tiny_cogvideox()
    none, empty = made(pipe, sharing=None), made(pipe, sharing=DiTCtrl(layers=()))
    assert np.array_equal(none.videos[0], empty.videos[0])


@every_pipe
def test_a_record_is_drawn_again_bit_for_bit(name: str, tmp_path: Path) -> None:
    pipe = PIPES[name]()
    first = made(pipe, seeds=(0, 5), word="circle", sharing=WIDE, systems=(Clear(radius=2.0),), negative=("a", "the"))
    file = first.record.save(tmp_path / "new" / "r.safetensors")
    record = Record.load(file)
    again = replay(pipe, record)
    assert len(again.videos) == 2 and again.record.digests == first.record.digests
    assert all(np.array_equal(a, b) for a, b in zip(again.videos, first.videos, strict=True))
    assert record.request == first.record.request and record.differs(first.record) == {}
    assert record.request.systems == ("clear(radius=2.0)",) and str(record.request.sharing).startswith("ditctrl(deep")
    assert replay(PIPES[name](), record).record.digests == record.digests  # a pipeline opened anew
    isolated = made(pipe, isolated=True).record
    assert replay(pipe, isolated).record.digests == isolated.digests


def test_a_record_of_another_model_or_stack_is_refused_and_other_bits_are_warned_of(tmp_path: Path) -> None:
    pipe, other = tiny_wan(), tiny_wan()
    record = made(pipe).record
    torch.nn.init.zeros_(other.transformer.proj_out.weight)
    with pytest.raises(SaccadeError, match="the record was made with another weights"):
        replay(other, record)
    with pytest.raises(ValueError, match=r"systems=\['clear\(radius=2.0\)'\] are not the record's, \[\]"):
        replay(pipe, record, systems=[Clear(radius=2.0)])
    old = changed(record, digests=("0",), made_by={**record.made_by, "torch": "1.0"})
    with pytest.warns(UserWarning, match="the videos are not those of the record bit for bit: torch 1.0 -> 2"):
        replay(pipe, old)
    (tmp_path / "x").write_text("nothing")
    with pytest.raises(ValueError, match="is no record of multi_prompt"):
        Record.load(tmp_path / "x")


def test_accelerating_systems_go_along_each_pair_with_its_own_state() -> None:
    """SparseD keeps the pattern it found: windows must not read one another's, in whatever order they run."""
    pipe = tiny_wan()
    near = made(pipe, systems=(Clear(radius=1.0),))
    assert near.density < 1 and np.isfinite(near.videos[0]).all()
    chosen = made(pipe, systems=(DraftAttention(sparsity=0.5, pool=(2, 2), skip=0.0),))
    assert chosen.record.digests != near.record.digests and np.isfinite(chosen.videos[0]).all()
    kept = SparseD(keep=0.4, block=4, skip=0.4)
    alike = {"prompts": PROMPTS[:1] * 3, "transitions": 0, "steps": 4}
    one = made(pipe, systems=(kept,), **alike)
    assert (
        np.isfinite(one.videos[0]).all() and one.record.digests == made(pipe, systems=(kept,), **alike).record.digests
    )


def test_progress_counts_passes_over_all_videos() -> None:
    seen: list[tuple[int, int, str]] = []
    made(tiny_wan(), seeds=(0, 1), progress=lambda *now: seen.append(now))
    assert seen == [(i, 12, "multi_prompt") for i in range(1, 13)]  # 3 steps, 2 pairs, 2 seeds


def test_the_pipeline_is_left_as_it_was() -> None:
    pipe = tiny_cogvideox()
    before = repr(pipe.transformer), dict(pipe._progress_bar_config), "_guidance_scale" in vars(pipe)
    made(pipe)
    with pytest.raises(ValueError, match="word='square' is not in the prompt"):
        made(pipe, word="square")
    assert (repr(pipe.transformer), dict(pipe._progress_bar_config), "_guidance_scale" in vars(pipe)) == before


@pytest.mark.parametrize("name", ["s.png", "s.html"])
def test_a_sheet_shows_frames_of_each_prompt(tmp_path: Path, name: str) -> None:
    path = write_sheet(made(tiny_wan(), seeds=(0, 1)), tmp_path / "new" / name)
    if name.endswith("html"):
        assert path.read_text().count("<img ") == 4 * 6
    else:
        with Image.open(path) as sheet:
            assert sheet.width > sheet.height


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompts": ()}, r"prompts=\(\) must be at least two"),
        ({"prompts": ("a circle",)}, "must be at least two, one after the other; for a long video of one"),
        ({"prompts": "a circle"}, "prompts='a circle' must be several texts"),
        ({"prompts": ("a", " ")}, "must be texts, none of them empty"),
        ({"overlap": 3}, "overlap=3 must be below tile=3"),
        ({"overlap": -1}, "overlap=-1 must be a whole number"),
        ({"transitions": -1}, "transitions=-1 must be a whole number"),
        ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
        ({"seeds": ()}, r"seeds=\(\) must be a whole number of at least 0, or several"),
        ({"guidance": -1.0}, "guidance=-1.0 must be 0 or above"),
        ({"guidance": "6"}, "guidance='6' must be a number"),
        ({"seeds": "1"}, "seeds='1' must be a whole number of at least 0"),
        ({"seeds": -1}, "seeds=-1 must be a whole number of at least 0"),
        ({"text_tokens": 0}, "text_tokens=0 must be a whole number of at least 1"),
        ({"embedded_guidance": 6.0}, "embedded_guidance=6.0 is read by distilled models"),
        ({"schedule": "falling"}, "schedule='falling' is unknown; choose one of constant, rising, official"),
        ({"solver": "euler"}, "solver='euler' is unknown"),
        ({"solver": "sde_dpmpp_2m"}, "needs alphas, FlowMatchEulerDiscreteScheduler has sigmas"),
        ({"negative": ("a", "b", "c")}, "must be one text, or one for each of 2 prompts"),
        ({"sharing": Clear(radius=1.0)}, "sharing=Clear.* must be a DiTCtrl, or None to blend only"),
        ({"word": "square"}, "word='square' is not in the prompt"),
        ({"word": "circle", "sharing": None}, "word='circle' is for masks of what is shared"),
        ({"word": "circle", "prompts": ("a red circle", "a circle")}, "word='circle' stands at other tokens in other"),
        ({"word": "circle", "sharing": DiTCtrl(words=(1,))}, "both name tokens; give one of them"),
        ({"prompts": ("a " * 20, "a circle")}, "has 20 tokens, and 16 are read of it; shorten it"),
        ({"height": 20}, "height=20 must be a multiple of 8 pixels"),
        ({"tile": 0}, "tile=0 must be a whole number of at least 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_before_anything_is_sampled(given: dict[str, Any], message: str) -> None:
    pipe = tiny_wan()
    pipe.transformer.forward = None  # whoever asks it has gone too far
    with pytest.raises(ValueError, match=message):
        made(pipe, **given)


def test_other_things_than_systems_and_pipelines_are_refused() -> None:
    with pytest.raises(TypeError, match="Clear is a class; give a system made from it"):
        made(tiny_wan(), systems=(Clear,))
    with pytest.raises(ValueError, match="FluxPipeline is no video pipeline that is known here"):
        saccade.multi_prompt(tiny_flux(), PROMPTS)
