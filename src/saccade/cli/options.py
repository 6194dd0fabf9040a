"""Options that several commands share. Light to import: torch is loaded when a command runs, not when it is listed."""

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli.checks import positive, usable
from saccade.models import CALLS, PIPELINES

if TYPE_CHECKING:
    from saccade.core.mechanism import System
    from saccade.core.specs import Stack

DEFAULT_MODEL = PIPELINES[0]

AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead")]
Model = Annotated[str, typer.Option(help=f"a diffusers pipeline: a directory, or {', '.join(PIPELINES)}")]
SystemSpecs = Annotated[
    list[str] | None,
    typer.Option("--system", "-s", help="a system or stack, as 'clear(radius=8)' or 'clear:radius=8 + flashbias'"),
]
MoreSystems = Annotated[list[str] | None, typer.Option("--system", "-s", help="run with it too, as clear(radius=8)")]
Replay = Annotated[Path | None, typer.Option(help="draw this record again instead")]
KeepRecord = Annotated[Path | None, typer.Option(help="keep here what was done, for --replay")]
Steps = Annotated[
    int | None, typer.Option(help="denoising steps; without it the pipeline's own default", callback=positive)
]
Height = Annotated[int | None, typer.Option(help="pixels", callback=positive)]
Width = Annotated[int | None, typer.Option(help="pixels", callback=positive)]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...", callback=usable)]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; without it as stored")]
CallOptions = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="name=value for the pipeline's call, as guidance_scale=3.5; may be repeated"),
]


def stacks(specs: list[str] | None) -> "list[Stack]":
    """One stack per `--system`."""
    from saccade.core.specs import parse_stack

    return [parse_stack(spec) for spec in specs or []]


def one_stack(specs: list[str] | None) -> "list[System]":
    """All systems of all `--system` together."""
    return [system for stack in stacks(specs) for system in stack]


def call_options(texts: list[str] | None) -> dict[str, Any]:
    """`name=value` pairs; values are read as literals where they are ones."""
    return dict(_pair(text) for text in texts or [])


def call_arguments(model: str, options: list[str] | None, **given: Any) -> dict[str, Any]:
    """Arguments of a pipeline's call: what suits a bundled model, below what is given and not None.

    Raises ValueError for an option that the pipeline does not take.
    """
    from saccade.pipelines.loading import check_call

    own = call_options(options)
    check_call(model, own)
    return {**CALLS.get(model, {}), **{k: v for k, v in given.items() if v is not None}, **own}


def open_pipeline(model: str, device: str, dtype: str | None) -> Any:
    """The pipeline, ready to call; the CPU's compiled kernel too, so that nothing compiles while it is measured."""
    import torch

    from saccade.ops import warm
    from saccade.pipelines.loading import load_pipeline

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype is not None and dtype not in known:
        raise ValueError(f"dtype='{dtype}' must be one of {', '.join(known)}")
    pipe = load_pipeline(model, device=device, dtype=known.get(dtype or ""))
    if device == "cpu":
        warm()  # where it fails, the report of every site says why
    return pipe


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"option '{text}' must read name=value")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
