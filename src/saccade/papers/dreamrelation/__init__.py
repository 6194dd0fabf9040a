"""Learn a relation between two subjects from a few videos, and draw it between others (DreamRelation).

relation LoRA on W_Q, W_K -> set "relation"      subject LoRA on W_V -> "subject1", "subject2"
FFN LoRA -> set "output"                         of the output projections; acts always
forward_lora_name -> active                      of `DreamRelation`; per call by `RelationSwitch.using`
test_lora_names -> ("relation",)                 `RelationLora.merged` folds them into the weights
M -> latent_masks(subject_masks(frames))         lambda_m -> `LossWeights.mask`
A_i, P_i, N_i, tau -> Contrast                   lambda_1 -> `LossWeights.contrast`
subspace similarity -> `subspace_similarity`, `attention_subspaces`
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Recipe
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.dreamrelation.contrast import Contrast as Contrast
    from saccade.papers.dreamrelation.contrast import RelationalContrast as RelationalContrast
    from saccade.papers.dreamrelation.lora import RelationLora as RelationLora
    from saccade.papers.dreamrelation.losses import contrastive_loss as contrastive_loss
    from saccade.papers.dreamrelation.losses import masked_reconstruction as masked_reconstruction
    from saccade.papers.dreamrelation.masks import latent_masks as latent_masks
    from saccade.papers.dreamrelation.masks import read_frames as read_frames
    from saccade.papers.dreamrelation.masks import subject_masks as subject_masks
    from saccade.papers.dreamrelation.placement import Placement as Placement
    from saccade.papers.dreamrelation.recipe import DreamRelationRecipe as DreamRelationRecipe
    from saccade.papers.dreamrelation.subspaces import attention_subspaces as attention_subspaces
    from saccade.papers.dreamrelation.subspaces import subspace_similarity as subspace_similarity
    from saccade.papers.dreamrelation.system import DreamRelation as DreamRelation
    from saccade.papers.dreamrelation.system import RelationSwitch as RelationSwitch

PAPER = Paper(
    title="DreamRelation: Relation-Centric Video Customization",
    year=2025,
    arxiv="2503.07602",
    bibtex="""@inproceedings{wei2025dreamrelation,
  title     = {{DreamRelation}: Relation-Centric Video Customization},
  author    = {Wei, Yujie and Zhang, Shiwei and Yuan, Hangjie and Gong, Biao and Tang, Longxiang and Wang, Xiang and
               Qiu, Haonan and Li, Hengjia and Tan, Shuai and Zhang, Yingya and Shan, Hongming},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year      = {2025}
}""",
    claims=(
        "relation accuracy 0.4452 on 26 relations with Mochi, against 0.3258 of plain LoRA and 0.2623 without training",
        "CLIP-T 0.3248 and temporal consistency 0.9954, at an FVD of 2079.87",
        "each part counts: 0.3574 without masks, 0.3416 without the contrast, 0.3626 without relation LoRA",
        "the relation belongs to queries and keys: 0.4452, against 0.3444 with it on values",
    ),
    deviations=(
        "terms stand beside the projections and no weight is touched; a set that is not active costs nothing and gets "
        "no gradient, where the released layers multiply by 0, so that AdamW still moves it",
        "the error is weighted by the mask, as in the paper; the released code weights by its square: "
        "compat='official'",
        "merging keeps the weights as they were and puts them back bit for bit; released: it subtracts",
        "the contrast is the released form with the cosine; similarity='dot' is what the paper prints, whose logarithm "
        "stands outside the sum",
        "batches above 1: each video meets the bank as the ones before it left it",
        "anchors are taken in order; the released random order does not change their mean",
        "the banks are kept with the checkpoints; released: a training that goes on begins with empty ones",
        "mask frames are sorted by number; the released order is that of names, frame10 before frame2",
        "missing mask frames, new colours and more than two subjects are errors; released: zeros, or ignored",
        "the rate falls linearly after the warm-up, not as a cosine",
        "FLUX's single-stream blocks and HunyuanVideo's have their output projection outside the attention, so the set "
        "'output' has no terms there",
        "the metrics by a vision-language model, CLIP and FVD need weights that are not here; relations of rendered "
        "shapes are judged from their tracked centres",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="dreamrelation",
            paper=PAPER,
            kind="named low-rank terms of a relation",
            seam="call",
            hosts=("mochi", "wan", "cogvideox", "hunyuan_video", "sd3", "flux"),
            make="system:DreamRelation",
        ),
    ),
    recipes={"dreamrelation": Recipe(make="recipe:DreamRelationRecipe")},
)
__getattr__, __dir__ = lazily(__name__)
