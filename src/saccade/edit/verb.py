"""Edit a picture by words, one drawn from a prompt or one you have, while all else stays as it is (ConsistEdit).

Two passes over the model: the source alone, which finds where the picture shows the word, and source and target side
by side. The source pass of a picture you have is its inversion (UniInv), and its operands go on a tape.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.core.site import Where, at
from saccade.core.state import Tape
from saccade.data.rgb import as_picture
from saccade.metrics.fidelity import Picture
from saccade.metrics.output import pictures
from saccade.papers.consistedit import ConsistEdit, Region, check_strength
from saccade.pipelines.flow import Flow
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.pipelines.words import word_tokens
from saccade.runs.inversion import invert_uni
from saccade.systems.operand_recorder import OperandRecorder
from saccade.systems.word_map import HEARING, WordMap, edit_mask

Progress = Callable[[int, int, str], None]  # (model calls done, in all, what runs now)
Grid = Bool[Tensor, "h w"]
SHARING = at(stage="last")
STRENGTH, STRENGTH_OF_PICTURE = 1.0, 0.1  # the paper's: inverted noise still holds the picture's structure
BUNDLED_SETTINGS = MappingProxyType(  # settings for `scenes-flux`: its double-stream blocks know best where a word is
    {"watch": Where(kinds=("joint",)), "threshold": 0.4, "steps": 20, "text_tokens": 32}
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Edited:
    """An edit. Pictures are (1 h w 3) in [0, 1].

    before, after    the source and its edit
    rebuilt          the source as the edit's own pass drew it: what `after` was kept close to
    mask             image tokens that were edited, None for all
    heat             for each word, how much image tokens attend to it in the source
    source, target   prompts
    start            latent from which both were drawn
    tape             operands of the edit, for another round; None unless kept
    """

    before: Picture
    after: Picture
    rebuilt: Picture
    mask: Grid | None
    heat: Mapping[str, Float[Tensor, "h w"]]
    source: str
    target: str
    start: Float[Tensor, "1 ..."]
    tape: Tape | None = None

    @property
    def changed(self) -> Bool[np.ndarray, "h w"]:
        """The mask in pixels of the pictures."""
        height, width = self.before.shape[1:3]
        if self.mask is None:
            return np.ones((height, width), bool)
        rows, columns = self.mask.shape
        return np.kron(self.mask.cpu().numpy(), np.ones((height // rows, width // columns), bool))


Source = str | Image.Image | np.ndarray | Edited


def edit(
    pipe: Any,
    *,
    source: Source,
    target: str,
    prompt: str | None = None,
    word: str | Sequence[str] | None = None,
    mask: Bool[np.ndarray, "h w"] | Bool[Tensor, "h w"] | None = None,
    strength: float | Sequence[float] | None = None,
    threshold: float = 0.1,
    watch: Where = HEARING,
    where: Where = SHARING,
    steps: int = 28,
    seed: int = 0,
    guidance: float | None = None,
    height: int | None = None,
    width: int | None = None,
    text_tokens: int | None = None,
    keep: bool = False,
    progress: Progress | None = None,
) -> Edited:
    """Draw `target` so that it is the source outside the edited region, within it as much as `strength` says.

    pipe         a FLUX or Stable Diffusion 3 pipeline of diffusers
    source       a prompt; a picture (a PIL image, or (h w 3) in [0, 1]); or an edit made with keep=True, to go on from
    prompt       what a picture shows, needed with one
    word         of the source prompt: what to edit; several for several regions
    mask         where to edit instead, on image tokens or on pixels; neither word nor mask: everywhere
    strength     share of the steps that keep the structure of what is edited, or one for each word: 1 to change colour
                 or material, about 0.3 for another object; without it 1, and 0.1 for pictures
    threshold    of a word's map, stretched to [0, 1]
    watch, where sites and steps that tell where a word is, and that share operands; the paper's by default
    guidance     the pipeline's guidance_scale; pictures are inverted and, unless another is given, edited with 1
    text_tokens  the pipeline's max_sequence_length
    keep         tape the edit for another round: steps x sites x 3 x tokens x channels numbers
    Raises ValueError for a word that is not in the prompt, and for sizes, masks and strengths that do not fit.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    if not isinstance(source, str | Image.Image | np.ndarray | Edited):
        raise ValueError(
            f"source={source!r:.80} must be a prompt, a picture (PIL or (h w 3) in [0, 1]), or an edit kept"
        )
    words = (word,) if isinstance(word, str) else tuple(word or ())
    if words and mask is not None:
        raise ValueError("word and mask both say where to edit; give one of them")
    own = STRENGTH_OF_PICTURE if isinstance(source, Image.Image | np.ndarray) else STRENGTH
    strengths = _strengths(own if strength is None else strength, words)
    flow = _flow(pipe, source, height, width, text_tokens)
    given = None if mask is None else flow.on_tokens(torch.as_tensor(mask))
    run = _Passes(flow=flow, steps=steps, guidance=guidance, watch=watch, where=where, progress=progress)
    with no_progress_bar(pipe):
        origin = _origin(run, source, prompt, words, seed)
        masks = [edit_mask(heat, threshold) for heat in origin.heat.values()] if given is None else [given]
        tape = Tape() if keep else None
        system = _system(masks, strengths, origin.tape, where)
        drawn = _side_by_side(run, origin, target, system, tape)
    return Edited(
        before=drawn[0] if origin.picture is None else origin.picture,
        after=drawn[1],
        rebuilt=drawn[0],
        mask=torch.stack(masks).any(0) if masks else None,
        heat=origin.heat,
        source=origin.prompt,
        target=target,
        start=origin.start,
        tape=tape,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Origin:
    """Where both rows set out from, and what was seen on the way."""

    prompt: str
    start: Tensor
    heat: Mapping[str, Float[Tensor, "h w"]] = field(default_factory=dict)
    tape: Tape | None = None
    picture: Picture | None = None


@dataclass(kw_only=True, eq=False)
class _Passes:
    """Calls of the pipeline with one setting."""

    flow: Flow
    steps: int
    guidance: float | None
    watch: Where
    where: Where
    progress: Progress | None
    done: int = 0
    total: int = 0

    def draw(self, prompts: list[str], start: Tensor, what: str, *, output: str = "np") -> Any:
        """All prompts from the same latent."""
        flow, pipe = self.flow, self.flow.pipe
        sizes = {"height": flow.height, "width": flow.width, "num_inference_steps": self.steps}
        options = {"guidance_scale": self.guidance, "max_sequence_length": flow.text_tokens}
        return pipe(
            prompt=prompts,
            latents=start.expand(len(prompts), *start.shape[1:]).clone(),
            output_type=output,
            callback_on_step_end=lambda pipe, step, time, tensors: self.tell(what) or tensors,
            **sizes,
            **{name: value for name, value in options.items() if value is not None},
        )

    def tell(self, what: str) -> None:
        """One more call of the model is over."""
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total, what)


