"""Train small decoders of latent attention and experts with Muon, an architecture and an optimiser.

    paper                          here
    Muon, mu, s                    train.muon.Muon: momentum, adjust_lr; train.newton_schulz
    which weights Muon takes       train.parameter_split.split_params, whose result is a table
    MLA, c, r, d_R                 latent_attention.LatentAttention: latent, rope_dim; mixer "latent_attention"
    r_q                            query_latent
    W_D, W_UK, W_UV, W_KR, W_QR    down, up_key, up_value, rope_key, rope_query
    shared and routed experts      nn.moe.MoE: shared, experts, top, norm_topk
    b, gamma                       TopKRouter.offset, offset_rate; nn.moe.balance_offsets_
    MLA from attention             factored.latent_from
    decoder                        model.LatentMoE, on models.CausalLM

Sources: the paper's abstract, those of arXiv 2508.01261 and 2506.09342, and the code of Muon and Moonlight.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.muon_mla_moe.factored import latent_from as latent_from
    from saccade.papers.muon_mla_moe.latent_attention import LatentAttention as LatentAttention
    from saccade.papers.muon_mla_moe.model import LatentMoE as LatentMoE
    from saccade.papers.muon_mla_moe.model import LatentMoEConfig as LatentMoEConfig
    from saccade.papers.muon_mla_moe.model import cache_numbers as cache_numbers
    from saccade.train.muon import Muon as Muon
    from saccade.train.newton_schulz import newton_schulz as newton_schulz
    from saccade.train.newton_schulz import polar as polar
    from saccade.train.parameter_split import split_params as split_params

PAPER = Paper(
    title="Muon: Training and Trade-offs with Latent Attention and MoE",
    year=2025,
    arxiv="2509.24406",
    bibtex="""@article{mehta2025muon,
  title   = {Muon: Training and Trade-offs with Latent Attention and {MoE}},
  author  = {Mehta, Sushant and Dandekar, Raj and Dandekar, Rajat and Panat, Sreedath},
  journal = {arXiv preprint arXiv:2509.24406},
  year    = {2025}
}""",
    claims=(
        "Muon reaches AdamW's loss with 48 to 52 % of its training compute (30M to 200M parameters)",
        "with latent attention and experts: 68 % less memory, 3.2 times the speed, perplexity lower by 8 to 12 %",
        "latent attention with r = d/2 and rotation: 45 % less cache, +0.3 % loss; 2 % better than attention of all "
        "heads, and 3 to 5 % worse without rotation (companion papers)",
        "62 routed experts and two shared: validation loss 6.9 % below a dense decoder with 42 % fewer active weights",
    ),
    deviations=(
        "only abstracts and the optimisers' code were to be had: forms of attention and experts are DeepSeek's, and "
        "depths and widths of the decoders are ours",
        "one latent for keys and values and one key that turns: 68.75 % less cache at d=512, r=256, d_R=64; the "
        "companion with 45 % keeps latents of keys and of values",
        "iterations run in single precision on a CPU; the released codes always take bfloat16 (ns_dtype)",
        "U is divided by max(|U|, eps), as torch does; Jordan's code adds eps",
        "a missing gradient leaves its weight alone and gradients are not written on; Jordan's code makes zeros of the "
        "first, and overwrites the second",
        "the scale of a convolution is that of its filters as rows; Jordan's code takes the window's sides",
        "each matrix of a stack of experts, and each of fused queries, keys and values, is orthogonalised by itself; "
        "fused={} keeps the fused ones whole",
        "routers are AdamW's unless routers=True; Moonlight's rule gives Muon every matrix but embedding and head",
        "shared experts are one feed-forward as wide as all of them: the same sum, but one matrix for Muon",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="muon_mla_moe", paper=PAPER, kind="optimiser and architecture", seam="model", hosts=("torch",),
            make="model:LatentMoE",
        ),
    ),
    models=("model",),
    parts=("latent_attention",),
    languages={"latent_attention": 'CausalLM(mixer="latent_attention")'},
)  # fmt: skip
__getattr__, __dir__ = lazily(__name__)
