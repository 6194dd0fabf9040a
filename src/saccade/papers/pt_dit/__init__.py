"""Proxy tokens tell all tokens about the whole, windows see to the detail (PT-DiT, Qihoo-T2X), an architecture.

    paper                             here
    p = (pf, ph, pw), compress ratios      window, in tokens
    proxy compress ratios             inner, sides of the parts of a window that get a proxy each
    averaging, top-left, random       choice: mean, first, random
    GIIM: proxy SA, cross-attention, Z1    `proxy_attention.ProxyInjection`, step "proxies"
    TCM: WSA; SWSA, Z2                `proxy_attention.WindowAttention`, steps "near" and "far"
    T6, T3, temb                      modulation, far_modulation, shared
    the block; the model              `proxy_block.PTDiTBlock`; `models.PTDiT`
    touched pairs, cost               `proxies.mixing_pairs`, `mixing_macs`
A trained PixArt or DiT as a start: `conversion`.
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.pt_dit.config import PTDiTConfig as PTDiTConfig
    from saccade.papers.pt_dit.model import PTDiT as PTDiT

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
        "one architecture for pictures, videos and several views",
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
OFFERS = Offers(
    entries=(
        Entry(name="pt_dit", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:PTDiT"),
    ),
    models=("model",),
    parts=("proxy_attention",),
    comparison={"proxy": 'DiT(mixer="proxy(window=(2, 2))")', "pt_dit": "PTDiT(window=(1, 2, 2))"},
)
__getattr__, __dir__ = lazily(__name__)
