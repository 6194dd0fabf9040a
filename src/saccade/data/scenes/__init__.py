"""Synthetic scenes with full ground truth: pictures and videos of coloured shapes, captions, boxes, masks, from a seed.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> scene = sample(rng)
>>> picture, prompt = render(scene, 64), describe(scene, rng)
>>> judge(picture, prompt).all
True
"""

from saccade.data.scenes.raster import masks as masks
from saccade.data.scenes.raster import render as render
from saccade.data.scenes.reading import Parsed as Parsed
from saccade.data.scenes.reading import Seen as Seen
from saccade.data.scenes.reading import parse as parse
from saccade.data.scenes.sampling import Split as Split
from saccade.data.scenes.sampling import sample as sample
from saccade.data.scenes.sampling import split_of as split_of
from saccade.data.scenes.shapes import SHAPES as SHAPES
from saccade.data.scenes.story import Story as Story
from saccade.data.scenes.story import judge_story as judge_story
from saccade.data.scenes.story import stories as stories
from saccade.data.scenes.verdict import Verdict as Verdict
from saccade.data.scenes.verdict import judge as judge
from saccade.data.scenes.verdict import rates as rates
from saccade.data.scenes.video import MOTIONS as MOTIONS
from saccade.data.scenes.video import Motion as Motion
from saccade.data.scenes.video import Video as Video
from saccade.data.scenes.video import render_video as render_video
from saccade.data.scenes.video import sample_video as sample_video
from saccade.data.scenes.video import video_masks as video_masks
from saccade.data.scenes.video_verdict import VideoVerdict as VideoVerdict
from saccade.data.scenes.video_verdict import judge_video as judge_video
from saccade.data.scenes.video_words import VideoPrompt as VideoPrompt
from saccade.data.scenes.video_words import describe_video as describe_video
from saccade.data.scenes.video_words import video_prompts as video_prompts
from saccade.data.scenes.words import RELATIONS as RELATIONS
from saccade.data.scenes.words import Prompt as Prompt
from saccade.data.scenes.words import Relation as Relation
from saccade.data.scenes.words import Want as Want
from saccade.data.scenes.words import describe as describe
from saccade.data.scenes.words import prompts as prompts
from saccade.data.scenes.words import vocabulary as vocabulary
from saccade.data.scenes.world import BACKGROUNDS as BACKGROUNDS
from saccade.data.scenes.world import COLOURS as COLOURS
from saccade.data.scenes.world import PLACES as PLACES
from saccade.data.scenes.world import SIZES as SIZES
from saccade.data.scenes.world import Scene as Scene
from saccade.data.scenes.world import Thing as Thing

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "MOTIONS",
    "Motion",
    "PLACES",
    "Parsed",
    "Prompt",
    "RELATIONS",
    "Relation",
    "SHAPES",
    "SIZES",
    "Scene",
    "Seen",
    "Split",
    "Story",
    "Thing",
    "Verdict",
    "Video",
    "VideoPrompt",
    "VideoVerdict",
    "Want",
    "describe",
    "describe_video",
    "judge",
    "judge_story",
    "judge_video",
    "masks",
    "parse",
    "prompts",
    "rates",
    "render",
    "render_video",
    "sample",
    "sample_video",
    "split_of",
    "stories",
    "video_masks",
    "video_prompts",
    "vocabulary",
]
