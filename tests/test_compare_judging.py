"""What was drawn is judged by what its prompt promises: pictures as pictures, videos frame by frame."""

from math import isnan

import numpy as np
import pytest

from saccade.compare.judging import unjudgeable, verdict
from saccade.data.scenes import VideoPrompt, describe_video, prompts, render_video, sample_video, video_prompts
from saccade.metrics.fidelity import Picture


def video(seed: int) -> tuple[Picture, VideoPrompt]:
    rng = np.random.default_rng(seed)
    drawn = sample_video(rng, count=1, frames=9)
    return render_video(drawn, 48) / np.float32(255), describe_video(drawn, rng)


@pytest.mark.parametrize("seed", range(4))
def test_a_rendered_video_keeps_all_of_its_caption_and_one_that_stops_does_not(seed: int) -> None:
    frames, prompt = video(seed)
    found = verdict(frames, prompt)
    assert found is not None and {name: kept for name, kept in found.items() if not isnan(kept) and kept < 1} == {}
    assert {"start", "end", "motion", "steady", "all", "colour"} <= found.keys()
    stopped = verdict(np.repeat(frames[:1], 9, axis=0), prompt)
    assert stopped is not None and stopped["start"] == 1 and stopped["motion"] == stopped["all"] == 0


def test_a_caption_of_the_other_kind_judges_nothing_and_says_why() -> None:
    frames, said = video(0)
    assert unjudgeable(frames, [said]) == ""
    assert "they promise pictures, videos were drawn" in unjudgeable(frames, prompts(1, seed=0))
    assert "they promise videos, pictures were drawn" in unjudgeable(frames[:1], video_prompts(1, frames=9, seed=0))


def test_texts_promise_nothing() -> None:
    frames, _ = video(0)
    assert unjudgeable(frames, ["a red circle"]) == "" and verdict(frames, "a red circle") is None


def test_the_first_captions_are_the_same_for_every_number() -> None:
    some, more = (video_prompts(n, frames=9, seed=3, count=1, split="held-out") for n in (2, 4))
    assert some == more[:2] and all(len(prompt.motions) == 1 for prompt in more)
    with pytest.raises(ValueError, match="n=-1 must not be negative"):
        video_prompts(-1, frames=9, seed=0)
