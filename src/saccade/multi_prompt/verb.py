"""Draw a long video of several prompts, one after the other (DiTCtrl); its record makes it again bit for bit."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from saccade.attach import attach
from saccade.compare.arms import same_stack, to_spec
from saccade.core.checks import seeds_of
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.core.site import Where
from saccade.metrics.fidelity import Picture
from saccade.multi_prompt.request import Record, Request
from saccade.papers.ditctrl import DiTCtrl
from saccade.pipelines.long_video import GuidanceSchedule, LongVideo, Solver
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.pipelines.records import check_model, digest, made_by, warn_of_other_bits
from saccade.pipelines.video import VideoParts
from saccade.pipelines.words import count_tokens, text_length, word_tokens
from saccade.runs.windows import Windows

Progress = Callable[[int, int, str], None]  # (model calls done, in all, what runs now)
SHARING = DiTCtrl()
BUNDLED_SETTINGS: Mapping[str, Any] = MappingProxyType(  # for `scenes-wan`, whose videos have nine frames
    {"height": 48, "width": 48, "text_tokens": 32, "tile": 5, "overlap": 2, "steps": 28, "guidance": 2.0}
)
GUIDANCE = 6.0  # of models that run both branches; a distilled one runs without
ALL = Where(kinds=("joint", "self", "cross"))  # words may be heard by cross-attention


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiPrompt:
    """Videos of several prompts.

    videos    (t h w 3) in [0, 1], one for each seed
    segments  the frames that are each prompt's
    density   share of the pairs of tokens that attention computed, nan where a system does not know
    record    what was done; `record.save(path)` keeps it, `replay` makes it again
    """

    videos: tuple[Picture, ...]
    segments: tuple[slice, ...]
    density: float
    record: Record

    @property
    def windows(self) -> Windows:
        """Where the windows lay, in latent frames."""
        return self.record.request.windows


def multi_prompt(
    pipe: Any,
    prompts: Sequence[str],
    *,
    negative: str | Sequence[str] = "",
    sharing: DiTCtrl | None = SHARING,
    isolated: bool = False,
    word: str | None = None,
    tile: int | None = None,
    overlap: int = 6,
    transitions: int = 1,
    extra: int = 0,
    guidance: float | None = None,
    embedded_guidance: float | None = None,
    schedule: GuidanceSchedule = "constant",
    solver: Solver = "pipeline",
    systems: Sequence[System] = (),
    seeds: int | Sequence[int] = 0,
    steps: int = 50,
    height: int | None = None,
    width: int | None = None,
    text_tokens: int | None = None,
    progress: Progress | None = None,
) -> MultiPrompt:
    """Draw a video that shows one prompt after the other, in windows that are blended and share keys and values.

    pipe            a CogVideoX, HunyuanVideo or Wan pipeline of diffusers
    prompts         two or more, of like length and build; the same one again makes a longer video of it
    negative        the negative prompt of all, or one for each
    sharing         what a window takes of the one before, a `DiTCtrl`; None blends only
    isolated        each prompt's video by itself, one after the other, for comparison: neither blended nor shared
    word            an object, by a word at the same place in all prompts: sharing goes by masks of it
    tile, overlap   latent frames of a window, as the pipeline has them by default, and of its overlap with the next
    transitions     windows between two prompts, of mixed embeddings
    extra           further windows of each prompt that is neither the first nor the last
    guidance        scale of classifier-free guidance, 6 by default; 1 runs without, the default of distilled models
    embedded_guidance  the scale that a distilled model reads (HunyuanVideo), 6 by default
    schedule        "rising" from 1 to 1 + guidance by sampler step, "official" by training timestep, as released
    solver          the pipeline's scheduler, or "sde_dpmpp_2m" for models of alphas, after the paper
    systems         more systems to run with, an accelerating one say
    seeds           one, or several for several videos, drawn one by one
    height, width   pixels, multiples of a video token; the pipeline's own by default
    text_tokens     the pipeline's max_sequence_length
    Raises ValueError for what does not fit together, for a text that is cut, and for pipelines not known.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts='{prompts}' must be several texts, as ('a red circle', 'a blue circle')")
    if not isinstance(sharing, DiTCtrl | None):
        raise ValueError(f"sharing={sharing!r:.80} must be a DiTCtrl, or None to blend only")
    sizes = {"height": height, "width": width, "tile": tile, "text_tokens": text_tokens}
    parts = VideoParts(pipe=pipe, **sizes, embedded_guidance=embedded_guidance)
    usual = 1.0 if parts.distilled else GUIDANCE
    asked = Request(
        prompts=tuple(prompts), negatives=_each(negative, len(prompts)), isolated=isolated, word=word, overlap=overlap,
        sharing=None if sharing is None or isolated else to_spec(sharing), transitions=transitions, extra=extra,
        guidance=usual if guidance is None else guidance, embedded_guidance=embedded_guidance, schedule=schedule,
        solver=solver, systems=tuple(map(to_spec, systems)), tile=parts.frames,
        seeds=seeds_of(seeds), steps=steps, height=parts.size[0],
        width=parts.size[1], text_tokens=text_tokens,
    )  # fmt: skip
    return _draw(parts, asked, systems, progress)


