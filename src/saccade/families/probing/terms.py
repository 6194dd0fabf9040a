"""Numbers of a forward as Python: what each is called, and what it comes to here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from saccade.families.probing.perturbing import Path


@dataclass(frozen=True)
class Term:
    """A number: how source says it and its value; of the side of a tensor, which axis, and how long that is whole."""

    text: str
    value: int
    axis: int | None = None
    whole: int = 0

    def over(self, by: "Term", up: bool = False) -> "Term":
        """In parts of so many, the rest dropped or, `up`, counted as one more."""
        if by.text == "1" or by.value < 1:
            return self
        text = f"-(-{self.text} // {by.text})" if up else f"{self.text} // {by.text}"
        return Term(text, -(-self.value // by.value) if up else self.value // by.value, self.axis, self.whole)


ONE = Term("1", 1)


@dataclass(frozen=True, eq=False)
class Scope:
    """What source may read: the model and the arguments, by these names."""

    model: nn.Module
    inputs: Mapping[str, Any]

    def given(self, path: Path) -> Any:
        """An argument."""
        value: Any = self.inputs
        for name in path:
            value = value[name]
        return value

    @property
    def config(self) -> dict[str, Any]:
        """Entries of the model's config."""
        return dict(getattr(self.model, "config", {}))


def called(path: Path) -> str:
    """An argument as source says it."""
    return "inputs" + "".join(f'["{name}"]' for name in path)


def side(name: str, value: Tensor, axis: int) -> Term:
    """How long a tensor is along an axis."""
    return Term(f"{name}.shape[{axis}]", value.shape[axis], axis, value.shape[axis])


def count(scope: Scope, path: Path | None, n: int) -> str:
    """The number of tokens an argument brings; the number itself where nothing else says it."""
    terms = [*(_counts(scope, path) if path else ()), *_entries(scope)]
    return next((term.text for term in terms if term.value == n), str(n))


def _counts(scope: Scope, path: Path) -> Iterator[Term]:
    value, name = scope.given(path), called(path)
    if not isinstance(value, Tensor):
        yield Term(f"max(len(row) for row in {name})", max(len(row) for row in value))
        return
    sides = [side(name, value, i) for i in range(1, value.ndim)]
    yield from sides
    yield from (Term(f"{a.text} * {b.text}", a.value * b.value) for a, b in zip(sides, sides[1:], strict=False))
    for other, mask in scope.inputs.items():
        if isinstance(mask, Tensor) and mask.shape == value.shape[:2]:
            yield Term(f"int({called((other,))}.sum(1).max())", int(mask.sum(1).max()))


def _entries(scope: Scope) -> Iterator[Term]:
    return (
        Term(f"model.config.{k}", v) for k, v in scope.config.items() if type(v) is int and v > 1 and "layer" not in k
    )
