"""Which positions a transformer favours, from its mask, its positions and its depth (Position bias).

    A^(t), P^(t) = A^(t) ... A^(0) -> maps, `rollout(maps)` of n = t + 1 layers; rows are the tokens asked
    lambda_t -> residual, the share of attention in a layer; `FallingShare` falls with depth
    m, gamma = exp(-m) -> slope, gamma          K, w -> Prefix(length), Window(width); centre nodes -> `centres`
    P^(t)_N. of content all alike -> `front_row`, in layers x n     of a model -> `RolloutRecorder`, `influence`
    T1 ... T6, R1 -> functions of `theory`      SAN, its task -> `SAN`, `Retrieval`

Theorems are as their specification derives them again; tests try each. Rollout follows attention alone: not values,
output projections or feed-forwards. Source: the paper, the released code, and the rollouts of a follow-up (2602.16837).
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.analysis.position_profile import PositionProfile as PositionProfile
    from saccade.analysis.position_profile import position_profile as position_profile
    from saccade.analysis.rollout import FallingShare as FallingShare
    from saccade.analysis.rollout import head_mean as head_mean
    from saccade.analysis.rollout import rollout as rollout
    from saccade.papers.position_bias.drawing import plot_depths as plot_depths
    from saccade.papers.position_bias.front import front_row as front_row
    from saccade.papers.position_bias.gradients import gradient_influence as gradient_influence
    from saccade.papers.position_bias.maps import alibi_slopes as alibi_slopes
    from saccade.papers.position_bias.maps import attention_map as attention_map
    from saccade.papers.position_bias.maps import headed_map as headed_map
    from saccade.papers.position_bias.maps import slope_of as slope_of
    from saccade.papers.position_bias.masks import Causal as Causal
    from saccade.papers.position_bias.masks import Full as Full
    from saccade.papers.position_bias.masks import Prefix as Prefix
    from saccade.papers.position_bias.masks import Window as Window
    from saccade.papers.position_bias.retrieval import Retrieval as Retrieval
    from saccade.papers.position_bias.rotary import rotary_scores as rotary_scores
    from saccade.papers.position_bias.rotary import rotated as rotated
    from saccade.papers.position_bias.rotary import sinusoid as sinusoid
    from saccade.papers.position_bias.san import SAN as SAN
    from saccade.papers.position_bias.san import SANConfig as SANConfig
    from saccade.papers.position_bias.system import RolloutRecorder as RolloutRecorder
    from saccade.papers.position_bias.theory import crossover_depth as crossover_depth
    from saccade.papers.position_bias.theory import peak_distance as peak_distance

PAPER = Paper(
    title="On the Emergence of Position Bias in Transformers",
    year=2025,
    arxiv="2502.01951",
    bibtex="""@inproceedings{wu2025position,
  title     = {On the Emergence of Position Bias in Transformers},
  author    = {Wu, Xinyi and Wang, Yifei and Jegelka, Stefanie and Jadbabaie, Ali},
  booktitle = {International Conference on Machine Learning (ICML)},
  year      = {2025}
}""",
    claims=(
        "under a causal mask attention collapses to the first token with depth; windows slow it, a prefix shares it",
        "decay and rotary positions favour recent tokens in a layer, early ones with depth: the two trade off",
        "trained networks reproduce lost-in-the-middle where answers of the training stood at both ends",
    ),
    deviations=(
        "a rotary base reaches every layer; compat='official' gives it to the first one alone, as released",
        "the residual is off by default as in released runs; its flag there says the opposite of what it does",
        "a single prior on content is for all heads; the follow-up's code gives it to head 0 alone: compat='official'",
        "statements of theorems are as derived again and tried, not quoted; constants are not sharp",
        "masks are boolean; released ones are added as a logarithm",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="position_bias",
            paper=PAPER,
            kind="analysis",
            seam="call",
            hosts=("text", "flux", "sd3"),
            make="system:RolloutRecorder",
        ),
    ),
    models=("san",),
)
__getattr__, __dir__ = lazily(__name__)
