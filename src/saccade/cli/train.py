"""`saccade train`: run a recipe of the library, or go on with a killed one."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

RECIPES = ("scenes-flux",)


def train(
    recipe: Annotated[str, typer.Argument(help=f"one of {', '.join(RECIPES)}")],
    out: Annotated[Path, typer.Option(help="folder of checkpoints, logs, sheets and the finished model")],
    stage: Annotated[
        list[str] | None,
        typer.Option(help="only this stage, such as flow, export or evaluate; may be given several times"),
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="path=value, such as flow.batches=32,8,2")] = None,
    minutes: Annotated[float | None, typer.Option(help="length of the flow stage")] = None,
    steps: Annotated[int | None, typer.Option(help="the same in steps")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; the bits of a result depend on them")] = None,
) -> None:
    """Train a model by its recipe. Repeating the command after a kill goes on with the same final weights."""
    folder = _run(recipe, out, stage or [], _settings(setting or [], minutes, steps), threads)
    Console().print(f"pipeline: {folder}", soft_wrap=True)


def _run(name: str, out: Path, stages: list[str], settings: list[str], threads: int | None) -> Path:
    if name not in RECIPES:
        raise ValueError(f"recipe '{name}' is unknown; choose one of {', '.join(RECIPES)}")
    import torch

    from saccade.train.config import override
    from saccade.train.scenes_flux import STAGES, ScenesFluxRecipe, check_stages

    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])
    if threads is not None:
        torch.set_num_threads(threads)
    return override(ScenesFluxRecipe(), settings).run(out, check_stages(stages) or STAGES)


def _settings(settings: list[str], minutes: float | None, steps: int | None) -> list[str]:
    """`--minutes` and `--steps` as settings of the flow stage; steps alone mean no limit of time."""
    if steps is not None:
        settings = [f"flow.fit.steps={steps}", f"flow.fit.minutes={minutes or 'none'}", *settings]
    elif minutes is not None:
        settings = [f"flow.fit.minutes={minutes}", *settings]
    return settings
