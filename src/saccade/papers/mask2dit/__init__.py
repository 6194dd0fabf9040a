"""Several scenes in one long video, each by its own caption, and one scene more for a video that is there (Mask²DiT).

T_i, V_i -> labels text_i, video_i     captions in a row and clips one after the other, of one length each
attn_msk_version 2 -> mask="dual"      caption i and clip i see one another; clips see all clips; else nothing
attn_msk_version 5 -> mask="none"      plain joint attention over all of it
L_T (226) -> text_tokens, n -> scenes  n is found from the length of the text where it is not given
clip_idx -> `KnownScenes.holding(clip)`, timestep_conditioning -> times     the other scenes are known
MultiPrompt, Condtional pipelines -> `sample_scenes`, `extend`; `story` slides over more scenes
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Recipe
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.mask2dit.captions import captions_apart as captions_apart
    from saccade.papers.mask2dit.captions import in_a_row as in_a_row
    from saccade.papers.mask2dit.known_scenes import KnownScenes as KnownScenes
    from saccade.papers.mask2dit.known_scenes import token_times as token_times
    from saccade.papers.mask2dit.positions import stretched as stretched
    from saccade.papers.mask2dit.positions import stretched_positions as stretched_positions
    from saccade.papers.mask2dit.sampling import Sampling as Sampling
    from saccade.papers.mask2dit.sampling import Words as Words
    from saccade.papers.mask2dit.sampling import decode as decode
    from saccade.papers.mask2dit.sampling import embed as embed
    from saccade.papers.mask2dit.sampling import encode as encode
    from saccade.papers.mask2dit.sampling import extend as extend
    from saccade.papers.mask2dit.sampling import sample_scenes as sample_scenes
    from saccade.papers.mask2dit.sampling import story as story
    from saccade.papers.mask2dit.scene_mask import count_scores as count_scores
    from saccade.papers.mask2dit.scene_mask import scene_table as scene_table
    from saccade.papers.mask2dit.system import Mask2DiT as Mask2DiT
    from saccade.papers.mask2dit.training import SceneLoss as SceneLoss

PAPER = Paper(
    title="Mask²DiT: Dual Mask-based Diffusion Transformer for Multi-Scene Long Video Generation",
    year=2025,
    arxiv="2503.19881",
    bibtex="""@inproceedings{qi2025mask2dit,
  title     = {{Mask²DiT}: Dual Mask-based Diffusion Transformer for Multi-Scene Long Video Generation},
  author    = {Qi, Tianhao and Yuan, Jianlong and Feng, Wanquan and Fang, Shancheng and Liu, Jiawei and Zhou, SiYu
               and He, Qian and Xie, Hongtao and Zhang, Yongdong},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2025}
}""",
    claims=(
        "against CogVideoX with several prompts: visual consistency 15.94 points higher, sequence consistency 8.63",
        "a caption decides its own scene, and scenes keep one look: of 3 scenes of 49 frames at 480 x 720",
        "a scene is added to a video that is there, whose frames it takes up",
    ),
    deviations=(
        "the mask is a table of verdicts between 2n labels; runs of tokens are attended to densely, as the released "
        "code folds scenes into the batch; its other path gathers an index map of all pairs",
        "padding masks of a host are kept; the released processor prepares them with the length of the text alone",
        "known scenes are exactly clean in sampling as in training; held='noised' of `Sampling` adds the noise of "
        "timestep 0, as the released sampler does",
        "other masks than versions 2 and 5 were not released; mask='block_diagonal' is an ablation of ours",
        "known scenes have a time of their own on CogVideoX, and on Wan by timesteps of tokens; FLUX and HunyuanVideo "
        "have the mask alone",
        "HunyuanVideo's token refiner mixes captions before the mask acts; `captions_apart` folds them into the batch",
        "Wan's video attends to itself densely and to captions under the mask; panels of a picture are scenes along "
        "its rows or columns: extensions",
        "pooled text of HunyuanVideo and FLUX modulates all scenes; no mask parts it",
        "sliding over a story is after the released example, which adds one scene to two",
        "the scores of the paper are from secondary summaries; its tables were not at hand",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="mask2dit",
            paper=PAPER,
            kind="scene masks by caption and clip",
            seam="call",
            hosts=("cogvideox", "hunyuan_video", "flux", "wan"),
            make="system:Mask2DiT",
        ),
    ),
    recipes={"mask2dit": Recipe(make="recipe:Mask2DiTRecipe", stage="stories")},
)
__getattr__, __dir__ = lazily(__name__)
