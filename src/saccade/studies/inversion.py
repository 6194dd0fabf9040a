"""How well pictures are inverted, and edits of pictures the model never sampled, on the bundled model.

Expected: the error of UniInv falls with about the square of the number of steps, that of Euler's method with the number
itself; a recoloured object keeps its shape and place at any strength, and at strength 1 now and then part of its old
colour.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from saccade.core.site import Where
from saccade.data.scenes import COLOURS, Prompt, Scene, Want, judge, masks, render, sample
from saccade.data.scenes.words import on_background, phrase
from saccade.edit import Edited, edit
from saccade.edit.verb import BUNDLED_SETTINGS
from saccade.experiments import Bench, Experiment, Figures, Results, Row
from saccade.metrics import canny_ssim, within
from saccade.metrics.intervals import share, t_interval
from saccade.pipelines.flow import Flow
from saccade.pipelines.loading import load_pipeline
from saccade.runs import invert_euler, invert_uni, sample_euler
from saccade.ui.markdown import markdown_table

METHODS = {"UniInv": invert_uni, "Euler": invert_euler}
EVERYWHERE = Where(kinds=("joint",))
ARMS: dict[str, dict[str, Any]] = {
    "target from the inverted noise": {"strength": 0.0},
    **{f"strength {s:g}, true mask": {"strength": s, "by": "truth"} for s in (0.1, 0.3, 1.0)},
    **{f"strength {s:g}, word's mask": {"strength": s, "by": "word"} for s in (0.1, 0.3, 1.0)},
    "strength 1, true mask, last blocks only": {"strength": 1.0, "by": "truth", "where": None},
}
PROMISES = ("colour", "shape", "place", "size")
SCORES = ("outside_psnr", "edges", "mask_iou")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`scenes` of two objects, `side` pixels; inverted in so many `steps`, edited in `edit_steps` by `arms`."""

    scenes: int = 8
    side: int = 64
    text_tokens: int = 32
    seed: int = 5
    steps: tuple[int, ...] = (4, 8, 16, 32, 64)
    edit_steps: int = 20
    arms: tuple[str, ...] = tuple(ARMS)


def order_table(results: Results, figures: Figures) -> str:
    """Error of pixels by steps, and its order."""
    steps = results.distinct("reconstruction.steps")
    lines = [
        [kind, method, *(f"{error:.2e}" for error in found.values()), f"{order(found):.2f}"]
        for kind, method, found in curves(results)
    ]
    return markdown_table(["pictures", "method", *(f"{n} steps" for n in steps), "order"], lines)


def curves(results: Results) -> Iterator[tuple[str, str, dict[int, float]]]:
    """Kind of pictures, method, and the mean squared error by number of steps."""
    for kind in results.distinct("reconstruction.pictures"):
        for method in METHODS:
            yield kind, method, results.by("reconstruction.mse", "steps", pictures=kind, method=method)


def order(found: dict[int, float]) -> float:
    """Minus the slope of the log of the root error over that of the steps."""
    return -float(np.polyfit(np.log(list(found)), np.log(np.sqrt(list(found.values()))), 1)[0])


def plot(results: Results, figures: Figures) -> str:
    """Root mean squared error over steps, both logarithmic, a panel for each kind of pictures."""
    kinds = results.distinct("reconstruction.pictures")
    figure = Figure(figsize=(4.4 * len(kinds), 3), layout="constrained")
    panels = dict(zip(kinds, figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0], strict=True))
    for kind, method, found in curves(results):
        label = f"{method}, order {order(found):.2f}"
        panels[kind].loglog(list(found), np.sqrt(list(found.values())), marker="o", ms=4, label=label)
    for kind, axes in panels.items():
        axes.set(xlabel="steps", title=kind)
        axes.set_xticks(steps := results.distinct("reconstruction.steps"), labels=map(str, steps))
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.legend(frameon=False, fontsize=8, loc="upper right")
    figure.axes[0].set_ylabel("RMSE of pixels")
    return figures.save("error", figure, "Error by steps")


def edit_table(results: Results, figures: Figures) -> str:
    """A row for each way of editing."""
    heads = ("edit", "kept", *PROMISES, "outside", "Canny-SSIM", "IoU")
    return markdown_table(heads, map(edit_row, results.rows("edits")))


def edit_row(row: Row) -> tuple[str, ...]:
    """One way's cells."""
    kept = share([True] * row["kept"] + [False] * (row["scenes"] - row["kept"]))
    return (
        row["arm"], f"{kept.mid:.2f} [{kept.low:.2f}, {kept.high:.2f}]", *(f"{row[name]:.2f}" for name in PROMISES),
        f"{row['outside_psnr']:.1f} dB", f"{row['edges']:.3f}", f"{row['mask_iou']:.2f}",
    )  # fmt: skip


