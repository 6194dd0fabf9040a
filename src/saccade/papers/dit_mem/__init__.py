"""Give a frozen video model memory: videos retrieved for the prompt, as more keys of every self-attention (DiT-Mem).

DiTMem(x), L -> MemoryEncoder, length     latents of K videos to 2 K L tokens of the model's width
high, low, FreqFilter, W -> branches, FreqFilter, weight     fixed gains on the spectrum of features
M -> MemoryTokens                         distinct tokens, and for how many equal ones each stands (log r on its logit)
zin = LN([x, M]) (1 + sc) + sh -> MemoryKeys     the block's own norm, modulation, projections; no rotation, no queries
bank, top K -> VideoIndex, Bank           nearest captions by inner product, and their latents
training of the encoder -> MemoryLoss, train_encoder
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Recipe
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.dit_mem.bank import Bank as Bank
    from saccade.papers.dit_mem.bank import Retrieved as Retrieved
    from saccade.papers.dit_mem.config import MemoryEncoderConfig as MemoryEncoderConfig
    from saccade.papers.dit_mem.encoder import MemoryEncoder as MemoryEncoder
    from saccade.papers.dit_mem.examples import Examples as Examples
    from saccade.papers.dit_mem.frequency import FreqFilter as FreqFilter
    from saccade.papers.dit_mem.frequency import frequency_weights as frequency_weights
    from saccade.papers.dit_mem.recipe import DiTMemRecipe as DiTMemRecipe
    from saccade.papers.dit_mem.retrieval import Hit as Hit
    from saccade.papers.dit_mem.retrieval import VideoIndex as VideoIndex
    from saccade.papers.dit_mem.retrieval import cls_embedder as cls_embedder
    from saccade.papers.dit_mem.system import DiTMem as DiTMem
    from saccade.papers.dit_mem.tokens import HeldMemory as HeldMemory
    from saccade.papers.dit_mem.tokens import MemoryTokens as MemoryTokens
    from saccade.papers.dit_mem.training import MemoryLoss as MemoryLoss
    from saccade.papers.dit_mem.training import MemoryStage as MemoryStage
    from saccade.papers.dit_mem.training import MemoryTask as MemoryTask
    from saccade.papers.dit_mem.training import train_encoder as train_encoder

PAPER = Paper(
    title="Learning Plug-and-play Memory for Guiding Video Diffusion Models",
    year=2025,
    arxiv="2511.19229",
    bibtex="""@article{song2025learning,
  title   = {Learning Plug-and-play Memory for Guiding Video Diffusion Models},
  author  = {Song, Selena and Xu, Ziming and Zhang, Zijun and Zhou, Kun and Guo, Jiaxian and Qin, Lianhui and
             Huang, Biwei},
  journal = {arXiv preprint arXiv:2511.19229},
  year    = {2025}
}""",
    claims=(
        "videos of Wan2.1 and Wan2.2 follow physical rules better and are more faithful, often beyond strong "
        "commercial systems (PhyGenBench, VBench); the tables were not at hand",
        "about 150 million parameters are trained, on 10,000 videos, the model being frozen",
        "high-pass parts of an embedding carry dynamics and meaning, low-pass parts carry appearance",
    ),
    deviations=(
        "memory tokens ask nothing: their queries are thrown away in the released code and never computed here",
        "equal tokens are one with log r on its logit: at full size the released encoder makes 100 equal tokens of "
        "each video and branch, so that 1000 tokens are 10",
        "frequencies along time and height count by index, as released, which takes low negative ones for the highest; "
        "freq_layout='symmetric' of the encoder counts by size",
        "tokens='grid' and 'fine_grid' make a token of each place, instead of one of all places",
        "the filters' weights are stored with their size; latents of another size are an error, where the released "
        "code draws new weights without a word; `resized` draws them when asked",
        "a filter of one place only is drawn as any other; the released one stays zero",
        "videos are not shuffled in training: no order is seen, so that it would change nothing",
        "the BatchNorms that the released blocks hold and never use are stored and frozen",
        "where tokens have a time each, as in Wan2.2-TI2V, memory has that of the noisiest; the released code fails",
        "missing videos are counted and named; latents of different shapes are an error, where the released code "
        "leaves them out",
        "negative='zeros' is the released code's merged batch; negative='none' hides memory from unconditional rows",
        "the study before it, steering by one band of a reference's features, is left out: its design is unpublished, "
        "and the mean over places of what a high-pass leaves is zero",
        "FLUX, SD3, HunyuanVideo, CogVideoX and LTX: extensions; in joint attention text reads the memory too, under "
        "the modulation of the picture",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="dit_mem",
            paper=PAPER,
            kind="retrieved videos as keys",
            seam="call",
            hosts=("wan", "hunyuan_video", "cogvideox", "ltx", "flux", "sd3"),
            make="system:DiTMem",
        ),
    ),
    models=("encoder",),
    recipes={"dit-mem": Recipe(make="recipe:DiTMemRecipe")},
)
__getattr__, __dir__ = lazily(__name__)
