"""`saccade guide`: a picture steered away from a weakened copy of the model, and a record of it drawn again."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    CallOptions,
    Device,
    Dtype,
    Height,
    KeepRecord,
    Model,
    MoreSystems,
    Replay,
    Steps,
    Width,
    call_arguments,
    one_stack,
    open_pipeline,
)
from saccade.cli.printing import console, print_json
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.guide import Guided


def guide(
    prompt: Annotated[str | None, typer.Argument(help="what to draw")] = None,
    head: Annotated[list[str] | None, typer.Option(help="LAYER.HEAD to weaken, from 0; may be repeated")] = None,
    layer: Annotated[list[int] | None, typer.Option(help="all heads of this layer; may be repeated")] = None,
    kind: Annotated[str | None, typer.Option(help="identity, uniform, query_mean, max or temperature")] = None,
    u: Annotated[float | None, typer.Option(help="how far heads are weakened, in [0, 1]")] = None,
    w: Annotated[list[float] | None, typer.Option(help="strength, 5 by default; repeated: a picture each")] = None,
    tau: Annotated[float | None, typer.Option(help="of kind temperature")] = None,
    scope: Annotated[str | None, typer.Option(help="image_block, image_rows or all")] = None,
    model: Model = DEFAULT_MODEL,
    system: MoreSystems = None,
    replay: Replay = None,
    record: KeepRecord = None,
    out: Annotated[Path, typer.Option(help="the steered picture, of the last --w")] = Path("guided.png"),
    sheet: Annotated[Path | None, typer.Option(help="a picture of all, the plain one first")] = None,
    seed: Annotated[int | None, typer.Option(help="of the noise")] = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    option: CallOptions = None,
    as_json: AsJson = False,
) -> None:
    """Draw PROMPT steered away from a copy of the model with some attention heads weakened (SoftPAG)."""
    from saccade.cli.generate import check_format

    for file, name in ((out, "out"), (sheet, "sheet")):
        if file is not None:
            check_format(file, name)
    if (replay is None) == (prompt is None):
        raise ValueError("give a PROMPT to draw, or --replay with a record of one")
    given = {
        "heads": [_head(text) for text in head or ()] or None, "layers": layer, "kind": kind, "u": u, "w": w,
        "tau": tau, "scope": scope, "seed": seed, "systems": one_stack(system) or None,
    }  # fmt: skip
    asked = {name: value for name, value in given.items() if value is not None}
    sizes = {"num_inference_steps": steps, "height": height, "width": width}
    if replay is not None:
        if said := [*asked, *(name for name, value in {**sizes, "option": option}.items() if value)]:
            raise ValueError(f"--replay draws what the record says; leave out {', '.join(said)}")
    call = {} if replay else _call(model, option, sizes)
    pipe, start = open_pipeline(model, device, dtype), time.perf_counter()
    made = _run(pipe, prompt, replay, {**asked, **call})
    _write(made, out, sheet, record, time.perf_counter() - start, as_json)


def _call(model: str, option: list[str] | None, sizes: dict[str, int | None]) -> dict[str, Any]:
    """Arguments of the verb, those of the pipeline's call among its options."""
    options = call_arguments(model, option, **sizes)
    own = {name: options.pop(name, None) for name in ("height", "width")}
    return {**own, "steps": options.pop("num_inference_steps", None), "options": options}


def _run(pipe: Any, prompt: str | None, replay: Path | None, asked: dict[str, Any]) -> "Guided":
    from saccade.guide import Record
    from saccade.guide import guide as run
    from saccade.guide import replay as again

    with progress_bar() as progress:
        if replay is not None:
            return again(pipe, Record.load(replay), progress=progress)
        return run(pipe, str(prompt), **asked, progress=progress)


def _head(text: str) -> tuple[int, int]:
    layer, dot, head = text.partition(".")
    if not (dot and layer.isdigit() and head.isdigit()):
        raise ValueError(f"head='{text}' must be LAYER.HEAD, two whole numbers from 0, as 3.1")
    return int(layer), int(head)


def _write(made: "Guided", out: Path, sheet: Path | None, record: Path | None, seconds: float, as_json: bool) -> None:
    from saccade.cli.generate import save
    from saccade.metrics import fidelity
    from saccade.ui.sheets import write_rows

    save(list(made.guided.values())[-1], out)
    drawn = None if sheet is None else str(write_rows([made.panels()], sheet, title="saccade guide"))
    kept = None if record is None else str(made.record.save(record).resolve())
    apart = {w: fidelity(picture, made.plain).psnr for w, picture in made.guided.items()}
    if as_json:
        from saccade.compare.export import clean

        runs = [{"w": w, "psnr": psnr} for w, psnr in apart.items()]
        said = {"path": str(out.resolve()), "sheet": drawn, "record": kept, "seconds": seconds, "runs": runs}
        print_json(clean({**said, "digests": made.record.digests}))
        return
    for w, psnr in apart.items():
        console().print(f"w = {w:g}: {psnr:.1f} dB from the plain picture", highlight=False)
    files = "".join(f", {what} {where}" for what, where in (("sheet", sheet), ("record", kept)) if where)
    console().print(f"{out} in {seconds:.1f} s{files}", highlight=False)
