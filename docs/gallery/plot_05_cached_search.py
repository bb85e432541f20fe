"""
A grid search that costs one pass per image
===========================================

scikit-learn's ``GridSearchCV`` fits a pipeline once per candidate and fold. If the pipeline holds
a network, the same image passes through it again and again. This example counts the passes.
"""

# %%
# Three layers, two poolings and three penalties, in three folds: 54 fits. ``n_forward_`` of a
# transformer tells how many images went through its network, and the store counts for all.

import tempfile

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FeatureStore, PretrainedCNNFeatures

digits = load_digits()
images, labels = digits.images[:200] / 16, digits.target[:200]
grid = {
    "features__layer": ["blocks.2", "blocks.3", "blocks.4"],
    "features__pooling": ["mean", "max"],
    "head__alpha": [1, 100, 10_000],
}


class CountingFeatures(PretrainedCNNFeatures):
    """Adds up what all its copies have run."""

    total = 0

    def transform(self, X):
        before = self.n_forward_
        features = super().transform(X)
        CountingFeatures.total += self.n_forward_ - before
        return features


def count(cache=None, memory=None):
    CountingFeatures.total = 0
    pipeline = Pipeline(
        [
            ("features", CountingFeatures(image_size=32, engine="torch", cache=cache)),
            ("scale", StandardScaler()),
            ("head", RidgeClassifier()),
        ],
        memory=memory,
    )
    search = GridSearchCV(pipeline, grid, cv=3, refit=False).fit(images, labels)
    return CountingFeatures.total / len(images), search


with tempfile.TemporaryDirectory() as memory, tempfile.TemporaryDirectory() as folder:
    passes = {"plain Pipeline": count()[0], "Pipeline(memory=...)": count(memory=memory)[0]}
    store = FeatureStore(folder)
    passes["cache=FeatureStore(...)"], search = count(cache=store)
    passes["the same search again"] = count(cache=store)[0]
    vectors = store.info()["vectors"]
for name, n in passes.items():
    print(f"{name:<24} {n:6.2f} passes per image")
print(f"the store holds {vectors} vectors of {len(images)} images")
print(search.best_params_, round(search.best_score_, 3))

# %%
# The same numbers as a plot:

fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
bars = ax.barh(list(passes), list(passes.values()), color=["0.6", "0.6", "tab:blue", "tab:blue"])
ax.bar_label(bars, fmt="%.0f", padding=4)
ax.invert_yaxis()
ax.set_xlabel("passes of each image through the network")
ax.set_xlim(0, 1.1 * max(passes.values()))
ax.spines[["top", "right"]].set_visible(False)

# %%
# ``Pipeline(memory=...)`` keeps the output of a step for its training fold, so that candidates
# with another head find it again; the rows of the test fold pass through the network every time.
# The store keeps vectors of single images, whatever fold they are in, by their content: the
# second search, which may be in another process, computes nothing. A pass stores the average and
# maximum of *every* stage, so that a search over more layers would cost no more.
