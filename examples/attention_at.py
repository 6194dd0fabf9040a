"""Train a small classifier plainly and against perturbed attention; see what an attack leaves, and what attention says.

python examples/attention_at.py
"""

from pathlib import Path
from tempfile import mkdtemp

import torch

from saccade.analysis.attention_importance import attacked, judged
from saccade.experiments.sentences import SentenceRun, corpus, trained_classifier
from saccade.nn.classification import predicted

texts = corpus("planted")
run = SentenceRun(corpus="planted", width=16, hidden=16, steps=80, batch=32, rate=1e-2)
for name, method in {"plain": "", "AT": "attention_at(eps=5.0)", "iAT": "attention_at(kind='iat', eps=5.0)"}.items():
    model = trained_classifier(run, method, texts.train, 0, Path(mkdtemp()))
    found = judged(model, texts.test)
    right = torch.cat([predicted(moved) == labels for labels, _, moved in attacked(model, texts.test, 5.0)])
    print(
        f"{name}: accuracy {found['accuracy']:.2f}, {right.float().mean():.2f} under attack; attention and gradients "
        f"correlate by {found['pearson']:.2f}, {found['precision']:.0%} of the top words decide"
    )
