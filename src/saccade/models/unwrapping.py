"""The weights of a checkpoint, out of what training programs wrap round them: dictionaries, prefixes of names."""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

State = dict[str, Tensor]

WRAPPERS = ("ema", "ema_state_dict", "model_ema", "model", "model_state_dict", "state_dict", "module")
INSERTED = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
COUNTERS = ("n_averaged",)  # what torch's AveragedModel keeps beside the weights


def unwrapped(state: object, known: Collection[str]) -> State:
    """The weights under the names they had before `torch.compile`, DDP, FSDP or an average wrapped the model.

    A dictionary of dictionaries gives its first entry named in `WRAPPERS`: averages before plain weights, as the
    official samplers do. A prefix that all names share is dropped until one of `known` appears.
    Raises ValueError for anything else that is no dictionary of tensors, and for names that coincide without prefix.
    """
    weights = {name: value for name, value in _tensors(state).items() if name not in COUNTERS}
    plain = {name: INSERTED.sub("", name) for name in weights}
    shorter = plain
    while shorter and not any(name in known for name in shorter.values()):
        heads = {name.partition(".")[:2] for name in shorter.values()}
        if len(heads) > 1 or "" in (head := heads.pop()):
            shorter = plain  # nothing known in any case: the names as they are tell more
            break
        shorter = {name: short.removeprefix("".join(head)) for name, short in shorter.items()}
    found: dict[str, str] = {}
    for name, short in shorter.items():
        if short in found:
            raise ValueError(
                f"state holds '{found[short]}' and '{name}', two weights of one name; leave one of them out"
            )
        found[short] = name
    return {short: weights[name] for short, name in found.items()}


def _tensors(state: object) -> Mapping[str, Tensor]:
    """The innermost dictionary, whose values are all tensors."""
    if not isinstance(state, Mapping):
        raise ValueError(
            f"state is a {type(state).__name__}, not a dict of tensors; read the file first, "
            "by torch.load(path, map_location='cpu') or safetensors.torch.load_file(path)"
        )
    if all(isinstance(value, Tensor) for value in state.values()):
        return state
    for name in WRAPPERS:
        if isinstance(state.get(name), Mapping) and state[name]:
            return _tensors(state[name])
    inner = [f"state[{name!r}]" for name, value in state.items() if isinstance(value, Mapping)]
    wrong = [repr(name) for name, value in state.items() if not isinstance(value, Tensor)]
    raise ValueError(
        f"state holds no tensors under {', '.join(wrong[:4])}{', ...' * (len(wrong) > 4)}; "
        f"give the dict of weights alone{', such as ' + inner[0] if inner else ''}"
    )
