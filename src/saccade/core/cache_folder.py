"""Where what was made once is kept for later runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where compiled kernels and probes of models are kept: $XDG_CACHE_HOME/saccade, by default ~/.cache/saccade."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "saccade"
