"""DiCo, convolutions in place of attention (2025), an architecture: `conv_mixer`, `model`.

    paper                        here
    Conv Module                  conv_mixer.ConvMixer, mixer "dico": enter, depthwise, gate, out
    CCA                          channel_attention.CompactChannelAttention, gate="cca"
    D, L1 .. L5, r               width, depths, ratio of model.DiCoConfig
    c1, c2, c3                   model: time and label, one each for widths D, 2D, 4D
    text-conditional DWC         text_conv.TextConv, text_model
    activation score             channels

For the module in diffusers' DiT and PixArt see `models.replace_attention`. Source: the paper and its code,
shallowdream204/DiCo.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Preset
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.dico.model import DiCo as DiCo
    from saccade.papers.dico.model import DiCoConfig as DiCoConfig
    from saccade.papers.dico.text_model import DiCoText as DiCoText

PAPER = Paper(
    title="DiCo: Revitalizing ConvNets for Scalable and Efficient Diffusion Modeling",
    year=2025,
    arxiv="2505.11196",
    bibtex="""@inproceedings{ai2025dico,
  title     = {{DiCo}: Revitalizing ConvNets for Scalable and Efficient Diffusion Modeling},
  author    = {Ai, Yuang and Fan, Qihang and Hu, Xuefeng and Yang, Zhenheng and He, Ran and Huang, Huaibo},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2025}
}""",
    claims=(
        "ImageNet 256: FID 2.05 (XL) and 1.90 (H) with guidance; 11.67 against 19.47 of DiT-XL/2 after 400K steps",
        "70 to 75 % of the multiply-adds of a DiT of like size, 2.7 times its throughput at 256 pixels, 3.1 at 512",
        "the channel gate lowers FID from 54.78 to 49.97 at size S and leaves fewer channels idle",
    ),
    deviations=(
        "1 x 1 convolutions are matrices over tokens; weights of the official names are reshaped both ways",
        "classes are an option; the official constructors always make 1000",
        "labels are dropped where a batch is made, not inside the model",
        "tokens that are not there count as the outside of the picture; the paper has none",
        "channel self-attention follows Restormer with one head: the paper does not say which it compared",
        "conditioned on words (`DiCoText`): residual, norm and condition around the reader of words are ours",
        "at t = 0 DDPM's loss has the exact normal CDF and end bins from 0.99608 on; the code has a tanh and 0.999: "
        "Ddpm(compat='official')",
    ),
)
OFFERS = Offers(
    entries=(Entry(name="dico", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:DiCo"),),
    models=("model", "text_model"),
    parts=("conv_mixer",),
    presets={
        "dico": Preset(
            architecture="DiCo",
            about="Convolutions only, five levels of one block.",
            options={"width": 32, "depths": (1, 1, 1, 1, 1)},
        )
    },
    comparison={"conv": 'DiT(mixer="dico")', "dico": "DiCo(depths=(1, 1, 2, 1, 1))"},
)
__getattr__, __dir__ = lazily(__name__)
