"""Probes of trained models: what their parts do, and when."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.analysis.layer_plot import plot_layers as plot_layers
    from saccade.analysis.layers import LayerScores as LayerScores
    from saccade.analysis.layers import LayerSets as LayerSets
    from saccade.analysis.routing import Usage as Usage
    from saccade.analysis.routing import count_usage as count_usage
    from saccade.analysis.routing import information as information
    from saccade.analysis.routing import load_variation as load_variation
    from saccade.analysis.usage_plot import plot_usage as plot_usage

__all__ = [
    "LayerScores",
    "LayerSets",
    "Usage",
    "count_usage",
    "information",
    "load_variation",
    "plot_layers",
    "plot_usage",
]

__getattr__, __dir__ = lazily(__name__)
