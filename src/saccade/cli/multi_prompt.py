"""`saccade multi_prompt`: one long video of several prompts, and a record of it drawn again."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli.checks import positive
from saccade.cli.options import (
    AsJson,
    Device,
    Dtype,
    Height,
    KeepRecord,
    MoreSystems,
    Replay,
    Steps,
    Width,
    one_stack,
    open_pipeline,
)
from saccade.cli.pictures import write_pictures
from saccade.cli.printing import console, print_json
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.multi_prompt import MultiPrompt

VIDEO_MODEL = "scenes-wan"
Model = Annotated[
    str, typer.Option(help=f"a CogVideoX, HunyuanVideo or Wan pipeline of diffusers: a directory, or {VIDEO_MODEL}")
]
Sharing = Annotated[
    str | None, typer.Option(help="what a window takes of the one before, as 'ditctrl(deepest=0.3)', or 'none'")
]


def multi_prompt(
    prompts: Annotated[list[str] | None, typer.Argument(help="what the video shows, one after the other")] = None,
    model: Model = VIDEO_MODEL,
    sharing: Sharing = None,
    isolated: Annotated[bool, typer.Option("--isolated", help="each prompt's video by itself, for comparison")] = False,
    word: Annotated[str | None, typer.Option(help="an object of all prompts; sharing goes by masks of it")] = None,
    negative: Annotated[list[str] | None, typer.Option(help="negative prompt; again for one a prompt")] = None,
    tile: Annotated[int | None, typer.Option(help="latent frames of a window")] = None,
    overlap: Annotated[int | None, typer.Option(help="latent frames a window shares with the next")] = None,
    transitions: Annotated[int | None, typer.Option(help="windows between two prompts")] = None,
    extra: Annotated[int | None, typer.Option(help="further windows of each inner prompt")] = None,
    guidance: Annotated[float | None, typer.Option(help="scale of classifier-free guidance")] = None,
    embedded_guidance: Annotated[float | None, typer.Option(help="scale that a distilled model reads")] = None,
    schedule: Annotated[str | None, typer.Option(help="of the guidance: constant, rising or official")] = None,
    solver: Annotated[str | None, typer.Option(help="pipeline, or sde_dpmpp_2m")] = None,
    system: MoreSystems = None,
    replay: Replay = None,
    record: KeepRecord = None,
    out: Annotated[
        Path, typer.Option(help="the video: .webp, .gif or .png; with several seeds their numbers are put in")
    ] = Path("multi_prompt.webp"),
    sheet: Annotated[Path | None, typer.Option(help="frames of each prompt on one .png or .html")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="of the noise; again for another video")] = None,
    text_tokens: Annotated[
        int | None, typer.Option(help="the pipeline's max_sequence_length", callback=positive)
    ] = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Draw one long video of PROMPTS, blended in windows that share keys and values (DiTCtrl)."""
    from saccade.cli.generate import check_format

    check_format(out)
    if sheet is not None and sheet.suffix != ".html":
        check_format(sheet, "sheet")
    if (replay is None) == (not prompts):
        raise ValueError("give PROMPTS of the video, or --replay with a record of one")
    given = {
        **_sharing(sharing), "isolated": isolated or None, "word": word, "negative": _one_or_all(negative),
        "tile": tile, "overlap": overlap, "transitions": transitions, "extra": extra, "guidance": guidance,
        "embedded_guidance": embedded_guidance, "schedule": schedule, "solver": solver,
        "systems": one_stack(system) or None, "seeds": seed, "steps": steps, "height": height, "width": width,
        "text_tokens": text_tokens,
    }  # fmt: skip
    asked = {name: value for name, value in given.items() if value is not None or name == "sharing"}
    if replay is not None and asked:
        raise ValueError(f"--replay draws what the record says; leave out {', '.join(asked)}")
    pipe, start = open_pipeline(model, device, dtype), time.perf_counter()
    made = _run(pipe, prompts or [], replay, {**_defaults(model), **asked})
    _write(made, out, sheet, record, time.perf_counter() - start, as_json)


def _run(pipe: Any, prompts: list[str], replay: Path | None, asked: dict[str, Any]) -> "MultiPrompt":
    from saccade.multi_prompt import Record
    from saccade.multi_prompt import multi_prompt as run
    from saccade.multi_prompt import replay as again

    with progress_bar() as progress:
        if replay is not None:
            return again(pipe, Record.load(replay), progress=progress)
        return run(pipe, prompts, **asked, progress=progress)


def _defaults(model: str) -> dict[str, Any]:
    from saccade.multi_prompt import BUNDLED_SETTINGS

    return dict(BUNDLED_SETTINGS) if model == VIDEO_MODEL else {}


def _sharing(text: str | None) -> dict[str, Any]:
    """Nothing where it is left out, None for "none"."""
    if text is None:
        return {}
    if text == "none":
        return {"sharing": None}
    from saccade.papers.ditctrl import DiTCtrl

    found = one_stack([text])
    if len(found) != 1 or not isinstance(found[0], DiTCtrl):
        raise ValueError(f"sharing='{text}' must be ditctrl with its options, or none")
    return {"sharing": found[0]}


def _one_or_all(texts: list[str] | None) -> str | list[str] | None:
    return texts[0] if texts and len(texts) == 1 else texts or None


def _write(
    made: "MultiPrompt", out: Path, sheet: Path | None, record: Path | None, seconds: float, as_json: bool
) -> None:
    from saccade.multi_prompt import write_sheet

    paths = write_pictures(made.videos, made.record.request.seeds, out)
    drawn = None if sheet is None else str(write_sheet(made, sheet))
    kept = None if record is None else str(made.record.save(record).resolve())
    if as_json:
        from saccade.compare.export import clean

        said = {"paths": [str(path.resolve()) for path in paths], "sheet": drawn, "record": kept, "seconds": seconds}
        segments = [(span.start, span.stop) for span in made.segments]
        print_json(clean({**said, "segments": segments, "density": made.density, "digests": made.record.digests}))
        return
    console().print(
        f"{', '.join(map(str, paths))}: {len(made.videos[0])} frames, {made.windows.count} windows, in {seconds:.1f} s",
        highlight=False,
    )
    for what, where in (("sheet", drawn), ("record", kept)):
        if where:
            console().print(f"{what} {where}", highlight=False)
