"""`saccade guide`: a picture steered away from a weakened copy of the model, beside the plain one."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saccade.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    CallOptions,
    Device,
    Dtype,
    Height,
    Model,
    MoreSystems,
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
    prompt: Annotated[str, typer.Argument(help="what to draw")],
    head: Annotated[list[str] | None, typer.Option(help="LAYER.HEAD to weaken, from 0; may be repeated")] = None,
    layer: Annotated[list[int] | None, typer.Option(help="all heads of this layer; may be repeated")] = None,
    kind: Annotated[str, typer.Option(help="identity, uniform, query_mean, max or temperature")] = "identity",
    u: Annotated[float, typer.Option(help="how far heads are weakened, in [0, 1]")] = 1.0,
    w: Annotated[list[float] | None, typer.Option(help="strength, 5 by default; repeated: a picture each")] = None,
    tau: Annotated[float, typer.Option(help="of kind temperature")] = 1.0,
    scope: Annotated[str, typer.Option(help="image_block, image_rows or all")] = "image_block",
    model: Model = DEFAULT_MODEL,
    system: MoreSystems = None,
    out: Annotated[Path, typer.Option(help="the steered picture, of the last --w")] = Path("guided.png"),
    sheet: Annotated[Path | None, typer.Option(help="a picture of all, the plain one first")] = None,
    seed: Annotated[int, typer.Option(help="of the noise")] = 0,
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
    from saccade.guide import guide as run

    for file, name in ((out, "out"), (sheet, "sheet")):
        if file is not None:
            check_format(file, name)
    call = call_arguments(model, option, num_inference_steps=steps, height=height, width=width)
    sizes = {name: call.pop(name, None) for name in ("height", "width")}
    heads, pipe, start = [_head(text) for text in head or ()], open_pipeline(model, device, dtype), time.perf_counter()
    with progress_bar() as progress:
        made = run(
            pipe, prompt, heads=heads, layers=layer or (), kind=kind, u=u, w=w or 5.0, tau=tau, scope=scope,  # type: ignore[arg-type]
            seed=seed, steps=call.pop("num_inference_steps", None), options=call, systems=one_stack(system),
            progress=progress, **sizes,
        )  # fmt: skip
    _write(made, out, sheet, time.perf_counter() - start, as_json)


def _head(text: str) -> tuple[int, int]:
    layer, dot, head = text.partition(".")
    if not (dot and layer.isdigit() and head.isdigit()):
        raise ValueError(f"head='{text}' must be LAYER.HEAD, two whole numbers from 0, as 3.1")
    return int(layer), int(head)


def _write(made: "Guided", out: Path, sheet: Path | None, seconds: float, as_json: bool) -> None:
    from saccade.cli.generate import save
    from saccade.metrics import fidelity
    from saccade.ui.sheets import write_rows

    save(list(made.guided.values())[-1], out)
    drawn = None if sheet is None else str(write_rows([made.panels()], sheet, title="saccade guide"))
    apart = {w: fidelity(picture, made.plain).psnr for w, picture in made.guided.items()}
    if as_json:
        from saccade.compare.export import clean

        runs = [{"w": w, "psnr": psnr} for w, psnr in apart.items()]
        print_json(clean({"path": str(out.resolve()), "sheet": drawn, "seconds": seconds, "runs": runs}))
        return
    for w, psnr in apart.items():
        console().print(f"w = {w:g}: {psnr:.1f} dB from the plain picture", highlight=False)
    console().print(f"{out} in {seconds:.1f} s" + (f", sheet {sheet}" if drawn else ""), highlight=False)
