"""`saccade generate`: one picture or video under a stack of systems."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

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
    SystemSpecs,
    Width,
    call_arguments,
    one_stack,
    open_pipeline,
)
from saccade.cli.printing import console, print_json
from saccade.ui.progress import progress_bar

SHEET_COLUMNS = 9


def generate(
    prompt: Annotated[str, typer.Argument(help="what to draw")],
    model: Model = DEFAULT_MODEL,
    system: SystemSpecs = None,
    out: Annotated[
        Path, typer.Option(help="file to write; its ending says the format: .png, .webp and .gif hold videos too")
    ] = Path("out.png"),
    sheet: Annotated[Path | None, typer.Option(help="file for a sheet of all frames of a video, side by side")] = None,
    seed: Annotated[int, typer.Option(help="of the noise")] = 0,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    frames: Annotated[
        int | None, typer.Option(help="of a video; without it the pipeline's own default", callback=positive)
    ] = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    option: CallOptions = None,
    as_json: AsJson = False,
) -> None:
    """Draw PROMPT with some systems attached, and report what ran at each site. Several --system make one stack."""
    check_format(out)
    if sheet is not None:
        check_format(sheet, "sheet")
    stack = one_stack(system)
    given = call_arguments(model, option, num_inference_steps=steps, height=height, width=width, num_frames=frames)
    if (several := given.get("num_images_per_prompt", 1)) != 1:
        raise ValueError(f"num_images_per_prompt={several} must be 1, since one file is written; give another --seed")
    pipe = open_pipeline(model, device, dtype)
    start = time.perf_counter()
    drawn, report = _draw(pipe, stack, prompt, seed, given)
    save(drawn, out)
    if sheet is not None:
        _save_sheet(drawn, sheet)
    seconds = time.perf_counter() - start
    if as_json:
        print_json({"path": str(out.resolve()), "seconds": seconds, "report": asdict(report)})
        return
    console().print(str(report), highlight=False, soft_wrap=True)
    console().print(f"{out} in {seconds:.1f} s", highlight=False)


def _draw(pipe: Any, stack: list[Any], prompt: str, seed: int, given: dict[str, Any]) -> tuple[Any, Any]:
    """The picture or video (t h w 3), and the report of the run."""
    import torch

    from saccade.attach import attach
    from saccade.metrics.output import pictures
    from saccade.pipelines.progress import step_callback

    noise = torch.Generator("cpu").manual_seed(seed)
    pipe.set_progress_bar_config(disable=True)
    with attach(pipe, *stack, timing=True) as run, progress_bar() as progress:
        drawn = pictures(pipe(prompt, generator=noise, output_type="np", **given, **step_callback(pipe, progress)))
    return drawn[0], run.report()


def check_format(out: Path, name: str = "out") -> None:
    """Before anything is drawn: the format is known and the folder there."""
    from PIL import Image

    if out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{name}='{out}' ends in no picture format; name it .png, .jpg or .webp")
    out.parent.mkdir(parents=True, exist_ok=True)


def save(picture: Any, out: Path) -> None:
    """Write a picture or video (t h w 3)."""
    from PIL import Image

    from saccade.metrics.output import to_bytes

    frames = [Image.fromarray(frame) for frame in to_bytes(picture)]
    video = {"save_all": True, "append_images": frames[1:], "duration": 80, "loop": 0} if len(frames) > 1 else {}
    frames[0].save(out, **video)


def _save_sheet(picture: Any, out: Path) -> None:
    from PIL import Image

    from saccade.metrics.output import to_bytes
    from saccade.train.plots import tile

    frames = to_bytes(picture)
    Image.fromarray(tile([*frames], columns=min(len(frames), SHEET_COLUMNS))).save(out)
