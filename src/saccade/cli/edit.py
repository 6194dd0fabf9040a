"""`saccade edit`: change a word of a picture, drawn or given, in rounds, and draw a record of it again."""

import time
from dataclasses import asdict
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
from saccade.cli.printing import console, print_json
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.edit import Edited
    from saccade.metrics import EditScores

SIDE = 64  # pixels the bundled model draws well

Targets = Annotated[
    list[str] | None, typer.Option("--target", "-t", help="what to make of it; again for another round")
]
Words = Annotated[
    list[str] | None,
    typer.Option("--word", "-w", help="of the source: what to edit, one for each --target; 'circle,square' for two"),
]
Strengths = Annotated[
    list[float] | None,
    typer.Option(help="share of the steps that keep the structure: 1 for colour, 0.3 for another object; per --target"),
]

Kind = Annotated[
    str | None,
    typer.Option(help="by layers (FreeFlux): add (--word of the target), reshape, keep (--word of the source)"),
]


def edit(
    source: Annotated[
        str | None, typer.Argument(help="what to draw first; with --picture, what the picture shows")
    ] = None,
    target: Targets = None,
    word: Words = None,
    picture: Annotated[Path | None, typer.Option(help="edit this picture of yours instead")] = None,
    mask: Annotated[Path | None, typer.Option(help="picture, white where to edit, instead of --word")] = None,
    strength: Strengths = None,
    kind: Kind = None,
    by: Annotated[str | None, typer.Option(help="ROWS,COLUMNS: image tokens by which --kind keep moves")] = None,
    layers: Annotated[Path | None, typer.Option(help="scores of saccade probe; without it the last ones known")] = None,
    threshold: Annotated[float | None, typer.Option(help="of a word's map, in [0, 1); higher edits less")] = None,
    model: Model = DEFAULT_MODEL,
    system: MoreSystems = None,
    replay: Replay = None,
    record: KeepRecord = None,
    out: Annotated[Path, typer.Option(help="the edited picture")] = Path("edited.png"),
    sheet: Annotated[Path | None, typer.Option(help="before, after and mask on one .png or .html")] = None,
    seed: Annotated[int | None, typer.Option(help="of the noise")] = None,
    guidance: Annotated[float | None, typer.Option(help="the pipeline's guidance_scale")] = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Edit SOURCE into the target: the word changes, all else stays (ConsistEdit, or a --kind of FreeFlux)."""
    from saccade.cli.generate import check_format

    check_format(out)
    if sheet is not None and sheet.suffix != ".html":
        check_format(sheet, "sheet")
    if (replay is None) == (source is None or not target):
        raise ValueError("give SOURCE and --target of the edit, or --replay with a record of one")
    given = {
        "steps": steps, "threshold": threshold, "guidance": guidance, "height": height, "width": width, "seed": seed,
        "systems": one_stack(system) or None,
    }  # fmt: skip
    said = {name: value for name, value in given.items() if value is not None}
    more = {"source": source, "target": target, "word": word, "picture": picture, "mask": mask, "strength": strength}
    if replay is not None:
        more |= {"kind": kind, "by": by, "layers": layers, **said}
        if asked := [name for name, value in more.items() if value is not None]:
            raise ValueError(f"--replay draws what the record says; leave out {', '.join(asked)}")
    rounds = _rounds(target or [], word, strength)
    first = {"source": source}
    if picture is not None:
        first = {"source": _open(picture, height, width), "prompt": source}
    where = {**({} if mask is None else {"mask": _white(mask)}), **_kind(kind, by, layers, rounds)}
    pipe, start = open_pipeline(model, device, dtype), time.perf_counter()
    edits = (
        _again(pipe, replay) if replay else _run(pipe, rounds, first, {**_defaults(model, picture), **said, **where})
    )
    _write(edits, out, sheet, record, time.perf_counter() - start, as_json)


def _again(pipe: Any, record: Path) -> "tuple[Edited, ...]":
    from saccade.edit import Record, replay

    with progress_bar() as progress:
        return replay(pipe, Record.load(record), progress=progress)


def _run(
    pipe: Any, rounds: list[dict[str, Any]], first: dict[str, Any], common: dict[str, Any]
) -> "tuple[Edited, ...]":
    """Each round goes on from the one before."""
    from saccade.edit import edit as run

    edits: list[Edited] = []
    for number, one in enumerate(rounds):
        begun = first if number == 0 else {"source": edits[-1]}
        with progress_bar() as progress:
            edits.append(run(pipe, **begun, **one, **common, keep=number + 1 < len(rounds), progress=progress))
    return tuple(edits)


def _rounds(targets: list[str], words: list[str] | None, strengths: list[float] | None) -> list[dict[str, Any]]:
    """The arguments of each round."""
    for name, values in (("word", words), ("strength", strengths)):
        if values and len(values) != len(targets):
            raise ValueError(f"--{name} is given {len(values)} times for {len(targets)} targets; give one for each")
    found: list[dict[str, Any]] = [{"target": text} for text in targets]
    for one, given in zip(found, words or (), strict=bool(words)):
        one["word"] = tuple(part.strip() for part in given.split(","))
    for one, share in zip(found, strengths or (), strict=bool(strengths)):
        one["strength"] = share
    return found


def _kind(kind: str | None, by: str | None, layers: Path | None, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The arguments of an edit by layers."""
    from saccade.analysis import LayerScores
    from saccade.papers.freeflux import AddObject, KeepRegion, Reshape

    kinds = {"add": AddObject, "reshape": Reshape, "keep": KeepRegion}
    if kind is None:
        if by or layers:
            raise ValueError("--by and --layers belong to an edit by layers; give --kind add, reshape or keep")
        return {}
    if kind not in kinds:
        raise ValueError(f"kind='{kind}' must be one of {', '.join(kinds)}")
    if len(rounds) > 1:
        raise ValueError(f"kind='{kind}' edits in one round; give one --target")
    if by and kind != "keep":
        raise ValueError(f"by='{by}' moves what is kept; give --kind keep, or leave it out")
    made = KeepRegion(by=_places(by)) if by else kinds[kind]()
    return {"kind": made, **({} if layers is None else {"layers": LayerScores.load(layers)})}


def _places(by: str) -> tuple[int, int]:
    try:
        down, across = (int(part) for part in by.split(","))
    except ValueError:
        raise ValueError(f"by='{by}' must be ROWS,COLUMNS, whole numbers of image tokens, as 0,2") from None
    return down, across


def _defaults(model: str, picture: Path | None) -> dict[str, Any]:
    from saccade.edit import BUNDLED_SETTINGS

    if model != DEFAULT_MODEL:
        return {}
    return {**BUNDLED_SETTINGS, **({"height": SIDE, "width": SIDE} if picture is None else {})}


def _open(path: Path, height: int | None, width: int | None) -> Any:
    """A picture, resized where both sides are asked for."""
    from PIL import Image

    from saccade.data.rgb import open_picture

    opened = open_picture(path, f"picture='{path}'")
    return opened.resize((width, height), Image.Resampling.LANCZOS) if height and width else opened


def _white(path: Path) -> Any:
    """Where a mask is white; what is transparent is not."""
    import numpy as np

    from saccade.data.rgb import BLACK, open_picture

    return np.asarray(open_picture(path, f"mask='{path}'", background=BLACK).convert("L")) > 127


def _write(
    edits: "tuple[Edited, ...]", out: Path, sheet: Path | None, record: Path | None, seconds: float, as_json: bool
) -> None:
    from PIL import Image

    from saccade.edit.sheet import write_sheet
    from saccade.metrics import score_edit
    from saccade.metrics.output import to_bytes

    Image.fromarray(to_bytes(edits[-1].after)[0]).save(out)
    scores = [score_edit(one.before, one.after, one.changed, one.target) for one in edits]
    drawn = None if sheet is None else str(write_sheet(edits, sheet, scores))
    kept = None if record is None else str(edits[-1].record.save(record).resolve())
    rounds = [_scored(one, score) for one, score in zip(edits, scores, strict=True)]
    if as_json:
        said = {"path": str(out.resolve()), "sheet": drawn, "record": kept, "seconds": seconds, "rounds": rounds}
        print_json({**said, "digests": edits[-1].record.digests})
        return
    for one in rounds:
        kept = "" if one["kept_psnr"] is None else f", the rest kept at {one['kept_psnr']:.1f} dB"
        line = f"{one['target']}: {one['edited']:.0%} edited{kept}, edges {one['canny_ssim']:.2f}"
        console().print(line, highlight=False)
    files = "".join(f", {what} {where}" for what, where in (("sheet", sheet), ("record", kept)) if where)
    console().print(f"{out} in {seconds:.1f} s{files}", highlight=False)


def _scored(edited: "Edited", scores: "EditScores") -> dict[str, Any]:
    from saccade.compare.export import clean

    measured = {name: value for name, value in asdict(scores).items() if value is not None}
    share = float(edited.changed.mean())
    return clean({"source": edited.source, "target": edited.target, "edited": share, **measured})
