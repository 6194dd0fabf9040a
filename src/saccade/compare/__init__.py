"""Several stacks of systems on one pipeline, measured together: the verb, its values and what they say in figures."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.compare.comparison import Comparison as Comparison
    from saccade.compare.verb import compare as compare

__all__ = ["Comparison", "compare"]

__getattr__, __dir__ = lazily(__name__)
