"""The maps of the released run as a host: two layers whose probabilities are softmax(q k^T) of stored features."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families import Family
from saccade.seam.family import Inputs, Layouts, joint_layouts
from saccade.seam.routes import torch_routes

FOLDER = Path(__file__).resolve().parents[2] / "goldens" / "attencraft"
TOKENS = (4, 6, 0)  # <new1>, <new2>, and the start of the text for the background


def golden(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f"case_{name}.safetensors")


class Attention(nn.Module):
    heads = 1

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, k, scale=1.0)


class StoredMaps(nn.Module):
    """Two cross- and two self-attention layers on grids of 16 x 16 and 32 x 32."""

    def __init__(self) -> None:
        super().__init__()
        self.cross, self.own = (nn.ModuleList([Attention(), Attention()]) for _ in range(2))

    def forward(self, sample: Tensor, features: dict[str, Tensor], keys: list[Tensor]) -> Tensor:
        for i in range(2):
            q = features[f"plain_cross_q{i}"][None, None]
            sample = sample + self.cross[i](q, keys[i][None, None]).sum()
            q, k = (features[f"self_{name}{i}"][None, None] for name in "qk")
            sample = sample + self.own[i](q, k).sum()
        return sample


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    side = 16 if site.kind == "cross" else 32
    image = Layout.image_only((1, side, side))
    return (image, Layout.plain(77)) if site.kind == "cross" else joint_layouts(image)


FAMILY = Family(
    name="stored maps", library="torch", classes=("StoredMaps",), sites={"cross.*": "cross", "own.*": "self"},
    layout=_layout, by_site=True, routes=torch_routes, main_input="sample", text="apart", bind="methods",
)  # fmt: skip
