"""Scanpaths compared: as strings of cells or objects, as chains of saccades, by behaviour, and as saliency maps."""

from saccade.metrics.scanpaths.alignment import alignment_score as alignment_score
from saccade.metrics.scanpaths.alignment import levenshtein as levenshtein
from saccade.metrics.scanpaths.alignment import scanmatch as scanmatch
from saccade.metrics.scanpaths.alignment import sequence_score as sequence_score
from saccade.metrics.scanpaths.alignment import string_edit_distance as string_edit_distance
from saccade.metrics.scanpaths.behaviour import Behaviour as Behaviour
from saccade.metrics.scanpaths.behaviour import behaviour as behaviour
from saccade.metrics.scanpaths.behaviour import behaviour_delta as behaviour_delta
from saccade.metrics.scanpaths.behaviour import mean_behaviour as mean_behaviour
from saccade.metrics.scanpaths.clusters import FixationClusters as FixationClusters
from saccade.metrics.scanpaths.clusters import clustered_score as clustered_score
from saccade.metrics.scanpaths.clusters import fixation_clusters as fixation_clusters
from saccade.metrics.scanpaths.maps import auc_judd as auc_judd
from saccade.metrics.scanpaths.maps import cc as cc
from saccade.metrics.scanpaths.maps import fixation_map as fixation_map
from saccade.metrics.scanpaths.maps import kl as kl
from saccade.metrics.scanpaths.maps import next_sim as next_sim
from saccade.metrics.scanpaths.maps import nss as nss
from saccade.metrics.scanpaths.maps import saliency_map as saliency_map
from saccade.metrics.scanpaths.maps import sim as sim
from saccade.metrics.scanpaths.multimatch import MultiMatch as MultiMatch
from saccade.metrics.scanpaths.multimatch import Simplify as Simplify
from saccade.metrics.scanpaths.multimatch import multimatch as multimatch
from saccade.metrics.scanpaths.points import Clipped as Clipped
from saccade.metrics.scanpaths.points import check_points as check_points
from saccade.metrics.scanpaths.points import clipped as clipped
from saccade.metrics.scanpaths.points import grid_cells as grid_cells

__all__ = [
    "Behaviour",
    "Clipped",
    "FixationClusters",
    "MultiMatch",
    "Simplify",
    "alignment_score",
    "auc_judd",
    "behaviour",
    "behaviour_delta",
    "cc",
    "check_points",
    "clipped",
    "clustered_score",
    "fixation_clusters",
    "fixation_map",
    "grid_cells",
    "kl",
    "levenshtein",
    "mean_behaviour",
    "multimatch",
    "next_sim",
    "nss",
    "saliency_map",
    "scanmatch",
    "sequence_score",
    "sim",
    "string_edit_distance",
]
