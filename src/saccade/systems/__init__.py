"""Published systems, one file per paper. Each is a frozen value: to hand to `saccade.attach`, or to `build()`."""

from saccade.systems.clear import Clear as Clear
from saccade.systems.consistedit import ConsistEdit as ConsistEdit
from saccade.systems.dense import Dense as Dense
from saccade.systems.dydila import DyDiLA as DyDiLA
from saccade.systems.flashbias import FlashBias as FlashBias
from saccade.systems.graph_moe import GraphMoE as GraphMoE
from saccade.systems.sparsed import SparseD as SparseD

__all__ = ["Clear", "ConsistEdit", "Dense", "DyDiLA", "FlashBias", "GraphMoE", "SparseD"]
