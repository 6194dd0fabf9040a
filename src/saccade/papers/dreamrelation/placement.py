"""Where the terms of each set stand: which projections of the attention learn the relation, which the subjects.

The letters stand for projections of queries, keys and values, of the picture's stream and of the text's where it has
its own. The output projections have a set of their own, which always acts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

RELATION = "relation"
SUBJECTS = ("subject1", "subject2")
SETS = (RELATION, *SUBJECTS)
OUTPUT = "output"
BY_LETTER: Mapping[str, tuple[str, str]] = {
    "q": ("to_q", "add_q_proj"),
    "k": ("to_k", "add_k_proj"),
    "v": ("to_v", "add_v_proj"),
}
OUTPUTS = ("to_out.0", "to_add_out")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Letters of the relation's and of the subjects' projections; the paper's are "qk" and "v".

    relation  letters of q, k, v, at least one
    subject   likewise; empty for no terms of subjects
    output    whether the output projections have terms, which always act
    Raises ValueError for other letters.
    """

    relation: str = "qk"
    subject: str = "v"
    output: bool = True

    def __post_init__(self) -> None:
        for name, letters in (("relation", self.relation), ("subject", self.subject)):
            if not set(letters) <= set(BY_LETTER) or len(set(letters)) < len(letters):
                raise ValueError(f"{name}='{letters}' must be letters of 'qkv', each once; the paper has 'qk' and 'v'")
        if not self.relation:
            raise ValueError("relation='' leaves nothing to learn the relation; the paper has 'qk'")

    @property
    def paths(self) -> dict[str, tuple[str, ...]]:
        """The projections of each set."""
        found = {RELATION: _paths(self.relation)}
        if self.subject:
            found |= {name: _paths(self.subject) for name in SUBJECTS}
        return found | ({OUTPUT: OUTPUTS} if self.output else {})


def _paths(letters: str) -> tuple[str, ...]:
    return tuple(path for letter in letters for path in BY_LETTER[letter])