def _flow(pipe: Any, source: Source, height: int | None, width: int | None, text_tokens: int | None) -> Flow:
    """The pipeline for the source's size, or the one asked for."""
    if isinstance(source, Edited):
        sizes = source.before.shape[1:3]
    elif isinstance(source, str):
        own = getattr(pipe, "default_sample_size", 0) * getattr(pipe, "vae_scale_factor", 0)
        sizes = (height or own, width or own)
    else:
        sizes = as_picture(source).shape[1:3]
    for name, asked, has in (("height", height, sizes[0]), ("width", width, sizes[1])):
        if asked not in (None, has):
            raise ValueError(f"{name}={asked} is not the source's {has} pixels; resize the source, or leave {name} out")
    return Flow(pipe=pipe, height=sizes[0], width=sizes[1], text_tokens=text_tokens)


def _origin(run: _Passes, source: Source, prompt: str | None, words: tuple[str, ...], seed: int) -> _Origin:
    """The source pass."""
    if isinstance(source, Edited):
        if source.tape is None:
            raise ValueError("source is an edit without a tape; make it with keep=True to go on from it")
        return _from_edit(run, source, source.tape, words)
    if isinstance(source, str):
        return _from_prompt(run, source, words, seed)
    if prompt is None:
        raise ValueError("prompt=None says nothing of the picture; describe it, as prompt='a red circle on white'")
    return _from_picture(run, as_picture(source), prompt, words)


