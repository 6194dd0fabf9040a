"""What a video of several prompts is asked for, as plain values, checked once; and the record of one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from saccade.core.checks import check_numbers, check_sizes, check_whole, check_word
from saccade.pipelines.long_video import GuidanceSchedule, Solver
from saccade.pipelines.records import differences, read_record, write_record
from saccade.runs.windows import Windows

VERB = "multi_prompt"


@dataclass(frozen=True, kw_only=True)
class Request:
    """All arguments of `multi_prompt`, which explains them, but for the pipeline.

    sharing, systems  as text
    tile              as the pipeline has it, where it was left out
    Raises ValueError for what does not fit together.
    """

    prompts: tuple[str, ...]
    negatives: tuple[str, ...]
    sharing: str | None
    isolated: bool
    word: str | None
    tile: int
    overlap: int
    transitions: int
    extra: int
    guidance: float
    schedule: GuidanceSchedule
    solver: Solver
    systems: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    height: int
    width: int
    text_tokens: int | None
    embedded_guidance: float | None = None

    def __post_init__(self) -> None:
        if not all(isinstance(prompt, str) and prompt.strip() for prompt in self.prompts):
            raise ValueError(f"prompts={self.prompts} must be texts, none of them empty")
        if len(self.prompts) < 2:
            raise ValueError(
                f"prompts={self.prompts} must be at least two, one after the other; "
                "for a long video of one prompt give it several times"
            )
        if len(self.negatives) != len(self.prompts):
            raise ValueError(
                f"negative={self.negatives} must be one text, or one for each of {len(self.prompts)} prompts"
            )
        check_word(get_args(GuidanceSchedule), schedule=self.schedule)
        check_word(get_args(Solver), solver=self.solver)
        check_whole(1, steps=self.steps)
        check_numbers(guidance=self.guidance, embedded_guidance=self.embedded_guidance)
        check_sizes(text_tokens=self.text_tokens)
        if self.guidance < 0:
            raise ValueError(f"guidance={self.guidance} must be 0 or above")
        if self.word is not None and self.sharing is None:
            raise ValueError(f"word='{self.word}' is for masks of what is shared; leave it out without sharing")
        _ = self.windows

    @property
    def windows(self) -> Windows:
        """Where the windows lie: side by side where prompts are isolated."""
        if self.isolated:
            return Windows(prompts=len(self.prompts), tile=self.tile, overlap=0, transitions=0)
        return Windows(
            prompts=len(self.prompts), tile=self.tile, overlap=self.overlap, transitions=self.transitions,
            extra=self.extra,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A video of several prompts as it was made.

    request  what was asked
    made_by  the pipeline's class and name, its scheduler, dtype, a fingerprint of its weights, the device, and versions
    digests  SHA-256 of each video's float32 values
    """

    request: Request
    made_by: Mapping[str, str]
    digests: tuple[str, ...]

    def differs(self, other: "Record") -> dict[str, tuple[str, str]]:
        """What of the model, the machine and the versions is another, here and there."""
        return differences(self.made_by, other.made_by)

    def save(self, path: str | Path) -> Path:
        """Write it to a file, folders included."""
        arrays = {"seeds": np.array(self.request.seeds)}  # a file of safetensors is never without one
        given = {"made_by": self.made_by, "digests": self.digests}
        return write_record(path, VERB, request=asdict(self.request), arrays=arrays, **given)

    @classmethod
    def load(cls, path: str | Path) -> "Record":
        """Read it. Raises ValueError for a file that is no record, or one of a later format."""
        found = read_record(path, VERB)
        return cls(request=Request(**found.request), made_by=found.made_by, digests=found.digests)
