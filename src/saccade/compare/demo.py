"""What `saccade compare` runs where nothing else is asked for: minutes on two cores, at a size where sparsity pays.

Blocks found from the model's own attention, and a round window with and without distillation. There is no second exact
kernel: it takes longer than all arms together.
"""

from typing import TYPE_CHECKING, Any

from saccade.core.catalogue import lookup

if TYPE_CHECKING:
    from saccade.core.mechanism import System

ARMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sparsed", {"keep": 0.2, "block": 32, "skip": 0.125, "queries": 4}),
    ("clear", {"radius": 8, "distilled": True}),
    ("clear", {"radius": 8}),
)
CALL: dict[str, Any] = {"steps": 20, "height": 256, "width": 256, "batch": 2}  # 1,024 image tokens
OPTIONS = {"max_sequence_length": 32}  # captions have at most 24 words
CAPTIONS, SEED = 16, 7


def systems() -> "list[tuple[System, ...]]":
    """A stack for each arm."""
    return [(lookup(name).load()(**options),) for name, options in ARMS]
