"""`saccade bench`: measurements that stand alone, each on the machine at hand."""

from saccade.cli.lazy import Lazy, group


class _Benches(Lazy):
    table = {
        "architectures": "saccade.cli.bench_architectures:architectures",
        "control": "saccade.cli.bench_control:control",
        "gpu": "saccade.cli.bench_gpu:gpu",
        "inspect": "saccade.cli.bench_inspect:inspect",
        "kernels": "saccade.cli.bench_kernels:kernels",
        "languages": "saccade.cli.bench_languages:languages",
        "overhead": "saccade.cli.bench_overhead:overhead",
        "patterns": "saccade.cli.bench_patterns:patterns",
        "systems": "saccade.cli.bench_systems:systems",
    }


app = group(
    _Benches,
    "Measure kernels, block patterns, interception, inspection, control, architectures and language models here.",
)
