"""`saccade compose`: draw things at their places, after texts and reference pictures, and draw a record of it again."""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    Device,
    Dtype,
    Height,
    KeepRecord,
    Model,
    MoreSystems,
    Replay,
    Steps,
    Width,
    one_stack,
    open_pipeline,
)
from saccade.cli.pictures import corners, open_gray, open_rgb, write_pictures
from saccade.cli.printing import console, print_json
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.compose import Composed

NONE = "-"

Boxes = Annotated[
    list[str] | None,
    typer.Option("--box", "-b", help="x0,y0,x1,y1 in shares or pixels, one for each text; '-' for the whole canvas"),
]
Masks = Annotated[list[str] | None, typer.Option("--mask", help="picture, white at its place, or '-'; one a text")]
References = Annotated[
    list[str] | None, typer.Option("--reference", "-r", help="picture of it, or '-'; one a text, with FLUX.1 Kontext")
]
Apart = Annotated[
    list[str] | None, typer.Option(help="0:1 lets text 0 leave the first steps' overlap to text 1; again for more")
]


def compose(
    texts: Annotated[list[str] | None, typer.Argument(help="what each thing is")] = None,
    box: Boxes = None,
    mask: Masks = None,
    reference: References = None,
    interaction: Annotated[str | None, typer.Option(help="a sentence on all of them")] = None,
    apart: Apart = None,
    first_stage: Annotated[float | None, typer.Option(help="share of the steps in which places stay apart")] = None,
    padding: Annotated[str | None, typer.Option(help="hub, isolated or dropped")] = None,
    system: MoreSystems = None,
    replay: Replay = None,
    record: KeepRecord = None,
    model: Model = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="the picture; with several seeds their numbers are put in")] = Path(
        "composed.png"
    ),
    sheet: Annotated[Path | None, typer.Option(help="references, places and pictures on one .png or .html")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="of the noise; again for another picture")] = None,
    guidance: Annotated[float | None, typer.Option(help="the pipeline's guidance_scale")] = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Draw TEXTS at their places in one picture, after reference pictures where there are some (LAMIC)."""
    from saccade.cli.generate import check_format

    check_format(out)
    if sheet is not None and sheet.suffix != ".html":
        check_format(sheet, "sheet")
    if (replay is None) == (not texts):
        raise ValueError("give TEXTS to compose, or --replay with a record of one")
    given = {
        "boxes": _each(box, corners), "masks": _each(mask, open_gray),
        "references": _each(reference, partial(open_rgb, name="reference")),
        "interaction": interaction, "apart": _apart(apart), "first_stage": first_stage, "padding": padding,
        "systems": one_stack(system) or None, "seeds": seed, "guidance": guidance,
        "steps": steps, "height": height, "width": width,
    }  # fmt: skip
    asked = {name: value for name, value in given.items() if value is not None}
    if replay is not None and asked:
        raise ValueError(f"--replay draws what the record says; leave out {', '.join(asked)}")
    pipe, start = open_pipeline(model, device, dtype), time.perf_counter()
    made = _run(pipe, texts or [], replay, {**_defaults(model), **asked})
    _write(made, out, sheet, record, time.perf_counter() - start, as_json)


def _run(pipe: Any, texts: list[str], replay: Path | None, asked: dict[str, Any]) -> "Composed":
    from saccade.compose import Record
    from saccade.compose import compose as run
    from saccade.compose import replay as again

    with progress_bar() as progress:
        if replay is not None:
            return again(pipe, Record.load(replay), progress=progress)
        return run(pipe, texts=texts, **asked, progress=progress)


def _defaults(model: str) -> dict[str, Any]:
    from saccade.compose import BUNDLED_SETTINGS

    return dict(BUNDLED_SETTINGS) if model == DEFAULT_MODEL else {}


def _each(texts: list[str] | None, read: Any) -> list[Any] | None:
    """One a text, None where there is none."""
    return None if not texts else [None if text == NONE else read(text) for text in texts]


def _apart(texts: list[str] | None) -> dict[int, tuple[int, ...]] | None:
    found: dict[int, tuple[int, ...]] = {}
    for text in texts or []:
        one, colon, other = text.partition(":")
        if not (colon and one.isdecimal() and other.isdecimal()):
            raise ValueError(f"apart '{text}' must read NUMBER:NUMBER, counted from 0, as 0:1")
        found[int(one)] = (*found.get(int(one), ()), int(other))
    return found or None


def _write(made: "Composed", out: Path, sheet: Path | None, record: Path | None, seconds: float, as_json: bool) -> None:
    from saccade.compose import write_sheet

    paths = write_pictures(made.pictures, made.record.request.seeds, out)
    drawn = None if sheet is None else str(write_sheet(made, sheet))
    kept = None if record is None else str(made.record.save(record).resolve())
    if as_json:
        said = {"paths": [str(path.resolve()) for path in paths], "sheet": drawn, "record": kept, "seconds": seconds}
        print_json({**said, "density": made.density, "digests": made.record.digests})
        return
    console().print(
        f"{', '.join(map(str, paths))} in {seconds:.1f} s, {made.density:.0%} of all pairs", highlight=False
    )
    for what, where in (("sheet", drawn), ("record", kept)):
        if where:
            console().print(f"{what} {where}", highlight=False)
