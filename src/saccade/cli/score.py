"""`saccade score`: results of a benchmark on disk, scored."""

from saccade.cli.lazy import Lazy, group


class _Scores(Lazy):
    table = {"pie-bench": "saccade.cli.score_pie_bench:pie_bench"}


app = group(_Scores, "Score pictures made for a benchmark.")
