"""MMFace-DiT, faces from a caption and a mask or a sketch (2026): two streams that share attention.

    paper                              here
    z_t, z_c, concatenated             x, condition["picture"]; see condition
    VAE, its scale                     latents.encode, latents.decoder
    m, E_mod                           condition["modality"], 0 a mask, 1 a sketch; modalities of config
    pooled text, learned null          condition["pooled"], condition.PooledCaption, pooled_drop
    c                                  pooled + time + modality, which modulates every block
    dual-stream block                  joint_attention.JointBlock; its single stream is OneSequenceBlock
    shared RoPE attention              model.joint_rotation, text_positions
    flow, t = 0 is noise, target x1 - x0   objective "flow", `noise_at`; train.objectives.RectifiedFlow(times="uniform")
    diffusion, min-SNR, lambda         objective "ddpm"; train.objectives.Ddpm(snr_limit=5.0)
    guidance s                         guidance of models.ArchitecturePipeline; two scales by runs.denoising

Differs: see PAPER.deviations. Source: the paper and its code, Bharath-K3/MMFace-DiT.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Preset
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.mmface_dit.config import MMFaceDiTConfig as MMFaceDiTConfig
    from saccade.papers.mmface_dit.model import MMFaceDiT as MMFaceDiT

PAPER = Paper(
    title="MMFace-DiT: A Dual-Stream Diffusion Transformer for High-Fidelity Multimodal Face Generation",
    year=2026,
    arxiv="2603.29029",
    bibtex="""@inproceedings{mmfacedit2026,
  title     = {{MMFace-DiT}: A Dual-Stream Diffusion Transformer for High-Fidelity Multimodal Face Generation},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  note      = {arXiv:2603.29029, code: github.com/Bharath-K3/MMFace-DiT},
  year      = {2026}
}""",
    claims=(
        "text and mask, 256 px, CelebA-HQ and FFHQ: FID 16.63 (flow), 27.95 (DDPM), 49.39 (ControlNet); mIoU 50.12",
        "text and sketch: FID 9.14 (flow), 27.67 (DDPM), 40.91 (MM2Latent)",
        "ladder by FID and CLIP score: base 44.52, 24.53; modality embedding 40.49, 24.31; dual stream 35.61, 29.69; "
        "RoPE 33.77, 31.42; 16-channel latents 27.95, 31.69",
    ),
    deviations=(
        "latents of any sides that are multiples of the patch, each patch at its row and column; the code takes the "
        "configured side, and in grids that are not square it would put every patch at (0, 0)",
        "words stand at (0, 0) as in the code, by default; text_positions='sequence' counts them, as the paper says",
        "what is taught is named by the configuration; the code multiplies times by 999 where a batch has none above 1",
        "a condition's picture is asked for, zeros where there is none; a modality that is unknown is refused",
        "min-SNR weights are an option of the objective, with the form for velocities where these are predicted; the "
        "released configurations leave them out",
        "guidance may have a scale for the picture and one for the words; the code guides by words only",
        "the pooled vector is dropped by the model, captions and pictures by the source: all three can be set to 0",
        "there is no 'sparse' attention: the code names it and has none",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="mmface_dit", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:MMFaceDiT"
        ),
    ),
    models=("model",),
    presets={
        "mmface-dit": Preset(
            architecture="MMFaceDiT",
            about="Two streams, on scenes with captions, masks and sketches.",
            options={"channels": 3, "picture_channels": 3, "words_width": 64},
            settings=("source=controlled-scenes", "flow.times=uniform", "train.drop=0.05"),
        )
    },
)
__getattr__, __dir__ = lazily(__name__)
