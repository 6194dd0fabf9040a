"""`saccade train`: run a recipe of the library, or go on with a killed one."""

import logging
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from saccade.cli.checks import positive
from saccade.core.catalogue import Recipe, presets, recipes

OWN = {
    "scenes-flux": Recipe(make="scenes_flux:ScenesFluxRecipe", stage="flow", door="saccade.train"),
    "scenes-wan": Recipe(make="scenes_wan:ScenesWanRecipe", stage="flow", door="saccade.train"),
    "shakespeare-lm": Recipe(make="shakespeare:ShakespeareRecipe", door="saccade.train"),
    "classifier": Recipe(make="classifier:ClassifierRecipe", door="saccade.train"),
    **recipes(),
}
PRESETS = ("dit", *presets())  # small recipes of architectures
RECIPES = (*OWN, *PRESETS)


def train(
    recipe: Annotated[str, typer.Argument(help=f"one of {', '.join(RECIPES)}")],
    out: Annotated[Path, typer.Option(help="folder of checkpoints, logs, sheets and the finished model")],
    stage: Annotated[
        list[str] | None,
        typer.Option(help="only this stage, such as flow, export or evaluate; may be given several times"),
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="path=value, such as flow.batches=32,8,2")] = None,
    minutes: Annotated[float | None, typer.Option(help="length of the main stage: flow, or train")] = None,
    steps: Annotated[int | None, typer.Option(help="the same in steps", callback=positive)] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; the bits of a result depend on them", callback=positive)
    ] = None,
) -> None:
    """Train a model by its recipe. Repeating the command after a kill goes on with the same final weights."""
    if recipe not in RECIPES:
        raise ValueError(f"recipe '{recipe}' is unknown; choose one of {', '.join(RECIPES)}")
    settings = _settings(setting or [], OWN[recipe].stage if recipe in OWN else "train", minutes, steps)
    folder = _run(recipe, out, stage or [], settings, threads)
    if _is_main():
        Console().print(f"model: {folder}", soft_wrap=True)


def _run(name: str, out: Path, stages: list[str], settings: list[str], threads: int | None) -> Path:
    import torch

    from saccade.train.config import check_stages, override

    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])
    if threads is not None:
        torch.set_num_threads(threads)
    module = import_module(OWN[name].module if name in OWN else "saccade.train.presets")
    recipe = getattr(module, OWN[name].make.partition(":")[2])() if name in OWN else module.preset(name)
    return override(recipe, settings).run(out, check_stages(stages, module.STAGES) or module.STAGES)


def _is_main() -> bool:
    from saccade.train.launching import process

    return process().is_main_process


def _settings(settings: list[str], stage: str, minutes: float | None, steps: int | None) -> list[str]:
    """`--minutes` and `--steps` as settings of the main stage; steps alone mean no limit of time."""
    if steps is not None:
        settings = [f"{stage}.fit.steps={steps}", f"{stage}.fit.minutes={minutes or 'none'}", *settings]
    elif minutes is not None:
        settings = [f"{stage}.fit.minutes={minutes}", *settings]
    return settings