def _from_prompt(run: _Passes, prompt: str, words: tuple[str, ...], seed: int) -> _Origin:
    start, watched = run.flow.noise(seed), _watched(run, prompt, words)
    run.total = run.steps * (2 if watched else 1)
    heat = _heat(run, prompt, start, watched)
    return _Origin(prompt=prompt, start=start, heat=heat)


def _from_edit(run: _Passes, source: Edited, tape: Tape, words: tuple[str, ...]) -> _Origin:
    """The edited picture is drawn again by the operands on its tape."""
    watched = _watched(run, source.target, words)
    run.total = run.steps * (2 if watched else 1)
    whole = ConsistEdit(tape=tape, mask=torch.zeros(run.flow.grid), where=run.where)
    heat = _heat(run, source.target, source.start, watched, whole, rows=Rows.of("target"))
    return _Origin(prompt=source.target, start=source.start, heat=heat, tape=tape, picture=source.after)


def _from_picture(run: _Passes, picture: Picture, prompt: str, words: tuple[str, ...]) -> _Origin:
    """The picture's noise, by inversion without guidance."""
    flow, watched, tape = run.flow, _watched(run, prompt, words), Tape()
    run.total, run.guidance = 2 * run.steps + 1, 1.0 if run.guidance is None else run.guidance
    levels = flow.levels(run.steps)
    velocity = flow.velocity([prompt], levels=levels)

    def counted(z: Tensor, sigma: float) -> Tensor:
        v = velocity(z, sigma)
        run.tell("invert")
        return v

    stack: list[System] = [OperandRecorder(tape=tape, where=run.where), *watched]
    with attach(flow.pipe, *stack, rows=Rows.of("cond"), schedule=levels) as attached:
        start = invert_uni(counted, flow.encode(picture), flow.sigmas(run.steps))
        heat = _maps(attached, watched)
    return _Origin(prompt=prompt, start=start, heat=heat, tape=tape, picture=picture)


def _side_by_side(run: _Passes, origin: _Origin, target: str, system: ConsistEdit, tape: Tape | None) -> list[Picture]:
    stack: list[System] = [system]
    if tape is not None:
        stack.append(OperandRecorder(tape=tape, role="target", where=run.where))
    with attach(run.flow.pipe, *stack, rows=Rows.of("source", "target")):
        return pictures(run.draw([origin.prompt, target], origin.start, "edit"))


def _heat(
    run: _Passes, prompt: str, start: Tensor, watched: list[WordMap], *others: System, rows: Rows | None = None
) -> dict[str, Float[Tensor, "h w"]]:
    """Draw the source alone and see where it shows the words."""
    if not watched:
        return {}
    with attach(run.flow.pipe, *others, *watched, rows=rows) as attached:
        run.draw([prompt], start, "find the words", output="latent")
        return _maps(attached, watched)


def _maps(attached: Any, watched: list[WordMap]) -> dict[str, Float[Tensor, "h w"]]:
    return {word: heat[0, 0] for words in watched for word, heat in words.heat(attached.state).items()}


def _watched(run: _Passes, prompt: str, words: tuple[str, ...]) -> list[WordMap]:
    """A system that watches the words, or none where there are none."""
    tokens = {word: word_tokens(run.flow.pipe, prompt, word, run.flow.text_tokens) for word in words}
    return [WordMap(tokens=tokens, where=run.watch)] if tokens else []


def _system(masks: list[Grid], strengths: tuple[float, ...], tape: Tape | None, where: Where) -> ConsistEdit:
    if not masks:
        return ConsistEdit(strength=strengths[0], tape=tape, where=where)
    regions = (Region(mask=mask, strength=s) for mask, s in zip(masks, strengths, strict=True))
    return ConsistEdit(regions=tuple(regions), tape=tape, where=where)


def _strengths(strength: float | Sequence[float], words: tuple[str, ...]) -> tuple[float, ...]:
    """One for each region."""
    regions = max(len(words), 1)
    given = tuple(strength) if isinstance(strength, Sequence) else (strength,) * regions
    if len(given) != regions:
        raise ValueError(f"strength={given} gives {len(given)} values for {regions} regions; give one, or one for each")
    for value in given:
        check_strength(value)
    return given
