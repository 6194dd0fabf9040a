"""Train a small DiffEye on made observers of three discs, sample new ones, and compare them with people and each other.

python examples/diffeye.py
"""

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from matplotlib.figure import Figure

from saccade.data.discs import DiscViews, disc_gaze
from saccade.experiments import fitted
from saccade.metrics.trajectories import VelocityThreshold, consistency, dtw, matrix, mean_best
from saccade.papers import ColourEdges, DiffEye, DiffEyePipeline, GazeSource
from saccade.papers.diffeye.drawing import draw_saliency, draw_scanpath, draw_trajectories, speed_histogram
from saccade.train.denoising import ArchitectureStage
from saccade.train.loop import Fit
from saccade.train.objectives import Ddpm
from saccade.train.optimisers import Optim

gaze = disc_gaze(56, 4, views=DiscViews(length=32))
encoder = ColourEdges(grid=(8, 8), pixels=(64, 64), edges=False)
source = GazeSource.of_gaze(gaze.split("train"), encoder, length=32)
model = DiffEye(
    length=32, width=32, stages=(32, 32), blocks=1, heads=2, groups=8,
    features=encoder.features, grid=encoder.grid, pixels=encoder.pixels,
)  # fmt: skip
fit = Fit(steps=40, precision="no", decay=0.9, optim=Optim(kind="adamw", lr=3e-3))
fitted(model, source, ArchitectureStage(fit=fit, batch=16), Path(mkdtemp()), Ddpm())

held, detect = gaze.split("held-out"), VelocityThreshold(rate=60.0, shortest_ms=30.0)
name = held.names[0]
picture, people = held.picture(name), held.trajectories[name]
seen = DiffEyePipeline(model, encoder)([picture[0]], observers=4, steps=10, generator=torch.Generator().manual_seed(0))
made = list(seen.trajectories(0))
print(f"DTW of people among themselves: {consistency(people, dtw).mean:.0f} pixels")
print(f"DTW of sampled observers to people: {mean_best(matrix(made, people, dtw)).mean:.0f} after 40 steps of training")

figure = Figure(figsize=(12, 3), layout="constrained")
axes = figure.subplots(1, 4)
draw_trajectories(axes[0], picture, people, "people")
draw_trajectories(axes[1], picture, made, "sampled")
draw_scanpath(axes[2], picture, detect(people[0]).scanpath, "a scanpath")
speed_histogram(axes[3], {"people": people, "sampled": made})
figure.savefig(Path(mkdtemp()) / "diffeye.png")

panel = Figure().subplots()
draw_saliency(panel, picture, np.asarray(seen.saliency(detect, sigma=4.0)))
