"""`saccade explain`: what a stack would do, site by site, before anything runs."""

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

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

if TYPE_CHECKING:
    from saccade.run.site_plan import SitePlan

STEPS = 28
COLUMNS = ("sites", "steps", "keys", "what holds", "density", "kernel", "why not others")


def explain(
    system: SystemSpecs = None,
    model: Model = DEFAULT_MODEL,
    prompt: Annotated[str, typer.Option(help="its length decides the number of text tokens on some hosts")] = "",
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    option: CallOptions = None,
    as_json: AsJson = False,
) -> None:
    """Show what the systems would do at every attention site: masks, density, kernel, reasons. Nothing is sampled."""
    from saccade.cli.dry_run import dry_run

    stack = tuple(entry for given in stacks(system) for entry in given)
    pipe = open_pipeline(model, device, dtype)
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": steps, "height": height, "width": width, **call_options(option)}
    given = {key: value for key, value in given.items() if value is not None}
    found = dry_run(pipe, stack, lambda: pipe(prompt, output_type="latent", **given), steps or STEPS)
    if as_json:
        print_json([asdict(entry) for entry in found])
    else:
        console().print(sheet(found))


def sheet(found: "list[SitePlan]") -> Table:
    """Neighbouring sites with the same description share a row."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in COLUMNS:
        table.add_column(title, overflow="fold", justify="right" if title == "density" else "left")
    for _, entries in groupby(_by_phase(found), key=_same):
        table.add_row(*map(Text, _row(list(entries))))
    return table


def _by_phase(found: "list[SitePlan]") -> "list[SitePlan]":
    return sorted(found, key=lambda entry: entry.first)


def _same(entry: "SitePlan") -> tuple[object, ...]:
    return entry.kind, entry.first, entry.last, entry.tokens, entry.does, entry.density, entry.kernel, entry.reasons


def _row(entries: "list[SitePlan]") -> tuple[str, ...]:
    one, names = entries[0], [entry.site for entry in entries]
    sites = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)})"
    density = "by content" if one.density is None else f"{one.density:.3f}"
    return (
        f"{sites}, {one.kind}",
        f"{one.first}-{one.last}",
        one.tokens,
        "\n".join(one.does) or "dense",
        density,
        one.kernel,
        "\n".join(one.reasons),
    )
