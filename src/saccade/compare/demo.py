"""What `saccade compare` runs where nothing else is asked for: minutes on two cores, for each bundled pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from saccade.core.catalogue import lookup

if TYPE_CHECKING:
    from saccade.core.mechanism import System
    from saccade.data.scenes import Prompt, VideoPrompt

SEED = 7  # of captions


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Arms, as names and options of systems, and how they are drawn.

    call      fields of `compare.arms.Setup`; `options` of the pipeline's call
    captions  how many held-out captions of one object, which the models draw best
    frames    of a video; None for pictures
    """

    arms: tuple[tuple[str, dict[str, Any]], ...]
    call: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    captions: int = 16
    frames: int | None = None

    def systems(self) -> "list[tuple[System, ...]]":
        """A stack for each arm."""
        return [(lookup(name).load()(**options),) for name, options in self.arms]

    def prompts(self, n: int, count: int | None = None) -> "list[Prompt] | list[VideoPrompt]":
        """`n` held-out captions of what the model draws, of `count` objects or of any number."""
        from saccade.data.scenes import prompts, video_prompts

        if self.frames is None:
            return prompts(n, seed=SEED, count=count, split="held-out")
        return video_prompts(n, frames=self.frames, seed=SEED, count=count, split="held-out")


DEMOS = {
    # At a size where sparsity pays: a band mended by what dense steps left, blocks found from the model's own
    # attention, a round window with its distilled adapter. A second exact kernel takes longer than all arms together.
    "scenes-flux": Demo(
        arms=(
            ("re_ttention", {"keep": 0.4, "dense": 0.125}),
            ("sparsed", {"keep": 0.2, "block": 32, "skip": 0.125, "queries": 4}),
            ("clear", {"radius": 8, "distilled": True}),
        ),
        call={"steps": 20, "height": 256, "width": 256, "batch": 2},  # 1,024 image tokens
        options={"max_sequence_length": 32},  # captions have at most 24 words
    ),
    # What is made for videos, where it can be seen at once: nothing is saved on so few tokens
    "scenes-wan": Demo(
        arms=(
            ("re_ttention", {"keep": 0.25}),
            ("vmoba", {"frames": 1, "tile": (3, 3), "box": (1, 3, 3), "tau": 0.5}),
            ("draft_attention", {"pool": (3, 3), "sparsity": 0.5}),
        ),
        call={"steps": 28, "height": 48, "width": 48, "batch": 4},
        options={"num_frames": 9, "guidance_scale": 2.0, "max_sequence_length": 32},
        frames=9,
    ),
}