def replay(
    pipe: Any, record: Record, *, systems: Sequence[System] | None = None, progress: Progress | None = None
) -> MultiPrompt:
    """Make videos again. They are those of the record bit for bit on the machine it was made on.

    systems  those it was stacked with, where text does not say all of them
    Where they are others, a warning names what differs: device, threads, versions.
    Raises SaccadeError for another pipeline or other weights, ValueError for systems that are not the record's.
    """
    check_model(record.made_by, made_by(pipe))
    asked = record.request
    names = ("height", "width", "tile", "text_tokens", "embedded_guidance")
    parts = VideoParts(pipe=pipe, **{name: getattr(asked, name) for name in names})
    made = _draw(parts, asked, same_stack(asked.systems, systems), progress)
    warn_of_other_bits("videos", record, made.record)
    return made


def _draw(parts: VideoParts, asked: Request, systems: Sequence[System], progress: Progress | None) -> MultiPrompt:
    """One video after the other."""
    pipe = parts.pipe
    _check_lengths(pipe, asked)
    if asked.solver != "pipeline":
        parts.check_alphas()
    sharing, done = _sharing(parts, asked), 0
    stack = [*(() if sharing is None else (sharing,)), *systems]

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, asked.steps * len(long.visits) * len(asked.seeds), "multi_prompt")

    long = LongVideo(
        parts=parts, windows=asked.windows, prompts=asked.prompts, negatives=asked.negatives, steps=asked.steps,
        paired=not asked.isolated, guidance=asked.guidance, schedule=asked.schedule, solver=asked.solver, tell=tell,
    )  # fmt: skip

    with no_progress_bar(pipe), parts.guidance(long.guided), _attached(pipe, stack, asked.isolated) as run:
        videos = tuple(replace(long, run=run).video(seed) for seed in asked.seeds)
        density = 1.0 if run is None else run.report().density
    record = Record(request=asked, made_by=made_by(pipe), digests=tuple(map(digest, videos)))
    return MultiPrompt(videos=videos, segments=long.segments(), density=density, record=record)


def _attached(pipe: Any, stack: Sequence[System], isolated: bool) -> AbstractContextManager[Any]:
    """The attachment of all systems, None where there are none."""
    rows = None if isolated else Rows.of("source", "target")
    return attach(pipe, *stack, where=ALL, rows=rows) if stack else nullcontext()


def _check_lengths(pipe: Any, asked: Request) -> None:
    """ValueError for a text that would be cut."""
    read = text_length(pipe, asked.text_tokens)
    for prompt in (*asked.prompts, *asked.negatives):
        if (count := count_tokens(pipe, prompt)) > read:
            raise ValueError(f"the prompt '{prompt}' has {count} tokens, and {read} are read of it; shorten it")


def _each(text: str | Sequence[str], count: int) -> tuple[str, ...]:
    return (text,) * count if isinstance(text, str) else tuple(text)


def _sharing(parts: VideoParts, asked: Request) -> DiTCtrl | None:
    """The system as the request says it, with the tokens of its word."""
    if asked.sharing is None:
        return None
    (sharing,) = same_stack((asked.sharing,))
    assert isinstance(sharing, DiTCtrl)
    if asked.word is None:
        return sharing
    if sharing.words:
        raise ValueError(f"word='{asked.word}' and {asked.sharing} both name tokens; give one of them")
    found = {p: word_tokens(parts.pipe, p, asked.word, asked.text_tokens) for p in asked.prompts}
    if len(set(found.values())) > 1:
        raise ValueError(
            f"word='{asked.word}' stands at other tokens in other prompts, {found}; build them alike, since what lies "
            "between two of them mixes their tokens by place"
        )
    return replace(sharing, words=found[asked.prompts[0]])
