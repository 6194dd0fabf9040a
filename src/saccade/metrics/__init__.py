"""Scores and how far to trust them: of pictures, edits and compositions; paired intervals, time and memory."""

from saccade.metrics.attention_maps import Indicators as Indicators
from saccade.metrics.attention_maps import indicators as indicators
from saccade.metrics.composition import Composite as Composite
from saccade.metrics.composition import CompositionJudges as CompositionJudges
from saccade.metrics.composition import CompositionScores as CompositionScores
from saccade.metrics.composition import question_score as question_score
from saccade.metrics.composition import score_composition as score_composition
from saccade.metrics.edges import canny_ssim as canny_ssim
from saccade.metrics.edges import edges as edges
from saccade.metrics.editing import EditScores as EditScores
from saccade.metrics.editing import Judges as Judges
from saccade.metrics.editing import score_edit as score_edit
from saccade.metrics.editing import structure_distance as structure_distance
from saccade.metrics.editing import summarise_edits as summarise_edits
from saccade.metrics.explanations import average_precision as average_precision
from saccade.metrics.explanations import gradient_importance as gradient_importance
from saccade.metrics.explanations import iou_f1 as iou_f1
from saccade.metrics.explanations import kendall as kendall
from saccade.metrics.explanations import pearson as pearson
from saccade.metrics.explanations import precision_at_k as precision_at_k
from saccade.metrics.fidelity import Fidelity as Fidelity
from saccade.metrics.fidelity import Picture as Picture
from saccade.metrics.fidelity import fidelity as fidelity
from saccade.metrics.fidelity import psnr as psnr
from saccade.metrics.fidelity import ssim as ssim
from saccade.metrics.frechet import Moments as Moments
from saccade.metrics.frechet import Spread as Spread
from saccade.metrics.frechet import discrepancy as discrepancy
from saccade.metrics.frechet import frechet as frechet
from saccade.metrics.frechet import frechet_distance as frechet_distance
from saccade.metrics.frechet import kernel_distance as kernel_distance
from saccade.metrics.intervals import Interval as Interval
from saccade.metrics.intervals import bootstrap as bootstrap
from saccade.metrics.intervals import paired_difference as paired_difference
from saccade.metrics.intervals import paired_ratio as paired_ratio
from saccade.metrics.intervals import share as share
from saccade.metrics.intervals import t_interval as t_interval
from saccade.metrics.language import agreement as agreement
from saccade.metrics.language import masked_bound as masked_bound
from saccade.metrics.language import pseudo_nll as pseudo_nll
from saccade.metrics.manifold import Manifold as Manifold
from saccade.metrics.manifold import manifold as manifold
from saccade.metrics.perceptual import Perceptual as Perceptual
from saccade.metrics.perceptual import perceptual as perceptual
from saccade.metrics.quality import Quality as Quality
from saccade.metrics.quality import quality as quality
from saccade.metrics.regions import Closeness as Closeness
from saccade.metrics.regions import blanked as blanked
from saccade.metrics.regions import within as within
from saccade.metrics.smoothness import cscv as cscv
from saccade.metrics.smoothness import pooled_pixels as pooled_pixels
from saccade.metrics.stopwatch import Measured as Measured
from saccade.metrics.stopwatch import measure as measure

__all__ = [
    "Closeness",
    "Composite",
    "CompositionJudges",
    "CompositionScores",
    "EditScores",
    "Fidelity",
    "Indicators",
    "Interval",
    "Judges",
    "Manifold",
    "Measured",
    "Moments",
    "Perceptual",
    "Picture",
    "Quality",
    "Spread",
    "agreement",
    "average_precision",
    "blanked",
    "bootstrap",
    "canny_ssim",
    "cscv",
    "discrepancy",
    "edges",
    "fidelity",
    "frechet",
    "frechet_distance",
    "gradient_importance",
    "indicators",
    "iou_f1",
    "kendall",
    "kernel_distance",
    "manifold",
    "masked_bound",
    "measure",
    "paired_difference",
    "paired_ratio",
    "pearson",
    "perceptual",
    "pooled_pixels",
    "precision_at_k",
    "pseudo_nll",
    "psnr",
    "quality",
    "question_score",
    "score_composition",
    "score_edit",
    "share",
    "ssim",
    "structure_distance",
    "summarise_edits",
    "t_interval",
    "within",
]
