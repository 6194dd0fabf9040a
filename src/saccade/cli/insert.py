"""`saccade insert`: put the subject of one picture into another, and draw a record of it again."""

import time
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
    from saccade.insert import Inserted


def insert(
    subject: Annotated[
        str | None, typer.Argument(help="picture of the subject, on white or with --subject-mask")
    ] = None,
    into: Annotated[str | None, typer.Argument(help="picture it goes into")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="what the result shows")] = None,
    mask: Annotated[str | None, typer.Option(help="picture of INTO's size, white where the subject goes")] = None,
    box: Annotated[str | None, typer.Option("--box", "-b", help="x0,y0,x1,y1 in shares or pixels, instead")] = None,
    subject_mask: Annotated[str | None, typer.Option(help="picture of SUBJECT's size, white on the subject")] = None,
    alpha_text: Annotated[float | None, typer.Option(help="how much more of the text, at least -1; 0.3")] = None,
    alpha_demo: Annotated[float | None, typer.Option(help="how much more of the subject, at least -1; 0.3")] = None,
    beta: Annotated[float | None, typer.Option(help="how much heads that read the text are raised; 0.2")] = None,
    compat: Annotated[str | None, typer.Option(help="official: as the released code has it")] = None,
    blend: Annotated[
        bool | None, typer.Option("--blend/--no-blend", help="keep what lies outside the mask, after every step")
    ] = None,
    words: Annotated[str | None, typer.Option(help="all or real: without the text's padding")] = None,
    system: MoreSystems = None,
    replay: Replay = None,
    record: KeepRecord = None,
    model: Model = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="the picture; with several seeds their numbers are put in")] = Path(
        "inserted.png"
    ),
    sheet: Annotated[Path | None, typer.Option(help="subject, place and pictures on one .png or .html")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="of the noise; again for another picture")] = None,
    guidance: Annotated[float | None, typer.Option(help="the pipeline's guidance_scale")] = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Draw SUBJECT into the masked place of INTO as the prompt describes the result (In-Context Brush)."""
    from saccade.cli.generate import check_format

    check_format(out)
    if sheet is not None and sheet.suffix != ".html":
        check_format(sheet, "sheet")
    given = {
        **_pictures(subject, into, mask, box, subject_mask), "prompt": prompt, "alpha_text": alpha_text,
        "alpha_demo": alpha_demo, "beta": beta, "compat": compat, "blend": blend, "words": words,
        "systems": one_stack(system) or None, "seeds": seed, "guidance": guidance,
        "steps": steps, "height": height, "width": width,
    }  # fmt: skip
    asked = {name: value for name, value in given.items() if value is not None}
    _check(asked, replay)
    pipe, start = open_pipeline(model, device, dtype), time.perf_counter()
    made = _run(pipe, replay, {**_defaults(model), **asked})
    _write(made, out, sheet, record, time.perf_counter() - start, as_json)


def _pictures(
    subject: str | None, into: str | None, mask: str | None, box: str | None, subject_mask: str | None
) -> dict[str, Any]:
    if mask is not None and box is not None:
        raise ValueError("--mask and --box both say where the subject goes; give one of them")
    place = None if mask is None else open_gray(mask)
    return {
        "subject": None if subject is None else open_rgb(subject, "subject"),
        "into": None if into is None else open_rgb(into, "into"),
        "mask": place if box is None else corners(box),
        "subject_mask": None if subject_mask is None else open_gray(subject_mask, "subject_mask"),
    }


def _check(asked: dict[str, Any], replay: Path | None) -> None:
    if replay is not None and asked:
        raise ValueError(f"--replay draws what the record says; leave out {', '.join(asked)}")
    needed = [name for name in ("subject", "into", "prompt", "mask") if name not in asked]
    if replay is None and needed:
        raise ValueError(
            f"give SUBJECT and INTO, --prompt, and --mask or --box; or --replay with a record of them. "
            f"Here {', '.join(needed)} {'is' if len(needed) == 1 else 'are'} missing"
        )


def _run(pipe: Any, replay: Path | None, asked: dict[str, Any]) -> "Inserted":
    from saccade.insert import Record
    from saccade.insert import insert as run
    from saccade.insert import replay as again

    with progress_bar() as progress:
        if replay is not None:
            return again(pipe, Record.load(replay), progress=progress)
        return run(pipe, **asked, progress=progress)


def _defaults(model: str) -> dict[str, Any]:
    from saccade.insert import BUNDLED_SETTINGS

    return dict(BUNDLED_SETTINGS) if model == DEFAULT_MODEL else {}


def _write(made: "Inserted", out: Path, sheet: Path | None, record: Path | None, seconds: float, as_json: bool) -> None:
    from saccade.insert import write_sheet

    paths = write_pictures(made.pictures, made.record.request.seeds, out)
    drawn = None if sheet is None else str(write_sheet(made, sheet))
    kept = None if record is None else str(made.record.save(record).resolve())
    if as_json:
        said = {"paths": [str(path.resolve()) for path in paths], "sheet": drawn, "record": kept, "seconds": seconds}
        print_json({**said, "density": made.density, "digests": made.record.digests})
        return
    console().print(f"{', '.join(map(str, paths))} in {seconds:.1f} s", highlight=False)
    for what, where in (("sheet", drawn), ("record", kept)):
        if where:
            console().print(f"{what} {where}", highlight=False)
