"""`saccade drag`: draw an object of a picture at another place, and draw a record of it again."""

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
    from saccade.drag import Dragged


def drag(
    prompt: Annotated[str | None, typer.Argument(help="what the picture shows, or is to show")] = None,
    picture: Annotated[str | None, typer.Option("--picture", "-i", help="the picture; without it it is drawn")] = None,
    word: Annotated[str | None, typer.Option("--object", "-w", help="words of the prompt that name the object")] = None,
    box: Annotated[str | None, typer.Option("--box", "-b", help="where it is, x0,y0,x1,y1 in shares or pixels")] = None,
    mask: Annotated[str | None, typer.Option(help="picture of the same size, white on the object, instead")] = None,
    to: Annotated[
        str | None, typer.Option("--to", "-t", help="where it goes: x,y of its centre, or x0,y0,x1,y1")
    ] = None,
    other: Annotated[
        list[str] | None, typer.Option(help="another object, as 'blue square=0.1,0.1,0.4,0.4', or its words alone")
    ] = None,
    target_prompt: Annotated[str | None, typer.Option(help="what the result shows, where it is another text")] = None,
    masked: Annotated[bool | None, typer.Option("--masked/--no-masked", help="words see their object alone")] = None,
    tau: Annotated[float | None, typer.Option(help="share of the steps that anchor softly; 0.5")] = None,
    schedule: Annotated[str | None, typer.Option(help="t/T or 1-t/T: the weight of anchoring")] = None,
    carry: Annotated[
        bool | None, typer.Option("--carry/--no-carry", help="the object's keys and values move with it")
    ] = None,
    blend: Annotated[bool | None, typer.Option("--blend/--no-blend", help="keep what is far from both places")] = None,
    buckets: Annotated[int | None, typer.Option(help="of a picture's steps; 10")] = None,
    system: MoreSystems = None,
    replay: Replay = None,
    record: KeepRecord = None,
    model: Model = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="the picture")] = Path("dragged.png"),
    sheet: Annotated[Path | None, typer.Option(help="before, places and after on one .png or .html")] = None,
    seed: Annotated[int | None, typer.Option(help="of the noise")] = None,
    guidance: Annotated[float | None, typer.Option(help="the pipeline's guidance_scale")] = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Draw the picture again with one object at another place (DiffUHaul)."""
    from saccade.cli.generate import check_format

    check_format(out)
    if sheet is not None and sheet.suffix != ".html":
        check_format(sheet, "sheet")
    given = {
        **_object(word, box, mask), "prompt": prompt, "to": None if to is None else corners(to),
        "picture": None if picture is None else open_rgb(picture, "picture"), "others": _others(other),
        "target_prompt": target_prompt, "masked": masked, "tau": tau, "schedule": schedule, "carry": carry,
        "blend": blend, "buckets": buckets, "systems": one_stack(system) or None, "seed": seed, "guidance": guidance,
        "steps": steps, "height": height, "width": width,
    }  # fmt: skip
    asked = {name: value for name, value in given.items() if value is not None}
    _check(asked, replay)
    pipe, start = open_pipeline(model, device, dtype), time.perf_counter()
    made = _run(pipe, replay, {**_defaults(model, "picture" in asked), **asked})
    _write(made, out, sheet, record, time.perf_counter() - start, as_json)


def _object(word: str | None, box: str | None, mask: str | None) -> dict[str, Any]:
    if box is not None and mask is not None:
        raise ValueError("--box and --mask both say where the object is; give one of them")
    if box is None and mask is None:
        return {"object": word}
    return {"object": open_gray(str(mask)) if box is None else corners(box), "word": word}


def _others(texts: list[str] | None) -> dict[str, Any] | None:
    """`words=x0,y0,x1,y1` each, or words alone."""
    if not texts:
        return None
    pairs = (text.partition("=") for text in texts)
    return {words.strip(): corners(box) if box else None for words, _, box in pairs}


def _check(asked: dict[str, Any], replay: Path | None) -> None:
    if replay is not None and asked:
        raise ValueError(f"--replay draws what the record says; leave out {', '.join(asked)}")
    needed = [name for name in ("prompt", "object", "to") if name not in asked]
    if replay is None and needed:
        raise ValueError(
            f"give PROMPT, --object, --box or --mask, and --to; or --replay with a record of them. "
            f"Here {', '.join(needed)} {'is' if len(needed) == 1 else 'are'} missing"
        )


def _run(pipe: Any, replay: Path | None, asked: dict[str, Any]) -> "Dragged":
    from saccade.drag import Record
    from saccade.drag import drag as run
    from saccade.drag import replay as again

    with progress_bar() as progress:
        if replay is not None:
            return again(pipe, Record.load(replay), progress=progress)
        picture, prompt = asked.pop("picture", None), asked.pop("prompt")
        source = {"source": prompt} if picture is None else {"source": picture, "prompt": prompt}
        return run(pipe, **source, **asked, progress=progress)


def _defaults(model: str, pictured: bool) -> dict[str, Any]:
    """What suits the bundled model; a picture has its own size."""
    from saccade.drag import BUNDLED_SETTINGS

    own = dict(BUNDLED_SETTINGS) if model == DEFAULT_MODEL else {}
    return {name: value for name, value in own.items() if not (pictured and name in ("height", "width"))}


def _write(made: "Dragged", out: Path, sheet: Path | None, record: Path | None, seconds: float, as_json: bool) -> None:
    from saccade.drag import write_sheet

    (path,) = write_pictures(made.after, (made.record.request.seed,), out)
    drawn = None if sheet is None else str(write_sheet(made, sheet))
    kept = None if record is None else str(made.record.save(record).resolve())
    if as_json:
        said = {"path": str(path.resolve()), "sheet": drawn, "record": kept, "seconds": seconds}
        places = {"from": made.source.box, "to": made.target.box}
        print_json({**said, **places, "digests": made.record.digests})
        return
    console().print(f"{path} in {seconds:.1f} s", highlight=False)
    for what, where in (("sheet", drawn), ("record", kept)):
        if where:
            console().print(f"{what} {where}", highlight=False)
