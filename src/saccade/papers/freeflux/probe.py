"""How much does each layer hang on positions? Move the keys of one layer at a time, draw again, and compare.

A probe draws 1 + layers x moves pictures of every prompt and seed. What is drawn is written down at once in the user's
cache, so a probe that was killed goes on, and one that is done is read.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from saccade.analysis.layers import LayerScores
from saccade.attach import attach
from saccade.core.cache_folder import cache_folder
from saccade.core.errors import SelectorError
from saccade.core.site import EVERYWHERE, Where, at
from saccade.mechanisms.key_positions import Shift
from saccade.metrics.fidelity import Picture
from saccade.metrics.output import pictures, to_bytes
from saccade.models.fingerprint import fingerprint
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.systems.moved_keys import MovedKeys

Moves = Mapping[str, Shift | None]  # (t, y, x) in shares of the grid, None for keys that are not rotated
Progress = Callable[[int, int, str], None]
MOVES: Moves = MappingProxyType(
    {"unrotated": None, "diagonal": (0, 10 / 64, 10 / 64), "across": (0, 0, 20 / 64), "down": (0, 1, 0)}
)
VIDEO_MOVES: Moves = MappingProxyType({**MOVES, "later": (0.25, 0, 0)})
JPEG_SIDE = 512


@torch.no_grad()
def probe_layers(
    pipe: Any,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int] = (0,),
    moves: Moves = MOVES,
    where: Where = EVERYWHERE,
    batch: int = 1,
    jpeg: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
    **call: Any,
) -> LayerScores:
    """Measure every layer of a pipeline's transformer.

    prompts, seeds  a picture of each prompt from each seed is what moved ones are compared with
    moves           what is done to the keys, by name
    where           layers that are probed; edits need the scores of all
    batch           pictures drawn in one call
    jpeg            compare as released: resized to 512 x 512, as 8-bit JPEG, which bounds the PSNR
    cache           folder of what was measured; without it that of the user
    call            arguments of the pipeline's call, as num_inference_steps, height and width
    Pictures of one row depend a little on who is in the batch with it, so references are drawn in the same batches.
    Raises ValueError without prompts, seeds or moves, SelectorError where nothing is chosen, MissingError where the
    host's rotary tables cannot be read.
    """
    for name, given in (("prompts", prompts), ("seeds", seeds), ("moves", moves)):
        if not given or isinstance(given, str):
            raise ValueError(f"{name}={given!r} leaves nothing to draw; give a list of at least one")
    if batch < 1:
        raise ValueError(f"batch={batch} must be at least 1")
    jobs = [(prompt, seed) for prompt in prompts for seed in seeds]
    sites = _layers(pipe, where)
    about = {"prompts": list(prompts), "seeds": list(seeds), "jpeg": jpeg, "batch": batch, "call": _plain(call)}
    model = fingerprint(pipe.transformer)
    notes = _Notes(file=_file(cache, model, {**about, "sites": sites, "moves": dict(moves)}))
    drawing = _Drawing(
        pipe=pipe, call=call, jpeg=jpeg, progress=progress, total=len(jobs) * (1 + len(sites) * len(moves))
    )
    with no_progress_bar(pipe):
        for start in range(0, len(jobs), batch):
            _measure(drawing, notes, start, jobs[start : start + batch], sites, moves)
    mse = [[[notes.known[site, name, i] for i in range(len(jobs))] for name in moves] for site in sites]
    scores = LayerScores(model=model, sites=tuple(sites), moves=tuple(moves), mse=np.array(mse), about=about)
    scores.save(notes.file.with_suffix(".json"))
    return scores


def known_layers(pipe: Any, cache: Path | None = None) -> LayerScores | None:
    """The last probe of this very model in the cache; None without one."""
    done = (_folder(cache) / fingerprint(pipe.transformer)).glob("*.json")
    last = max(done, key=lambda file: file.stat().st_mtime, default=None)
    return None if last is None else LayerScores.load(last)


@dataclass(kw_only=True, eq=False)
class _Notes:
    """Errors by (site, move, number of the picture), each written down as soon as it is known."""

    file: Path
    known: dict[tuple[str, str, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        for line in self.file.read_text().splitlines() if self.file.exists() else ():
            try:
                site, move, number, error = json.loads(line)
            except ValueError:  # the line that was being written when the run was killed
                continue
            self.known[site, move, number] = error

    def add(self, site: str, move: str, start: int, errors: Sequence[float]) -> None:
        """What one call drew."""
        lines = [json.dumps([site, move, start + i, error]) for i, error in enumerate(errors)]
        with self.file.open("a") as file:
            file.write("\n" + "\n".join(lines) + "\n")
        self.known |= {(site, move, start + i): error for i, error in enumerate(errors)}


@dataclass(kw_only=True, eq=False)
class _Drawing:
    """Calls of the pipeline with one setting, counted."""

    pipe: Any
    call: Mapping[str, Any]
    jpeg: bool
    progress: Progress | None
    total: int
    done: int = 0

    def draw(self, jobs: Sequence[tuple[str, int]]) -> list[Picture]:
        """A picture of each job."""
        noise = [torch.Generator("cpu").manual_seed(seed) for _, seed in jobs]
        made = self.pipe([prompt for prompt, _ in jobs], generator=noise, output_type="np", **self.call)
        drawn = pictures(made)
        return [_jpeg(one) for one in drawn] if self.jpeg else drawn

    def count(self, pictures: int, what: str) -> None:
        """So many are there."""
        self.done += pictures
        if self.progress is not None:
            self.progress(self.done, self.total, what)


def _measure(
    drawing: _Drawing, notes: _Notes, start: int, jobs: Sequence[tuple[str, int]], sites: Sequence[str], moves: Moves
) -> None:
    """All layers and moves on one batch of pictures, save what is known."""
    n, reference = len(jobs), None
    todo = [(s, m) for s, m in _pairs(sites, moves) if any((s, m, start + i) not in notes.known for i in range(n))]
    drawing.count(n * (1 + len(sites) * len(moves) - len(todo)) - n * bool(todo), "known")
    for site, move in todo:
        if reference is None:
            reference = drawing.draw(jobs)
            drawing.count(n, "references")
        with attach(drawing.pipe, MovedKeys(shift=moves[move], of_grid=True, where=at(site))):
            moved = drawing.draw(jobs)
        notes.add(site, move, start, [_mse(a, b) for a, b in zip(moved, reference, strict=True)])
        drawing.count(n, f"{site}: {move}")


def _pairs(sites: Sequence[str], moves: Moves) -> Iterator[tuple[str, str]]:
    return ((site, move) for site in sites for move in moves)


def _layers(pipe: Any, where: Where) -> list[str]:
    """Names of the layers that are probed; what has no rotary tables is refused before anything is drawn."""
    with attach(pipe) as run:
        sites = [site.name for site in run.sites if where.covers(site) and site.kind != "cross"]
    if not sites:
        raise SelectorError(f"where={where} matches no layer of the pipeline's transformer")
    with attach(pipe, MovedKeys(where=where)):
        return sites


def _mse(a: Picture, b: Picture) -> float:
    return float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))


def _jpeg(picture: Picture) -> Float[np.ndarray, "t y x 3"]:
    """Each frame as a JPEG of 512 x 512 has it."""
    from PIL import Image

    frames = []
    for frame in to_bytes(picture):
        with BytesIO() as file:
            Image.fromarray(frame).resize((JPEG_SIDE, JPEG_SIDE)).save(file, format="JPEG")
            frames.append(np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) / 255)
    return np.stack(frames)


def _folder(cache: Path | None) -> Path:
    return cache_folder() / "layers" if cache is None else cache


def _file(cache: Path | None, model: str, settings: Mapping[str, Any]) -> Path:
    """One file for each model and setting."""
    mark = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return _folder(cache) / model / f"{mark}.jsonl"


def _plain(call: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(call), default=str, sort_keys=True))
