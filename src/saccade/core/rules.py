"""The algebra of masks itself: pairs (names, permits) of predicates, of token pairs and of whole blocks alike."""

from typing import Any


def allowed(rule: Any) -> Any:
    """Pairs that pass: not named, or permitted."""
    names, permits = rule

    def open_pairs(*at: Any) -> Any:
        return ~names(*at) | permits(*at)

    return open_pairs


def conjoin(a: Any, b: Any) -> Any:
    """Pairs pass if both let them pass."""
    open_a, open_b = allowed(a), allowed(b)

    def names(*at: Any) -> Any:
        return a[0](*at) | b[0](*at)

    def permits(*at: Any) -> Any:
        return open_a(*at) & open_b(*at)

    return names, permits


def disjoin(a: Any, b: Any) -> Any:
    """Pairs pass if either lets them pass."""

    def names(*at: Any) -> Any:
        return a[0](*at) & b[0](*at)

    def permits(*at: Any) -> Any:
        return a[1](*at) | b[1](*at)

    return names, permits


def opposite(rule: Any) -> Any:
    """The same names, with the contrary permits."""

    def permits(*at: Any) -> Any:
        return ~rule[1](*at)

    return rule[0], permits
