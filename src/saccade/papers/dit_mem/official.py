"""Names of the released checkpoints; each holds the two blocks of a branch twice, the second time in a list."""

import re

import torch

from saccade.models.checkpoint_names import Names
from saccade.models.unwrapping import State

PARTS = (
    ("conv.", "conv."),
    ("filter.weight", "fft_filter.complex_weight"),
    ("filter.norm.", "fft_filter.norm."),
    ("unused.", "bn."),
)
NAMES: Names = (
    *(
        (f"branches.{band}.block{i}.{ours}", f"{band}_pass_module.conv_block{i}.{theirs}")
        for band in ("high", "low")
        for i in (1, 2)
        for ours, theirs in PARTS
    ),
    *((f"branches.{band}.proj.", f"{band}_pass_module.feature_proj.") for band in ("high", "low")),
    ("attention.", "self_attention."),
)
REPEAT = re.compile(r"(\w+_pass_module\.)cnn\.([01])\.")


def without_repeats(state: State) -> State:
    """One of each weight.

    Raises ValueError where the two copies of a weight differ.
    """
    found = {name: value for name, value in state.items() if not REPEAT.match(name)}
    for name in state.keys() - found.keys():
        first = REPEAT.sub(lambda match: f"{match[1]}conv_block{int(match[2]) + 1}.", name)
        if first in found and not torch.equal(found[first], state[name]):
            raise ValueError(f"'{first}' and '{name}' are one weight and differ in this file; remove the wrong one")
        found.setdefault(first, state[name])
    return found


def repeated(state: State) -> State:
    """The second copy of each block."""
    found: State = {}
    for name, value in state.items():
        if match := re.match(r"(\w+_pass_module\.)conv_block([12])\.(.*)", name):
            found[f"{match[1]}cnn.{int(match[2]) - 1}.{match[3]}"] = value
    return found
