"""Weight that heads waste on sinks of the picture, given to the rest of it, while a model answers about it (VAR).

D_sink -> dims                    `known_dims(config)` of published models, `find_sink_dims(model, prompts)` of others
phi(x), tau -> sink_values, tau   a layer's input, before its norm
I_vis, the visual sinks -> image, image & sinks
r, rho -> rho                     share of the picture's weight on no sink; the released code has 1 - rho
p -> take                         share of its weight a sink gives; the released code has 1 - p
Omega -> take * SinkMasses.freed
alpha' -> redistributed           of a map; `SinkRedistribution` does the same in a model, without one
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.visual_sink.dims import SINK_DIMS as SINK_DIMS
    from saccade.papers.visual_sink.dims import find_sink_dims as find_sink_dims
    from saccade.papers.visual_sink.dims import known_dims as known_dims
    from saccade.papers.visual_sink.knockout import Knockout as Knockout
    from saccade.papers.visual_sink.knockout import contributions as contributions
    from saccade.papers.visual_sink.knockout import knocked_out as knocked_out
    from saccade.papers.visual_sink.knockout import share_inside as share_inside
    from saccade.papers.visual_sink.sinks import find_sinks as find_sinks
    from saccade.papers.visual_sink.sinks import highest_share as highest_share
    from saccade.papers.visual_sink.sinks import sink_values as sink_values
    from saccade.papers.visual_sink.system import SinkRedistribution as SinkRedistribution
    from saccade.papers.visual_sink.weights import image_centric as image_centric
    from saccade.papers.visual_sink.weights import masses_of as masses_of
    from saccade.papers.visual_sink.weights import redistributed as redistributed

PAPER = Paper(
    title="See What You Are Told: Visual Attention Sink in Large Multimodal Models",
    year=2025,
    arxiv="2503.03321",
    bibtex="""@inproceedings{kang2025see,
  title     = {See What You Are Told: Visual Attention Sink in Large Multimodal Models},
  author    = {Kang, Seil and Kim, Jinyeong and Kim, Junhyeok and Hwang, Seong Jae},
  booktitle = {International Conference on Learning Representations},
  year      = {2025}
}""",
    claims=(
        "some image tokens receive much attention though they show nothing that matters; massive values in a few "
        "channels of the residual stream mark them, and over 90 % lie on background",
        "without what text takes from them answers stay as good; without as many random image tokens they do not",
        "LLaVA-1.5-7B: GQA 62.0 to 63.5, VizWiz 50.0 to 53.7, MM-Vet 31.1 to 33.7, VQAv2 78.5 to 78.6",
        "moving weight in all heads, chosen or not, breaks the model",
    ),
    deviations=(
        "the released code changes the last layer too, only queries after the picture, and adds 1e-6 for each image "
        "token where it takes the share: compat='official'",
        "the released code keeps the sinks of the first prompt for all later ones, and its channels are always those "
        "of the 7B model; here every prompt has its own, and channels go by the model",
        "several pictures: text after any of them may be changed; the paper and its code have one picture",
        "a prompt in pieces is looked at piece by piece, if of more than one token; what is written is no sink",
        "one request at a time: the sinks kept are those of the last prompt, and a cache of another is refused",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="visual_sink",
            paper=PAPER,
            kind="weight moved between keys",
            seam="call",
            hosts=("llava", "llava_next", "qwen2_vl"),
            make="system:SinkRedistribution",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
