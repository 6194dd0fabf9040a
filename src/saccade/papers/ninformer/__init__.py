"""Gate a projection of every token by a small MLP-Mixer that reads them all (NiNformer).

    paper                        here
    MGU, proj, Mixer             gating_unit.MixerGatingUnit, mixer "ninformer(tokens=...)": projection, inner
    token_mix, channel_mix       inner.mix ("token_mlp" of `nn.token_mlp`), inner.ffn, a norm before each
    NiN block, NiNformer         block.NiNBlock, block.NiNStack: one `norm` used twice, `unit`, `ffn`
    d_model, d_ffn, seq_len      width, hidden, tokens; a model derives `tokens` from its side and patch

A gate belongs to places, so a model is for pictures of one size. The baselines are `models.vit.ViT` with the parts
"attention" and "mlp" (ViT), "token_mlp" (MLP-Mixer) and "local_mlp" (Local-ViT). Source: the code,
Abdullah-88/NiNformer, and summaries of the paper; its tables of results were not available to us.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.ninformer.block import NiNBlock as NiNBlock
    from saccade.papers.ninformer.block import NiNStack as NiNStack
    from saccade.papers.ninformer.gating_unit import MixerGatingUnit as MixerGatingUnit
    from saccade.papers.ninformer.model import NiNformer as NiNformer
    from saccade.papers.ninformer.model import NiNformerConfig as NiNformerConfig

PAPER = Paper(
    title="NiNformer: A Network in Network Transformer with Token Mixing Generated Gating Function",
    year=2025,
    arxiv="2403.02411",
    bibtex="""@article{abdullah2025ninformer,
  title   = {{NiNformer}: A Network in Network Transformer with Token Mixing Generated Gating Function},
  author  = {Abdullah, Abdullah Nazhat and Aydin, Tarkan},
  journal = {Neural Computing and Applications},
  year    = {2025}
}""",
    claims=(
        "more accurate than ViT, MLP-Mixer and Local-ViT on MNIST, CIFAR-10 and CIFAR-100; no figures were available",
        "a forward takes only a little longer than MLP-Mixer's",
    ),
    deviations=(
        "the number of tokens is derived from side and patch; the official constructor takes it apart and never checks",
        "held-out pictures are not augmented; the official test loader shifts and mirrors them as in training",
        "another number of tokens, padding, packed and causal sequences are refused",
        "gates 'fourier' (unitary) and 'conv', a bounded or a static gate, and no projection are ours, for comparison",
        "shared_norm=False gives each half of a block its own LayerNorm; no official weights fit that",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="ninformer", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:NiNformer"
        ),
    ),
    models=("model",),
    parts=("gating_unit",),
    comparison={"ninformer": 'DiT(mixer="ninformer")'},
)
__getattr__, __dir__ = lazily(__name__)
