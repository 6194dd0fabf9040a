"""A pipeline's own progress bars, off while ours tell how far it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def no_progress_bar(pipe: Any) -> Iterator[None]:
    """The pipeline's own progress bars off; put back as they were."""
    before = dict(getattr(pipe, "_progress_bar_config", {}))
    pipe.set_progress_bar_config(**{**before, "disable": True})
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**before)
