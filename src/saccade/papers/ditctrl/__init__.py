"""One long video of several prompts, and edits by words, by keys and values taken from another row (DiTCtrl).

P_i, L, O, b, m -> `runs.Windows`      prompts, tile, overlap, windows between prompts, extra windows
S, F -> Windows.count, Windows.frames  windows, latent frames
tri, acc / wsum -> `runs.triangle`, `runs.blended`
SDE-DPM++(2M) -> `runs.sde_dpmpp_2m`   any x0-based solver goes with the blending
w(i) -> `runs.rising_guidance`         guidance by sampler step
KV-sharing -> DiTCtrl                  out_t = Attn(q_t, K_s, V_s), text keys and values included
start_step .. end_step -> where.during, or steps; start_layer .. end_layer -> deepest, or layers
F_fore, F_back, M -> words, threshold  mask-guided: one attention whose bias shuts pairs of unlike sides
P[:, tok] *= c -> WordStrength         a word's weight after the softmax, or a bias before it
CSCV -> metrics.cscv, MPVBench -> data.scenes.story
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.ditctrl.system import DiTCtrl as DiTCtrl
    from saccade.papers.ditctrl.system import WordStrength as WordStrength

PAPER = Paper(
    title="DiTCtrl: Exploring Attention Control in Multi-Modal Diffusion Transformer for Tuning-Free Multi-Prompt "
    "Longer Video Generation",
    year=2024,
    arxiv="2412.18597",
    bibtex="""@article{cai2024ditctrl,
  title   = {{DiTCtrl}: Exploring Attention Control in Multi-Modal Diffusion Transformer for Tuning-Free Multi-Prompt Longer Video Generation},
  author  = {Cai, Minghong and Cun, Xiaodong and Li, Xiaoyu and Liu, Wenze and Zhang, Zhaoyang and Zhang, Yong and Shan, Ying and Yue, Xiangyu},
  journal = {arXiv preprint arXiv:2412.18597},
  year    = {2024}
}""",  # noqa: E501
    claims=(
        "CogVideoX-2B on MPVBench: CSCV 84.90, without masks 84.92, without KV-sharing 81.79, isolated prompts 72.37",
        "motion smoothness 97.80, isolated 97.78; text-image similarity 30.68, isolated 32.05",
    ),
    deviations=(
        "shares of layers and steps, a sixth and 4 to 50 %, stand for layers 25 to 29 of 30 and steps 2 to 24 of 50",
        "the two masked attentions are one, with a bias of two columns; nothing n x n is made",
        "maps are watched only in steps that share, and for conditional rows only",
        "where text is apart, masks come from cross-attention, and a query whose side is empty sees all",
        "a source's padding comes with its words",
        "guidance that rises counts sampler steps; rising_guidance(index='official') feeds training timesteps",
        "with embeddings mixed the unconditional one is the pipeline's own for the negative prompt, not zeros",
        "noise is drawn once a step by our solver; the released one draws twice and throws one away",
        "on HunyuanVideo a window between two prompts reads the tokens that are text in either, its pooled text is "
        "mixed, and the distilled model runs without an unconditional branch: an extension",
        "CSCV's formula is after the paper's figures: no code of it was released",
    ),
)
HOSTS = ("cogvideox", "wan", "hunyuan_video", "flux", "sd3", "qwen_image")
OFFERS = Offers(
    entries=(
        Entry(
            name="ditctrl",
            paper=PAPER,
            kind="long videos and edits by shared keys and values",
            seam="call",
            hosts=HOSTS,
            make="system:DiTCtrl",
        ),
        Entry(
            name="word_strength",
            paper=PAPER,
            kind="a word's weight in the attention",
            seam="call",
            hosts=HOSTS,
            make="system:WordStrength",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
