"""Probes of trained models: what their parts do, and when."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.analysis.attention_record import AttentionRecord as AttentionRecord
    from saccade.analysis.attention_record import SiteRecord as SiteRecord
    from saccade.analysis.head_roles import RoleRules as RoleRules
    from saccade.analysis.layer_plot import plot_layers as plot_layers
    from saccade.analysis.layers import LayerScores as LayerScores
    from saccade.analysis.layers import LayerSets as LayerSets
    from saccade.analysis.position_profile import PositionProfile as PositionProfile
    from saccade.analysis.position_profile import position_profile as position_profile
    from saccade.analysis.rollout import FallingShare as FallingShare
    from saccade.analysis.rollout import head_mean as head_mean
    from saccade.analysis.rollout import rollout as rollout
    from saccade.analysis.routing import Usage as Usage
    from saccade.analysis.routing import count_usage as count_usage
    from saccade.analysis.routing import information as information
    from saccade.analysis.routing import load_variation as load_variation
    from saccade.analysis.usage_plot import plot_usage as plot_usage

__all__ = [
    "AttentionRecord",
    "FallingShare",
    "LayerScores",
    "LayerSets",
    "PositionProfile",
    "RoleRules",
    "SiteRecord",
    "Usage",
    "count_usage",
    "head_mean",
    "information",
    "load_variation",
    "plot_layers",
    "plot_usage",
    "position_profile",
    "rollout",
]

__getattr__, __dir__ = lazily(__name__)
