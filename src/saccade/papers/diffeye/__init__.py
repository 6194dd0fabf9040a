"""Whole gaze trajectories of many virtual observers of a picture, sampled by diffusion (DiffEye, 2025).

    paper                              here
    R, R_t (L, 2)                      trajectories (b l 2) in [-1, 1]; pixels outside, see `coordinates`
    eps_theta, 1-D U-Net               model.DiffEye, config.DiffEyeConfig
    CPE: P, P'                         corresponding.CorrespondingPositions, for any points and picture
    F: DINOv2, upsampled by FeatUp     encoders: any frozen features that are handed in
    DDIM, guidance                     pipeline.DiffEyePipeline
    metrics                            metrics.trajectories, metrics.scanpaths

Differs: see PAPER.deviations. Source: the paper's abstract and a third party's note of it; its code was not available.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.diffeye.corresponding import CorrespondingPositions as CorrespondingPositions
    from saccade.papers.diffeye.encoders import ColourEdges as ColourEdges
    from saccade.papers.diffeye.encoders import HostTokens as HostTokens
    from saccade.papers.diffeye.model import DiffEye as DiffEye
    from saccade.papers.diffeye.pipeline import DiffEyePipeline as DiffEyePipeline
    from saccade.papers.diffeye.source import GazeSource as GazeSource

PAPER = Paper(
    title="DiffEye: Diffusion-Based Continuous Eye-Tracking Data Generation Conditioned on Natural Images",
    year=2025,
    arxiv="2509.16767",
    bibtex="""@inproceedings{kara2025diffeye,
  title     = {{DiffEye}: Diffusion-Based Continuous Eye-Tracking Data Generation Conditioned on Natural Images},
  author    = {Kara, Ozgur and Nisar, Harris and Rehg, James M.},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2025},
  note      = {arXiv:2509.16767}
}""",
    claims=(
        "MIT1003, mean / best over generated and human scanpaths: Levenshtein 13.009 / 9.709, discrete Fréchet 352.9 / "
        "244.9, DTW 1573 / 1067, TDE 88.661 / 53.486; DeepGaze III, which saw the data, 14.415, 355.3, 1757, 96.456",
        "OSIE, never trained on: Levenshtein 14.771 / 12.077, TDE 81.925 / 54.347; DeepGaze III 15.507, 84.337",
        "TDE on MIT1003 without FeatUp 91.01, without CPE 100.79, without cross-attention in stages 107.96, with a "
        "global feature only 116.23",
        "saliency maps are below those of dedicated saliency models",
    ),
    deviations=(
        "widths, stages, heads and the batch are not known to us; DiffEyeConfig's are chosen",
        "guidance drops the picture for one trajectory in ten and its scale is 2: neither is stated",
        "samples know their number by a sinusoid at the input; counted=False leaves it out",
        "a stage of another width has a grid of positions of its own width, where a projection would learn",
        "positions outside the picture are those of its border; looked up by the nearest pixel, or bilinearly",
        "the null token bears no position: what cannot be seen is nowhere",
        "FeatUp is not there: features are upsampled bilinearly, or by the picture's colours without learning",
        "LooksAtEstimate, positions at the model's own estimate of the trajectory, is ours",
        "DDIM starts at the noisiest step of training and takes even strides from there",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(name="diffeye", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:DiffEye"),
    ),
    models=("model",),
)
__getattr__, __dir__ = lazily(__name__)
