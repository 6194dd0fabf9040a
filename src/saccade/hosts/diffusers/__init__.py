"""diffusers, one file per model family. Importing this imports nothing of diffusers itself."""

from saccade.hosts.diffusers.cogvideox import COGVIDEOX
from saccade.hosts.diffusers.flux import FLUX
from saccade.hosts.diffusers.hunyuan_video import HUNYUAN_VIDEO
from saccade.hosts.diffusers.pixart import DIT, PIXART
from saccade.hosts.diffusers.qwen_image import QWEN_IMAGE
from saccade.hosts.diffusers.sd3 import SD3
from saccade.hosts.diffusers.wan import WAN

FAMILIES = (COGVIDEOX, DIT, FLUX, HUNYUAN_VIDEO, PIXART, QWEN_IMAGE, SD3, WAN)

__all__ = ["FAMILIES"]
