"""Proxy tokens tell all tokens about the whole, windows see to the detail (PT-DiT, Qihoo-T2X), an architecture.

    paper                             here
    p = (pf, ph, pw), compress ratios      window, in tokens
    proxy compress ratios             inner, sides of the parts of a window that get a proxy each
    averaging, top-left, random       choice: mean, first, random
    GIIM: proxy SA, cross-attention, Z1    `nn.proxy_attention.ProxyInjection`, step "proxies"
    TCM: WSA; SWSA, Z2                `nn.proxy_attention.WindowAttention`, steps "near" and "far"
    T6, T3, temb                      modulation, far_modulation, shared
    the block; the model              `nn.proxy_block.PTDiTBlock`; `models.PTDiT`
    touched pairs, cost               `nn.proxies.mixing_pairs`, `mixing_macs`
A trained PixArt or DiT as a start: `models.pt_dit_conversion`.
Differs: see PAPER.deviations.
"""

from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any, ClassVar

from saccade.core.registry import Paper, system
from saccade.models.pt_dit import PTDiT
from saccade.models.pt_dit_config import PTDiTConfig
from saccade.nn.proxies import Choice, Order, mixing_pairs
from saccade.nn.proxy_attention import Inject
from saccade.nn.proxy_block import STEPS, Step
from saccade.nn.windows import Sizes

PAPER = Paper(
    title="Qihoo-T2X: An Efficient Proxy-Tokenized Diffusion Transformer for Text-to-Any-Task",
    year=2024,
    arxiv="2409.04005",
    bibtex="""@article{wang2024qihoo,
  title   = {Qihoo-T2X: An Efficient Proxy-Tokenized Diffusion Transformer for Text-to-Any-Task},
  author  = {Wang, Jing and Ma, Ao and Feng, Jiasong and Leng, Dawei and Yin, Yuhui and Liang, Xiaodan},
  journal = {arXiv preprint arXiv:2409.04005},
  year    = {2024}
}""",
    claims=(
        "48 % less computation than DiT and 35 % less than PixArt-alpha at equal size",
        "token mixing at 34.4, 9.7 and 4.7 % of full attention's for 256, 1024 and 4096 tokens in 64 windows",
        "1.8B parameters, pictures of 2048 pixels: 82.5 % less computation than Lumina-Next",
        "one architecture for pictures, films and several views",
    ),
    deviations=(
        "each sample has its own modulation; the released code hands out others' where times differ in a batch",
        "parts of a window are contiguous; order='strided' groups tokens as the released code does",
        "positions of grids that are not square are right; swapped=True makes them as the released code does",
        "the mask of shifted windows follows the grid, where the released code keeps its first",
        "random proxies are drawn by a seed in evaluation, alike for all rows and so for both halves of guidance",
        "injection by 'linear' and 'interpolate' is our reading of two ablations that we know by name only",
        "as a mixer of any DiT block all steps share that block's modulation and gate",
        "of 256 tokens a window and 16,384 in all the paper prints 2.3 %; its own formula gives 3.52 %",
        "T2I-1B alone is described in full; the other sizes are not, and no weights were published",
        "VAE and text encoder are not part of it",
    ),
)


@system("pt_dit", paper=PAPER, kind="architecture", seam="model", hosts=("torch",))
@dataclass(frozen=True, kw_only=True)
class ProxyTokens:
    """A few proxies for all tokens, windows and shifted windows in the place of full attention.

    window   sides in tokens: (frames, height, width)
    inner    sides of the parts of a window that get a proxy each; None: the whole window
    choice   a proxy is their mean, the first of them, or one drawn anew
    order    parts are contiguous, or strided as in the released code
    inject   how tokens hear the proxies
    steps    of a block; leaving some out is the paper's ablation
    """

    name: ClassVar[str] = "pt_dit"
    window: Sizes = (1, 8, 8)
    inner: Sizes | None = None
    choice: Choice = "mean"
    order: Order = "contiguous"
    inject: Inject = "cross"
    steps: tuple[Step, ...] = STEPS

    def __post_init__(self) -> None:
        self._config()

    def build(self, **changes: Any) -> PTDiT:
        """A fresh T2I-1B with some of its options changed; see `PTDiTConfig`."""
        return PTDiT(self._config(), **changes)

    def mixer(self) -> str:
        """The same on pictures, as a configuration of any DiT names it."""
        chosen = self.choice if "proxies" in self.steps else "none"
        inner = None if self.inner is None else self.inner[1:]
        return (
            f"proxy(window={self.window[1:]}, proxies='{chosen}', inner={inner}, order='{self.order}', "
            f"inject='{self.inject}', local={'near' in self.steps}, shifted={'far' in self.steps})"
        )

    def pairs(self, grid: Sizes, *, text: int = 0) -> int:
        """Pairs of query and key that a block touches on a grid of tokens (frames, height, width)."""
        proxies = prod(self._config().proxies(0).counts) if "proxies" in self.steps else 0
        windows = len({"near", "far"} & {*self.steps})
        return mixing_pairs(grid, self.window, proxies=proxies, windows=windows, text=text)

    def _config(self) -> PTDiTConfig:
        return replace(PTDiT.sizes["T2I-1B"], **{each.name: getattr(self, each.name) for each in fields(self)})
