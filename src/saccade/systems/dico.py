"""DiCo, convolutions in place of attention (2025), an architecture: `nn.conv_mixer`, `models.dico`.

    paper                        here
    Conv Module                  nn.conv_mixer.ConvMixer, mixer "dico": enter, depthwise, gate, out
    CCA                          nn.channel_attention.CompactChannelAttention, gate="cca"
    D, L1 .. L5, r               width, depths, ratio of models.dico.DiCoConfig
    c1, c2, c3                   models.dico: time and label, one each for widths D, 2D, 4D
    text-conditional DWC         nn.text_conv.TextConv, models.dico_text
    activation score             analysis.channels

For the module in diffusers' DiT and PixArt see `models.graft`. Source: the paper and its code, shallowdream204/DiCo.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.core.registry import Paper, system
from saccade.models.dico import DiCo, DiCoConfig
from saccade.nn.channel_attention import GATES

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
        "at t = 0 DDPM's loss has the exact normal CDF and end bins from 0.99608 on; the code has a tanh and 0.999: "
        "Ddpm(compat='official')",
        "tokens that are not there count as the outside of the picture; the paper has none",
        "channel self-attention follows Restormer with one head: the paper does not say which it compared",
        "told words (`DiCoText`): residual, norm and condition around the reader of words are ours",
    ),
)


@system("dico", paper=PAPER, kind="architecture", seam="model", hosts=("torch",))
@dataclass(frozen=True, kw_only=True)
class DiCoModel:
    """A U of depthwise convolutions whose channels are gated by what the whole picture holds.

    size      S, B, L, XL or H
    gate      "cca"; "se", "channels" or "none" for comparison
    kernel    side of the depthwise kernels
    channels  of the picture or latent
    classes   of the labels
    """

    name: ClassVar[str] = "dico"
    size: str = "S"
    gate: str = "cca"
    kernel: int = 3
    channels: int = 4
    classes: int = 1000

    def __post_init__(self) -> None:
        if self.size not in DiCo.sizes:
            raise ValueError(f"size='{self.size}' is unknown; choose one of {', '.join(DiCo.sizes)}")
        if self.gate not in GATES:
            raise ValueError(f"gate='{self.gate}' is unknown; choose one of {', '.join(GATES)}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel} must be odd, such as 3, 5 or 7")
        _ = self.config

    @property
    def mixer(self) -> str:
        """As a configuration of any DiT names it."""
        return f"dico(gate='{self.gate}', kernel={self.kernel})"

    @property
    def config(self) -> DiCoConfig:
        """The published size, changed."""
        return replace(DiCo.sizes[self.size], mixer=self.mixer, channels=self.channels, classes=self.classes)

    def build(self) -> DiCo:
        """A fresh model."""
        return DiCo(self.config)