EXPERIMENT: Experiment[Settings] = Experiment(
    name="inversion",
    settings=Settings(),
    quick=Settings(scenes=1, steps=(2, 3), edit_steps=2, arms=("strength 1, true mask", "strength 1, word's mask")),
    hours=0.05,
    sections={"errors": (plot, order_table), "edits": (edit_table,)},
    page="studies/inversion.md",
)


@EXPERIMENT.part()
def reconstruction(bench: Bench[Settings]) -> Iterable[Row]:
    """Inversion and back, by method and number of steps, for sampled and for rendered pictures: means over scenes."""
    settings, flow = bench.settings, pipeline(bench.settings)
    scenes = pairs(settings)
    velocity = flow.velocity([caption(scene).text for scene in scenes])
    noise = torch.cat([flow.noise(seed) for seed in range(settings.scenes)])
    rendered = flow.encode(np.stack([render(scene, settings.side) for scene in scenes]) / 255)
    sampled = sample_euler(velocity, noise, flow.sigmas(settings.steps[-1]))
    clean = {"sampled by the model": sampled, "rendered": rendered}
    jobs = [(kind, method, steps) for kind in clean for method in METHODS for steps in settings.steps]
    for number, (kind, method, steps) in enumerate(jobs):
        bench.progress(number, len(jobs), f"{kind}, {method}, {steps} steps")
        sigmas = flow.sigmas(steps)
        back = sample_euler(velocity, METHODS[method](velocity, clean[kind], sigmas), sigmas)
        mse = float(((flow.decode(back) - flow.decode(clean[kind])) ** 2).mean())
        latent = float((back - clean[kind]).square().mean())
        calls = steps + (method == "UniInv")
        yield {"pictures": kind, "method": method, "steps": steps, "calls": calls, "mse": mse, "latent_mse": latent}


@EXPERIMENT.part()
def edits(bench: Bench[Settings]) -> Iterable[Row]:
    """The first object of rendered scenes in another colour, judged by the parser: sums and means over scenes."""
    flow, scenes = pipeline(bench.settings), pairs(bench.settings)
    for number, name in enumerate(bench.settings.arms):
        bench.progress(number, len(bench.settings.arms), name)
        found = [edited(flow, scene, bench.settings.edit_steps, **ARMS[name]) for scene in scenes]
        means = {name: t_interval([row[name] for row in found]).mid for name in (*PROMISES, *SCORES)}
        yield {"arm": name, "scenes": len(found), "kept": sum(row["all"] == 1 for row in found), **means}


def edited(
    flow: Flow, scene: Scene, steps: int, *, strength: float, by: str = "", where: Where | None = EVERYWHERE
) -> dict[str, float]:
    """One edit and what became of it; `by` says where to edit, by the "truth" or by the "word"'s map."""
    target, truth = scene.things[0], masks(scene, flow.height)[0]
    wanted = recoloured(scene)
    place = {"truth": {"mask": truth}, "word": {"word": target.shape}}.get(by, {})
    sites = {} if where is None else {"where": where}
    found = edit(
        flow.pipe,
        source=render(scene, flow.height),
        prompt=caption(scene).text,
        target=caption(wanted).text,
        strength=strength,
        **{**BUNDLED_SETTINGS, "smooth": 1, **place, **sites, "steps": steps},
    )
    return scores(found, wanted, truth)


def scores(found: Edited, wanted: Scene, truth: np.ndarray) -> dict[str, float]:
    """The parser's verdict, closeness to the source outside the true outline, and overlap of that with the edit."""
    overlap = (found.changed & truth).sum() / (found.changed | truth).sum()
    return {
        **{name: float(kept) for name, kept in asdict(judge(found.after[0], caption(wanted))).items()},
        "outside_psnr": within(found.after, found.before, ~truth).psnr,
        "edges": canny_ssim(found.after, found.before),
        "mask_iou": float(overlap),
    }


@cache
def pipeline(settings: Settings) -> Flow:
    """The bundled model at the settings' size."""
    pipe = load_pipeline("scenes-flux")
    return Flow(pipe=pipe, height=settings.side, width=settings.side, text_tokens=settings.text_tokens)


def pairs(settings: Settings) -> list[Scene]:
    """Scenes of two objects of different shapes, the same every time."""
    rng = np.random.default_rng(settings.seed)
    found: list[Scene] = []
    while len(found) < settings.scenes:
        scene = sample(rng, count=2)
        if len({thing.shape for thing in scene.things}) == 2:
            found.append(scene)
    return found


def recoloured(scene: Scene) -> Scene:
    """The first object in a colour that no object of the scene has."""
    used = {thing.colour for thing in scene.things}
    fresh = next(colour for colour in COLOURS if colour not in used)
    return replace(scene, things=(replace(scene.things[0], colour=fresh), *scene.things[1:]))


def caption(scene: Scene) -> Prompt:
    """All there is to say of a scene."""
    wants = tuple(Want(colour=t.colour, shape=t.shape, size=t.size, place=t.place) for t in scene.things)
    text = on_background(" and ".join(map(phrase, wants)), scene.background)
    return Prompt(text=text, wants=wants, background=scene.background)
