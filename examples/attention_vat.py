"""Forty labelled sentences, two thousand without labels: what smoothing attention without labels adds.

python examples/attention_vat.py
"""

from pathlib import Path
from tempfile import mkdtemp

from saccade.analysis.attention_importance import judged
from saccade.experiments.sentences import SentenceRun, corpus, trained_classifier

texts = corpus("planted")
labelled, unlabelled = texts.train.take(slice(0, 40)), texts.other.unlabelled()
run = SentenceRun(corpus="planted", width=16, hidden=16, steps=80, batch=16, rate=1e-2)
for name, method, more in (
    ("supervised", "", None),
    ("VAT", "attention_vat(eps=5.0)", None),
    ("VAT, unlabelled text too", "attention_vat(eps=5.0)", unlabelled),
    ("iVAT, unlabelled text too", "attention_vat(kind='ivat', eps=5.0)", unlabelled),
):
    found = judged(trained_classifier(run, method, labelled, 0, Path(mkdtemp()), more), texts.test)
    print(f"{name}: accuracy {found['accuracy']:.2f}; attention ranks the evidence with {found['auprc']:.2f} precision")
