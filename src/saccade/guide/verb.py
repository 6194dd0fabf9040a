"""Draw a prompt with and without steering away from a copy of the model whose attention is weakened (SoftPAG).

One run for the plain picture and one for each strength, all from the same noise; a steered run has one batch row more.
A record makes them again bit for bit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saccade.attach import attach
from saccade.compare.arms import Setup, Visit, same_stack, to_spec
from saccade.compare.verb import draw
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.guide.request import Record, Request
from saccade.metrics.fidelity import Picture
from saccade.papers.headhunter import SoftPAG
from saccade.papers.headhunter.perturbations import Kind, Scope
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.pipelines.records import check_model, digest, made_by, warn_of_other_bits

Progress = Callable[[int, int, str], None]  # (runs done, in all, what runs now)


@dataclass(frozen=True, kw_only=True, eq=False)
class Guided:
    """Pictures or videos (t h w 3) in [0, 1] of one prompt and noise.

    plain    without weak rows
    guided   by strength w
    systems  what was attached, likewise
    record   what was done; `record.save(path)` keeps it, `replay` makes it again
    """

    prompt: str
    plain: Picture
    guided: Mapping[float, Picture]
    systems: Mapping[float, SoftPAG]
    record: Record

    def panels(self) -> dict[str, Picture]:
        """All pictures by their captions, for a sheet."""
        return {"plain": self.plain, **{f"w = {w:g}": picture for w, picture in self.guided.items()}}


def guide(
    pipe: Any,
    prompt: str,
    *,
    heads: Sequence[tuple[int, int]] = (),
    layers: Sequence[int] = (),
    kind: Kind = "identity",
    u: float = 1.0,
    w: float | Sequence[float] = 5.0,
    tau: float = 1.0,
    scope: Scope = "image_block",
    seed: int = 0,
    steps: int | None = None,
    height: int | None = None,
    width: int | None = None,
    options: Mapping[str, Any] | None = None,
    rows: Rows | None = None,
    systems: Sequence[System] = (),
    progress: Progress | None = None,
) -> Guided:
    """Draw `prompt` as it is and steered away from a copy with these heads weakened.

    pipe           a diffusers pipeline
    heads, layers  (layer, head) pairs, and layers with all their heads, counted from 0; at least one
    kind, u, tau, scope  of the weakening, as in `saccade.papers.SoftPAG`
    w              strength, or several: a picture each
    steps, height, width  None leaves them to the pipeline
    options        further arguments of its call, such as guidance_scale
    rows           what its batch rows are, for pipelines that do not say whether they are guided, as PixArt's and DiT's
    systems        more systems that all pictures are drawn with, an accelerating one say
    Raises ValueError for options out of range, SelectorError for heads the model does not have, MissingError where the
    rows are not known.
    """
    pairs: Any = tuple(tuple(head) if isinstance(head, list) else head for head in heads)
    strengths: Any = (w,) if isinstance(w, str | int | float) else tuple(w)
    asked = Request(
        prompt=prompt, heads=pairs, layers=tuple(layers), kind=kind, u=u, w=strengths, tau=tau, scope=scope, seed=seed,
        steps=steps, height=height, width=width, options=dict(options or {}), rows=rows,
        systems=tuple(map(to_spec, systems)),
    )  # fmt: skip
    return _draw(pipe, asked, systems, progress)


def replay(
    pipe: Any, record: Record, *, systems: Sequence[System] | None = None, progress: Progress | None = None
) -> Guided:
    """Make guided pictures again. They are those of the record bit for bit on the machine it was made on.

    systems  those they were stacked with, where text does not say all of them
    Where they are others, a warning names what differs: device, threads, versions.
    Raises SaccadeError for another pipeline or other weights, ValueError for systems that are not the record's.
    """
    check_model(record.made_by, made_by(pipe))
    made = _draw(pipe, record.request, same_stack(record.request.systems, systems), progress)
    warn_of_other_bits("pictures", record, made.record)
    return made


def _draw(pipe: Any, asked: Request, systems: Sequence[System], progress: Progress | None) -> Guided:
    """The steered pictures first, so that bad heads fail at once."""
    steered, tell = asked.systems_by_strength, progress or (lambda done, total, what: None)
    setup = Setup(steps=asked.steps, height=asked.height, width=asked.width, options=asked.options)
    visit, total, guided = Visit(jobs=((0, asked.seed),), first=True), len(steered) + 1, {}
    with no_progress_bar(pipe):
        for done, (strength, one) in enumerate(steered.items()):
            tell(done, total, f"w = {strength:g}")
            with attach(pipe, one, *systems, rows=asked.rows):
                guided[strength] = draw(pipe, (asked.prompt,), visit, setup)[0]
        tell(total - 1, total, "plain")
        with attach(pipe, *systems):
            plain = draw(pipe, (asked.prompt,), visit, setup)[0]
    record = Record(request=asked, made_by=made_by(pipe), digests=tuple(map(digest, (plain, *guided.values()))))
    return Guided(prompt=asked.prompt, plain=plain, guided=guided, systems=steered, record=record)
