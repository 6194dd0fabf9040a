"""What FlashBias gives on a small machine: time and memory, learned tables in vision, ALiBi in a language model.

    python recipes/flashbias.py --out docs/results/flashbias.json
    python recipes/flashbias.py --out docs/results/flashbias.json --only lm

Hardware: one CPU core, about two minutes of it for each part. CIFAR-10 and tiny Shakespeare are read from SACCADE_DATA
(parquet needs pyarrow); without them synthetic scenes stand in. `recipes/flashbias_page.py` puts the figures into the
page docs/papers/flashbias.md.
Expected: factors faster from some thousand tokens on, and memory that grows with n, not n^2; accuracy kept at energy
0.995, with tables so rough after a short training that most heads need more than 16 columns; the same loss dense and
factored, and a worse one with the sign turned round.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flashbias_lm
import flashbias_vit
import torch

from saccade.cli.bench_flashbias import run as timing
from saccade.metrics.machine import device_name, versions
from saccade.ui.progress import Told, progress_bar

Part = Callable[[Told], dict[str, Any]]
LENGTHS = {"alibi": (256, 1024, 4096, 8192), "distance": (256, 1024, 4096, 8192)}
TIMED = [
    {"priors": (prior,), "dtypes": (dtype,), "sizes": sizes, "heads": 1, "repeats": 7, "clock": "wall"}
    for prior, sizes in LENGTHS.items()
    for dtype in ("float32", "bfloat16")
]


def timed(told: Told) -> dict[str, Any]:
    """Dense bias against factors at growing length, on one core."""
    return merged([timing(**options, told=told) for options in TIMED])


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Several measurements as one; what is not a row or a crossover is the last one's."""
    rows = [row for part in parts for row in part["rows"]]
    crossover = {key: n for part in parts for key, n in part["crossover"].items()}
    return {**parts[-1], "rows": rows, "crossover": crossover}


PARTS: dict[str, Part] = {"timing": timed, "vit": flashbias_vit.run, "lm": flashbias_lm.run}


def main() -> None:
    """Run the chosen parts and merge their figures into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file; parts that are not run are kept")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    chosen = parser.parse_args()
    figures = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    torch.set_num_threads(1)
    for name in chosen.only.split(","):
        wall, cpu = time.perf_counter(), time.process_time()
        with progress_bar() as told:
            found = PARTS[name](told)
        spent = {"wall_s": round(time.perf_counter() - wall, 1), "cpu_s": round(time.process_time() - cpu, 1)}
        figures[name] = {**found, "spent": spent, "machine": {"device": device_name("cpu"), **versions()}}
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
