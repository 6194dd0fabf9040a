"""`saccade probe`: which layers of a model hang on positions and which on content, with a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from saccade.cli.checks import positive
from saccade.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    CallOptions,
    Device,
    Dtype,
    Height,
    Model,
    Steps,
    Width,
    call_arguments,
    open_pipeline,
)
from saccade.cli.printing import console, print_json
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.analysis import LayerScores, LayerSets

PROMPTS, BATCH = 8, 8


def probe(
    model: Model = DEFAULT_MODEL,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="what to draw; may be repeated")] = None,
    prompts: Annotated[
        int | None, typer.Option(help="or this many held-out captions of scenes", callback=positive)
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="of the noise; may be repeated")] = None,
    low: Annotated[float | None, typer.Option(help="share of the layers that count as hanging on positions")] = None,
    high: Annotated[float | None, typer.Option(help="share of the layers that count as going by content")] = None,
    batch: Annotated[int, typer.Option(help="pictures drawn in one call", callback=positive)] = BATCH,
    jpeg: Annotated[bool, typer.Option("--jpeg", help="compare 512 x 512 JPEGs, as the paper's code does")] = False,
    out: Annotated[Path | None, typer.Option(help="file for the scores, for saccade edit --layers")] = None,
    plot: Annotated[Path | None, typer.Option(help="file for the picture, as layers.svg")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder of what was measured; without it the user's")] = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    option: CallOptions = None,
    as_json: AsJson = False,
) -> None:
    """Move the keys of one layer at a time and see how much the picture changes (FreeFlux). A killed probe goes on."""
    from saccade.analysis.layers import HIGH, LOW
    from saccade.cli.compare import scenes
    from saccade.papers.freeflux import probe_layers

    drawn = scenes(model, prompt, prompts)
    texts = [one if isinstance(one, str) else one.text for one in (drawn if prompt or prompts else drawn[:PROMPTS])]
    call = call_arguments(model, option, num_inference_steps=steps, height=height, width=width)
    pipe = open_pipeline(model, device, dtype)
    common: dict[str, Any] = {"seeds": tuple(seed or (0,)), "batch": batch, "jpeg": jpeg, "cache": cache}
    with progress_bar() as progress:
        scores = probe_layers(pipe, texts, **common, progress=progress, **call)
    sets = scores.sets(LOW if low is None else low, HIGH if high is None else high)
    if out is not None:
        scores.save(out)
    if plot is not None:
        _draw(scores, sets, plot)
    _show(scores, sets, as_json)


def _draw(scores: "LayerScores", sets: "LayerSets", file: Path) -> None:
    from saccade.analysis import plot_layers

    file.parent.mkdir(parents=True, exist_ok=True)
    figure = plot_layers(scores, sets)
    if file.suffix.lstrip(".") not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"plot='{file}' ends in no format of a picture; name it .svg, .png or .pdf")
    figure.savefig(file)


def _show(scores: "LayerScores", sets: "LayerSets", as_json: bool) -> None:
    from saccade.compare.export import clean

    if as_json:
        layers = dict(zip(scores.sites, map(float, scores.closeness), strict=True))
        chosen = {"position": sets.position, "content": sets.content}
        print_json(clean({"layers": layers, **chosen, "stability": scores.stability()}))
        return
    table = Table(box=None, padding=(0, 1, 0, 0), caption="mean PSNR in dB to the picture with nothing moved")
    for title in ("site", *scores.moves, "mean", ""):
        table.add_column(title, justify="left" if title in ("site", "") else "right", no_wrap=title == "site")
    by_move = scores.psnr.mean(2)
    for i, site in enumerate(scores.sites):
        hang = "position" if site in sets.position else "content" if site in sets.content else ""
        figures = (f"{value:.1f}" for value in (*by_move[i], scores.closeness[i]))
        table.add_row(site, *figures, hang)
    console().print(table)
