"""Training: one resumable loop (`loop.fit`), its configurations, and the recipes of the bundled models."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.train.architecture import ArchitectureRecipe as ArchitectureRecipe
    from saccade.train.budget_comparison import BudgetComparison as BudgetComparison
    from saccade.train.causal import CausalStage as CausalStage
    from saccade.train.causal import CausalTask as CausalTask
    from saccade.train.causal import held_out_nats as held_out_nats
    from saccade.train.judging import evaluate as evaluate
    from saccade.train.loop import Fit as Fit
    from saccade.train.loop import fit as fit
    from saccade.train.objectives import Ddpm as Ddpm
    from saccade.train.objectives import RectifiedFlow as RectifiedFlow
    from saccade.train.optimisers import Optim as Optim
    from saccade.train.presets import preset as preset
    from saccade.train.records import DivergedError as DivergedError
    from saccade.train.task import Task as Task

__all__ = [
    "ArchitectureRecipe",
    "BudgetComparison",
    "CausalStage",
    "CausalTask",
    "Ddpm",
    "DivergedError",
    "Fit",
    "Optim",
    "RectifiedFlow",
    "Task",
    "evaluate",
    "fit",
    "held_out_nats",
    "preset",
]

__getattr__, __dir__ = lazily(__name__)
