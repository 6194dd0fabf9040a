"""Draw a prompt with and without steering away from a copy of the model whose attention is weakened (SoftPAG).

One run for the plain picture and one for each strength, all from the same noise; a steered run has one batch row more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saccade.attach import attach
from saccade.compare.arms import Setup, Visit
from saccade.compare.verb import draw
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.metrics.fidelity import Picture
from saccade.papers.headhunter import SoftPAG
from saccade.papers.headhunter.perturbations import Kind, Scope
from saccade.pipelines.no_progress_bar import no_progress_bar

Progress = Callable[[int, int, str], None]  # (runs done, in all, what runs now)


@dataclass(frozen=True, kw_only=True, eq=False)
class Guided:
    """Pictures or videos (t h w 3) in [0, 1] of one prompt and noise.

    plain    without weak rows
    guided   by strength w
    systems  what was attached, likewise
    """

    prompt: str
    plain: Picture
    guided: Mapping[float, Picture]
    systems: Mapping[float, SoftPAG]

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
    if not heads and not layers:
        raise ValueError("heads=() and layers=() leave nothing to weaken; give (layer, head) pairs, or layers")
    asked = (w,) if isinstance(w, int | float) else tuple(w)
    system = SoftPAG(heads=tuple(map(tuple, heads)), layers=tuple(layers), kind=kind, u=u, tau=tau, scope=scope)  # type: ignore[arg-type]
    steered = {float(strength): replace(system, w=float(strength)) for strength in asked}
    setup = Setup(steps=steps, height=height, width=width, options=options or {})
    tell = progress or (lambda done, total, what: None)
    visit, total, guided = Visit(jobs=((0, seed),), first=True), len(steered) + 1, {}
    with no_progress_bar(pipe):
        for done, (strength, one) in enumerate(steered.items()):  # first, so that bad heads fail at once
            tell(done, total, f"w = {strength:g}")
            with attach(pipe, one, *systems, rows=rows):
                guided[strength] = draw(pipe, (prompt,), visit, setup)[0]
        tell(total - 1, total, "plain")
        with attach(pipe, *systems):
            plain = draw(pipe, (prompt,), visit, setup)[0]
    return Guided(prompt=prompt, plain=plain, guided=guided, systems=steered)
