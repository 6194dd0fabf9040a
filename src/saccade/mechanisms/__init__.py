"""Primitives without a paper's name, one file each; systems put them together."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.mechanisms.block_grid import BlockGrid as BlockGrid
    from saccade.mechanisms.frozen_pattern import FrozenPattern as FrozenPattern
    from saccade.mechanisms.key_columns import KeyColumns as KeyColumns
    from saccade.mechanisms.key_positions import KeyPositions as KeyPositions
    from saccade.mechanisms.mutual_columns import MutualColumns as MutualColumns
    from saccade.mechanisms.operand_tape import RecordOperands as RecordOperands
    from saccade.mechanisms.running_columns import RunningColumns as RunningColumns
    from saccade.mechanisms.shared_operands import SharedOperands as SharedOperands
    from saccade.mechanisms.shifted_scores import ShiftedScores as ShiftedScores

__all__ = [
    "BlockGrid",
    "FrozenPattern",
    "KeyColumns",
    "KeyPositions",
    "MutualColumns",
    "RecordOperands",
    "RunningColumns",
    "SharedOperands",
    "ShiftedScores",
]

__getattr__, __dir__ = lazily(__name__)
