"""How well pictures are inverted, and edits of pictures the model never drew, on the model in the box.

    python recipes/inversion.py --out docs/results/inversion.json --page docs/results/inversion.md

Hardware: one CPU core, about four minutes. Expected: the error of UniInv falls with about the square of the number of
steps, that of Euler's method with the number itself; a recoloured thing keeps its shape and place at any strength, and
at strength 1 now and then part of its old colour.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inversion_page import write_page

from saccade.core.site import Where
from saccade.data.scenes import COLOURS, Prompt, Scene, Want, judge, masks, render, sample
from saccade.data.scenes.words import on_background, phrase
from saccade.edit import IN_THE_BOX, Edited, edit
from saccade.metrics import canny_ssim, within
from saccade.metrics.intervals import share, t_interval
from saccade.metrics.machine import device_name, versions
from saccade.pipelines.flow import Flow
from saccade.pipelines.loading import load_pipeline
from saccade.runs import invert_euler, invert_uni, sample_euler
from saccade.ui.progress import Told, progress_bar

SIDE, TEXT, SEED = 64, 32, 5
STEPS = (4, 8, 16, 32, 64)
SCENES = 8
METHODS = {"UniInv": invert_uni, "Euler": invert_euler}
EVERYWHERE = Where(kinds=("joint",))
ARMS: dict[str, dict[str, Any]] = {
    "target from the inverted noise": {"strength": 0.0},
    **{f"strength {s:g}, true mask": {"strength": s, "true": True} for s in (0.1, 0.3, 1.0)},
    **{f"strength {s:g}, word's mask": {"strength": s, "words": True} for s in (0.1, 0.3, 1.0)},
    "strength 1, true mask, last blocks only": {"strength": 1.0, "true": True, "where": None},
}


def main() -> None:
    """Measure, and write figures and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--page", type=Path, help="the page made from it")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    started, flow = (
        time.perf_counter(),
        Flow(pipe=load_pipeline("scenes-flux"), height=SIDE, width=SIDE, text_tokens=TEXT),
    )
    with progress_bar() as told:
        figures = {"reconstruction": list(reconstruction(flow, told)), "edits": list(edits(flow, told))}
    spent = round(time.perf_counter() - started, 1)
    setting = {"side": SIDE, "scenes": SCENES, "edit_steps": IN_THE_BOX["steps"], "wall_s": spent}
    figures |= {"setting": setting, "machine": {"device": device_name("cpu"), **versions()}}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(figures, indent=1) + "\n")
    if chosen.page:
        write_page(figures, chosen.page)


def reconstruction(flow: Flow, told: Told) -> Iterator[dict[str, Any]]:
    """Inversion and back, by method and number of steps, for drawn and for rendered pictures."""
    scenes = pairs()
    texts = [caption(scene).text for scene in scenes]
    velocity = flow.velocity(texts)
    noise = torch.cat([flow.noise(seed) for seed in range(SCENES)])
    rendered = flow.encode(np.stack([render(scene, SIDE) for scene in scenes]) / 255)
    clean = {"drawn by the model": sample_euler(velocity, noise, flow.sigmas(STEPS[-1])), "rendered": rendered}
    jobs = [(kind, method, steps) for kind in clean for method in METHODS for steps in STEPS]
    for number, (kind, method, steps) in enumerate(jobs):
        told(number, len(jobs), f"{kind}, {method}, {steps} steps")
        sigmas = flow.sigmas(steps)
        back = sample_euler(velocity, METHODS[method](velocity, clean[kind], sigmas), sigmas)
        latent = (back - clean[kind]).square().flatten(1).mean(1).tolist()
        pixels = ((flow.decode(back) - flow.decode(clean[kind])) ** 2).mean((1, 2, 3)).tolist()
        calls = steps + (method == "UniInv")
        yield {"pictures": kind, "method": method, "steps": steps, "calls": calls, "latent_mse": latent, "mse": pixels}


def edits(flow: Flow, told: Told) -> Iterator[dict[str, Any]]:
    """The first thing of rendered scenes in another colour, judged by the parser."""
    scenes = pairs()
    for number, (name, arm) in enumerate(ARMS.items()):
        told(number, len(ARMS), name)
        yield {"arm": name, **summary([one(flow, scene, **arm) for scene in scenes])}


def one(
    flow: Flow,
    scene: Scene,
    *,
    strength: float,
    true: bool = False,
    words: bool = False,
    where: Where | None = EVERYWHERE,
) -> dict[str, Any]:
    """One edit and what became of it; `true` and `words` say where to edit, by the truth or by the word's map."""
    thing, wanted = scene.things[0], recoloured(scene)
    truth = masks(scene, SIDE)[0]
    place = {"mask": truth} if true else {"word": thing.shape} if words else {}
    sites = {} if where is None else {"where": where}
    found = edit(
        flow.pipe,
        source=render(scene, SIDE),
        prompt=caption(scene).text,
        target=caption(wanted).text,
        strength=strength,
        **{**IN_THE_BOX, **place, **sites},
    )
    return scored(found, scene, wanted)


def scored(found: Edited, scene: Scene, wanted: Scene) -> dict[str, Any]:
    """The parser's verdict, and closeness to the source outside every outline that may change."""
    verdict, truth = judge(found.after[0], caption(wanted)), masks(scene, SIDE)[0]
    overlap = (found.changed & truth).sum() / (found.changed | truth).sum()
    return {
        **{name: float(kept) for name, kept in asdict(verdict).items()},
        "kept_psnr": within(found.after, found.before, ~found.changed & ~truth).psnr
        if found.mask is not None
        else None,
        "outside_psnr": within(found.after, found.before, ~truth).psnr,
        "edges": canny_ssim(found.after, found.before),
        "mask_iou": float(overlap),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares and means over the scenes."""
    means = {name: asdict(t_interval([row[name] for row in rows])) for name in ("outside_psnr", "edges", "mask_iou")}
    kept = {name: float(np.nanmean([row[name] for row in rows])) for name in ("colour", "shape", "place", "size")}
    return {"all": asdict(share([row["all"] == 1 for row in rows])), **kept, **means}


def pairs() -> list[Scene]:
    """Scenes of two things of different shapes, the same every time."""
    rng = np.random.default_rng(SEED)
    found: list[Scene] = []
    while len(found) < SCENES:
        scene = sample(rng, count=2)
        if len({thing.shape for thing in scene.things}) == 2:
            found.append(scene)
    return found


def recoloured(scene: Scene) -> Scene:
    """The first thing in a colour that no thing of the scene has."""
    used = {thing.colour for thing in scene.things}
    fresh = next(colour for colour in COLOURS if colour not in used)
    return replace(scene, things=(replace(scene.things[0], colour=fresh), *scene.things[1:]))


def caption(scene: Scene) -> Prompt:
    """All there is to say of a scene."""
    wants = tuple(Want(colour=t.colour, shape=t.shape, size=t.size, place=t.place) for t in scene.things)
    text = on_background(" and ".join(map(phrase, wants)), scene.background)
    return Prompt(text=text, wants=wants, background=scene.background)


if __name__ == "__main__":
    main()
