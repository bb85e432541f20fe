"""
PCA, LDA and ICA after deep features
====================================

The output of a network is a table like any other, so that everything in scikit-learn may follow.
This example applies three classical projections to the same 80 features of handwritten digits.
"""

# %%
# We fit each projection to 400 digits and draw the 1,397 others, so that the plots do not show
# overfitting. LDA uses the labels of the 400; PCA and ICA do not.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FastICA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedCNNFeatures

digits = load_digits()
images, labels = digits.images / 16, digits.target
features = PretrainedCNNFeatures(layer="blocks.3", image_size=32).fit_transform(images)
train, test = np.arange(400), np.arange(400, len(labels))


def reducer(kind, k):
    if kind == "PCA":
        return PCA(k)
    if kind == "LDA":
        return LinearDiscriminantAnalysis(n_components=k, solver="eigen", shrinkage=0.1)
    return FastICA(k, max_iter=1000, tol=1e-2, random_state=0)


fig, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
colours = plt.get_cmap("tab10")
for ax, kind in zip(axes, ("PCA", "LDA", "ICA"), strict=True):
    projection = make_pipeline(StandardScaler(), reducer(kind, 2))
    projection.fit(features[train], labels[train])
    points = projection.transform(features[test])
    ax.scatter(*points.T, c=labels[test], cmap=colours, vmin=-0.5, vmax=9.5, s=7, alpha=0.5)
    for digit in range(10):
        x, y = np.median(points[labels[test] == digit], axis=0)
        ax.text(x, y, digit, fontsize=15, weight="bold", ha="center", va="center").set_bbox(
            {"facecolor": "white", "edgecolor": colours(digit), "boxstyle": "circle", "alpha": 0.8}
        )
    neighbours = make_pipeline(projection, KNeighborsClassifier(5))
    accuracy = neighbours.fit(features[train], labels[train]).score(features[test], labels[test])
    ax.set_title(f"{kind}: five neighbours on the plane are right in {accuracy:.0%}", fontsize=10)
    ax.set_xticks([])
    ax.set_yticks([])

# %%
# Ten classes overlap on a plane, and nearest neighbours are wrong nearly half the time. PCA and
# ICA find the same plane: ICA rotates it and gives both axes the same variance. How many
# components do nearest neighbours need?

components = [2, 4, 6, 9, 15, 30]
fig, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for kind, marker in (("PCA", "o"), ("LDA", "s"), ("ICA", "^")):
    scores = []
    for k in components:
        if kind == "LDA" and k > 9:  # one less than there are classes
            continue
        model = make_pipeline(StandardScaler(), reducer(kind, k), KNeighborsClassifier(5))
        model.fit(features[train], labels[train])
        scores.append(model.score(features[test], labels[test]))
    ax.plot(components[: len(scores)], scores, marker=marker, label=kind)
    print(kind, np.round(scores, 3))
everything = make_pipeline(StandardScaler(), KNeighborsClassifier(5))
everything = everything.fit(features[train], labels[train]).score(features[test], labels[test])
print("all 80 features", round(everything, 3))
ax.axhline(everything, color="0.4", linestyle="--", label="all 80 features")
ax.set_xlabel("components")
ax.set_ylabel("accuracy of five neighbours")
ax.legend()
ax.grid(alpha=0.3)

# %%
# With nine components, one less than there are classes, LDA is as good as all 80 features. It can
# have no more, and is the projection to use if there are labels. PCA needs thirty for the same
# accuracy. ICA gives components of little variance the same weight as the others, which harms
# nearest neighbours here.
