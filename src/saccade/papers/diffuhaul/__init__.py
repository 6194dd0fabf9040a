"""Drag an object of a picture to another place, without training, by a layout-grounded model (DiffUHaul).

P_s, P_d -> source, target   a `Blob` for each object; k -> drag, the one that is moved
m_i -> Blob.on               the ellipse on the grid of each site
allow(h_i, v_p) = m_i(p) -> masked, `BlobRegions`        step 1, in gated self-attention
softmax(Q_d K_s^T) V_s -> share                           step 2
(1 - w_i) f_d + w_i f_s while i < tau -> schedule, tau    step 3, then f_d(p) <- f_s(NN(p)) -> nearest
B, z_t^s = sqrt(abar) z_0 + sqrt(1 - abar) eps -> buckets, fresh_noise    step 4, `haul_photo`
U = dilate(m_k^s | m_k^d) -> dilation, blend              step 5
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.diffuhaul.blobs import Blob as Blob
    from saccade.papers.diffuhaul.drag_scores import DragScores as DragScores
    from saccade.papers.diffuhaul.drag_scores import score_drag as score_drag
    from saccade.papers.diffuhaul.flow_host import FlowHost as FlowHost
    from saccade.papers.diffuhaul.system import DiffUHaul as DiffUHaul
    from saccade.papers.diffuhaul.trajectory import Drag as Drag
    from saccade.papers.diffuhaul.trajectory import haul_generated as haul_generated
    from saccade.papers.diffuhaul.trajectory import haul_photo as haul_photo
    from saccade.papers.diffuhaul.unet_host import UNetHost as UNetHost

PAPER = Paper(
    title="DiffUHaul: A Training-Free Method for Object Dragging in Images",
    year=2024,
    arxiv="2406.01594",
    bibtex="""@inproceedings{avrahami2024diffuhaul,
  title     = {{DiffUHaul}: A Training-Free Method for Object Dragging in Images},
  author    = {Avrahami, Omri and Gal, Rinon and Chechik, Gal and Fried, Ohad and Lischinski, Dani and Vahdat, Arash and
               Nie, Weili},
  booktitle = {SIGGRAPH Asia 2024 Conference Papers},
  note      = {arXiv:2406.01594},
  year      = {2024}
}""",
    claims=(
        "layout-grounded models entangle objects; masking their gated self-attention parts them",
        "better dragging than prior methods, by an automatic evaluation and a study with people",
    ),
    deviations=(
        "no code was released: schedules, tau, buckets, distances and layers are options with defaults of ours",
        "outputs are anchored before the module's last projection; being linear, it commutes with the blend, and the "
        "nearest token is looked for among the heads' outputs",
        "padding of the grounding sees itself alone, so tokens in no blob see the picture alone",
        "on SD pipelines blobs stand for boxes: GLIGEN is the public model of gated self-attention, BlobGEN's weights "
        "are not; a blob's shape may be 'box'",
        "where text and image are one sequence (FLUX, SD3) an object's words stand for its grounding: an extension",
        "where keys hang on places, carry=True moves the object's keys, values and outputs with it: an extension, "
        "without which FLUX draws the source again",
        "generated pictures are blended too, with their source's latents",
        "realism is `saccade.metrics`' FID and KID, not part of the scores here",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="diffuhaul",
            paper=PAPER,
            kind="dragging by shared and anchored attention",
            seam="call",
            hosts=("unet", "gligen", "flux", "sd3"),
            make="system:DiffUHaul",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
