"""`saccade inspect`: draw a prompt and look at its attention: words over the picture, figures of every head."""

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
    from saccade.inspect import Inspection


def inspect(
    prompt: Annotated[str, typer.Argument(help="what to draw")],
    word: Annotated[list[str] | None, typer.Option("--word", "-w", help="of the prompt; may be repeated")] = None,
    site: Annotated[str, typer.Option(help="pattern of site names to record, as '*single*'")] = "*",
    during: Annotated[str, typer.Option(help="FROM,TO: steps to record, in shares of all")] = "0,1",
    queries: Annotated[int, typer.Option(help="image tokens whose rows tell what heads do; 0 for none")] = 128,
    each_head: Annotated[bool, typer.Option(help="keep words' maps of every head in --arrays")] = False,
    model: Model = DEFAULT_MODEL,
    system: MoreSystems = None,
    out: Annotated[Path, typer.Option(help="the page; one file, .html")] = Path("inspect.html"),
    sheet: Annotated[Path | None, typer.Option(help="the picture and the words' maps on one .png")] = None,
    arrays: Annotated[Path | None, typer.Option(help="all that was recorded, .npz")] = None,
    seed: Annotated[int, typer.Option(help="of the noise")] = 0,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    option: CallOptions = None,
    as_json: AsJson = False,
) -> None:
    """Draw PROMPT and show where its words are, at every site and step, and what sort of head each is. No map of all
    pairs is ever held, and the picture is the one that is drawn without looking."""
    from saccade.core.site import Where
    from saccade.inspect import inspect as run
    from saccade.systems.attention_recorder import ALL_SITES

    _check(out, sheet, arrays)
    where = Where(pattern=site, kinds=ALL_SITES.kinds, during=_span(during))
    call = call_arguments(model, option, num_inference_steps=steps, height=height, width=width)
    sizes = {name: call.pop(name, None) for name in ("height", "width")}
    pipe, start = open_pipeline(model, device, dtype), time.perf_counter()
    with progress_bar() as progress:
        found = run(
            pipe, prompt, words=word or (), queries=queries, each_head=each_head, where=where, seed=seed,
            steps=call.pop("num_inference_steps", None), options=call, systems=one_stack(system), progress=progress,
            **sizes,
        )  # fmt: skip
    _write(found, out, sheet, arrays, time.perf_counter() - start, as_json)


def _check(out: Path, sheet: Path | None, arrays: Path | None) -> None:
    """Before anything is drawn: names end as they must."""
    from saccade.cli.generate import check_format

    for path, name, ending in ((out, "out", ".html"), (arrays, "arrays", ".npz")):
        if path is not None and path.suffix != ending:
            raise ValueError(f"{name}='{path}' must end in {ending}")
    if sheet is not None:
        check_format(sheet, "sheet")


def _span(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"during='{text}' must be FROM,TO, shares of the steps, as 0.2,0.5") from None
    return low, high


def _write(
    found: "Inspection", out: Path, sheet: Path | None, arrays: Path | None, seconds: float, as_json: bool
) -> None:
    from saccade.ui.sheets import write_rows

    written = {"page": found.write_page(out)}
    if sheet is not None:
        written["sheet"] = write_rows([found.panels()], sheet, title="saccade inspect")
    if arrays is not None:
        written["arrays"] = found.save(arrays)
    record, rows = found.record, found.record.heads()
    if as_json:
        named = {name: str(path) for name, path in written.items()}
        print_json({**named, "seconds": seconds, "steps": record.steps, "words": record.words, "heads": rows})
        return
    roles = {row["role"]: sum(other["role"] == row["role"] for other in rows) for row in rows}
    said = ", ".join(f"{count} {role}" for role, count in sorted(roles.items(), key=lambda pair: -pair[1]))
    console().print(f"{len(record.sites)} sites, {len(record.steps)} steps; heads: {said or 'none'}", highlight=False)
    console().print(f"{', '.join(map(str, written.values()))} in {seconds:.1f} s", highlight=False, soft_wrap=True)
