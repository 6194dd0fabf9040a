"""`saccade compare`: the main job: a table, a report, and the same as JSON."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    call_options,
    open_pipeline,
    stacks,
)
from saccade.cli.printing import console, print_json
from saccade.compare.demo import DEMOS
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.data.scenes import Prompt, VideoPrompt


def compare(
    model: Model = DEFAULT_MODEL,
    system: SystemSpecs = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="what to draw; may be repeated")] = None,
    prompts: Annotated[
        int | None, typer.Option(help="or this many held-out captions of scenes", callback=positive)
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="of the noise; may be repeated")] = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    batch: Annotated[int | None, typer.Option(help="pictures drawn in one call", callback=positive)] = None,
    repeats: Annotated[
        int | None, typer.Option(help="draw everything this often, for steadier times", callback=positive)
    ] = None,
    floor: Annotated[
        str, typer.Option(help="kernel of a second dense arm, as reference: what exact kernels differ by")
    ] = "none",
    device: Device = "cpu",
    dtype: Dtype = None,
    option: CallOptions = None,
    output: Annotated[Path, typer.Option(help="the report; its JSON lands beside it")] = Path("report.html"),
    as_json: AsJson = False,
) -> None:
    """Compare systems on a pipeline: time, density, fidelity to dense, and whether pictures keep their prompts.

    Without arguments: the bundled model at 256 pixels, held-out captions of one coloured shape, and a few systems.
    """
    from saccade.compare import compare as run
    from saccade.compare.arms import Setup
    from saccade.pipelines.loading import check_call

    demo = DEMOS.get(model, DEMOS[DEFAULT_MODEL])
    found = dict(zip(system, stacks(system), strict=True)) if system else demo.systems()
    texts = scenes(model, prompt, prompts)
    given = {"steps": steps, "height": height, "width": width, "batch": batch, "repeats": repeats}
    defaults, extra = (demo.call, demo.options) if model in DEMOS else ({}, {})
    setup = Setup(
        seeds=tuple(seed or (0,)),
        floor=None if floor == "none" else floor,
        options={**extra, **call_options(option)},
        **{**defaults, **{key: value for key, value in given.items() if value is not None}},
    )
    check_call(model, call_options(option))
    if output.suffix not in ("", ".html", ".htm"):
        raise ValueError(f"output='{output}' is the report, a page; name it .html")
    output.resolve().parent.mkdir(parents=True, exist_ok=True)
    pipe = open_pipeline(model, device, dtype)
    with progress_bar() as progress:
        comparison = run(pipe, found, texts, setup=setup, progress=progress, name=Path(model).name)
    _tell(comparison, output, as_json)


def scenes(model: str, texts: list[str] | None, count: int | None) -> "list[str | Prompt | VideoPrompt]":
    """The prompts asked for; held-out captions where none are given, for models that know them."""
    if texts and count is not None:
        raise ValueError(f"prompts={count} draws captions of scenes; leave it out where --prompt gives texts")
    if texts:
        return list(texts)
    if model not in DEMOS and count is None:
        raise ValueError(f"model='{model}' needs --prompt TEXT, or --prompts N if it knows captions of scenes")
    demo = DEMOS.get(model, DEMOS[DEFAULT_MODEL])
    return list(demo.prompts(demo.captions, count=1) if count is None else demo.prompts(count))


def _tell(comparison: Any, output: Path, as_json: bool) -> None:
    from saccade.compare.export import to_json
    from saccade.ui import table, write_report

    values = to_json(comparison)
    report = write_report(comparison, output)
    beside = report.with_suffix(".json")
    beside.write_text(json.dumps(values, indent=1, allow_nan=False), encoding="utf-8")
    if as_json:
        print_json({**values, "report": str(report)})
        return
    console().print(table(comparison))
    console().print(f"report: {report}\ndata:   {beside}", highlight=False, soft_wrap=True)
