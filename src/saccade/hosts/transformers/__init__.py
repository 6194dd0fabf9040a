"""transformers, one file per model family. Importing this imports nothing of transformers itself."""

from saccade.hosts.transformers.bert import BERT, MODERN_BERT
from saccade.hosts.transformers.llama import LLAMA

FAMILIES = (BERT, LLAMA, MODERN_BERT)

__all__ = ["FAMILIES"]
