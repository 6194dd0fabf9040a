"""Primitives without a paper's name, one file each; systems put them together."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.mechanisms.block_grid import BlockGrid as BlockGrid
    from saccade.mechanisms.frozen_pattern import FrozenPattern as FrozenPattern
    from saccade.mechanisms.key_columns import KeyColumns as KeyColumns
    from saccade.mechanisms.operand_tape import RecordOperands as RecordOperands

__all__ = [
    "BlockGrid",
    "FrozenPattern",
    "KeyColumns",
    "RecordOperands",
]

__getattr__, __dir__ = lazily(__name__)
