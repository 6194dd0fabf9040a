"""transformers, one file per model family. Importing this imports nothing of transformers itself."""

from saccade.hosts.transformers.bert import BERT, MODERN_BERT
from saccade.hosts.transformers.llama import LLAMA
from saccade.hosts.transformers.llava import LLAVA
from saccade.hosts.transformers.qwen2_vl import QWEN2_VL

FAMILIES = (BERT, LLAMA, LLAVA, MODERN_BERT, QWEN2_VL)

__all__ = ["FAMILIES"]
