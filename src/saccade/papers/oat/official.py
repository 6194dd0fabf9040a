"""The released checkpoint's shapes: attention to the encoder has one matrix for queries, keys and values there."""

import torch

from saccade.models.unwrapping import State

CROSS = ".multihead_attn."
PARTS = ("q", "k", "v")
UNUSED = ("generator.", "LinearEmbedding.", "onedpositional_encoding.")  # in released files, and in no forward


def split_projections(state: State) -> State:
    """A matrix for each of the three; unused layers are left out."""
    found: State = {}
    for name, value in state.items():
        head, inside, kind = name.rpartition(f"{CROSS}in_proj_")
        if inside:
            found |= {f"{head}{CROSS}{part}.{kind}": rows for part, rows in zip(PARTS, value.chunk(3), strict=True)}
        elif not name.startswith(UNUSED):
            found[name] = value
    return found


def joined_projections(state: State) -> State:
    """The inverse, in the order of the three."""
    found: State = {}
    for name, value in state.items():
        head, inside, tail = name.partition(f"{CROSS}q.")
        if inside:
            found[f"{head}{CROSS}in_proj_{tail}"] = torch.cat([state[f"{head}{CROSS}{part}.{tail}"] for part in PARTS])
        elif not any(f"{CROSS}{part}." in name for part in PARTS):
            found[name] = value
    return found
