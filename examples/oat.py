"""Train a toy OAT on shelves somebody searched; compare searches of unseen shelves, and draw one; half a minute.

python examples/oat.py
"""

from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from saccade.papers.oat.shelf_run import Searched, ShelfRun, foretold, judged, sampled, trained
from saccade.papers.oat.shelves import nearest_first
from saccade.ui.scanpaths import scanpath_figure

folder = Path(mkdtemp())
run = ShelfRun(trained=100, judged=10, trials=3, width=48, depth=1, steps=60)
rng = np.random.default_rng(0)
seen, held = (Searched.made(count, run.trials, run.grid, rng) for count in (run.trained, run.judged))

model = trained(run, seen, 0, folder / "training")
found = sampled(model, held, run, 0)
guessed = [[nearest_first(shelf)] * run.trials for shelf in held.shelves]
for name, paths in {"OAT": found, "nearest first": guessed}.items():
    scores = judged(paths, held)
    print(f"{name}: sequence score {scores['nw']:.2f}, delta of behaviour {scores['delta']:.2f}")
print(f"probability given to the next object: {foretold(model, held, run.side)['sim']:.2f}, by chance {1 / 19:.2f}")

shelf = held.shelves[0]
middles = (shelf.boxes()[:, :2] + shelf.boxes()[:, 2:]) / 2
paths = {"somebody": middles[held.paths[0][0]], "OAT": middles[found[0][0]]}
scanpath_figure(shelf.picture(), paths, boxes=shelf.boxes()[[shelf.target]]).savefig(folder / "search.svg")
print(f"drawn: {folder / 'search.svg'}")
