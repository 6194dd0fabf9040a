"""One pipeline for all parts of an experiment. Light to import: torch is loaded when the pipeline is."""

from functools import cache
from typing import Any


@cache
def shared_pipeline(model: str) -> Any:
    """The pipeline of `model`, loaded once in a process, without progress bars of its own."""
    from saccade.pipelines.loading import load_pipeline

    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe
