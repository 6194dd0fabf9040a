"""Pipelines of diffusers: opened, taken apart, made to draw long videos or keep a part, words found, runs recorded."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.pipelines.flow import Flow as Flow
    from saccade.pipelines.latent_blending import LatentBlending as LatentBlending
    from saccade.pipelines.loading import load_pipeline as load_pipeline
    from saccade.pipelines.long_video import LongVideo as LongVideo
    from saccade.pipelines.no_progress_bar import no_progress_bar as no_progress_bar
    from saccade.pipelines.references import reference_pictures as reference_pictures
    from saccade.pipelines.video import VideoParts as VideoParts
    from saccade.pipelines.words import piece_tokens as piece_tokens
    from saccade.pipelines.words import word_tokens as word_tokens

__all__ = [
    "Flow",
    "LatentBlending",
    "LongVideo",
    "VideoParts",
    "load_pipeline",
    "no_progress_bar",
    "piece_tokens",
    "reference_pictures",
    "word_tokens",
]

__getattr__, __dir__ = lazily(__name__)
