"""
Which layer of a network transfers?
===================================

A network that was trained on photographs of a thousand things is applied to handwritten digits.
Its last layer, which most feature extractors return, separates dogs from cats. An earlier layer
responds to strokes. This example compares all layers, for several numbers of labels.
"""

# %%
# scikit-learn's digits have 8 x 8 pixels. We draw 300 of them, and score each stage of
# EfficientNet-Lite0, whose weights come with pip, by a linear model. All layers are read in a
# single pass.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedCNNFeatures
from sktransfer.inspection import LayerProbeDisplay

digits = load_digits()
images, labels = digits.images / 16, digits.target

some, _ = train_test_split(np.arange(len(labels)), train_size=300, stratify=labels, random_state=0)
display = LayerProbeDisplay.from_estimator(
    PretrainedCNNFeatures(image_size=32), images[some], labels[some]
)
head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
pixels = images.reshape(len(images), 64)
raw = cross_val_score(head, pixels[some], labels[some]).mean()
display.ax_.axhline(raw, color="tab:red", linestyle=":", label=f"raw pixels: {raw:.2f}")
display.ax_.legend(loc="lower left")
display.ax_.set_title("300 digits: what a linear model reads off each layer")
print(display)
print(f"raw pixels   {raw:.4f}")

# %%
# Accuracy rises up to ``blocks.3``, in the middle, and then falls far below that of raw pixels:
# deep layers no longer represent strokes. ``layer="auto"`` picks its layer by LogME, which needs
# no training.
#
# The fewer labels there are, the more a good layer helps. We draw labelled sets of four sizes,
# five times each, and test on all other digits.

layers = ("blocks.3", "penultimate")
extractor = PretrainedCNNFeatures(image_size=32, layer=layers)
features = extractor.fit_transform(images)
candidates = {"raw pixels": pixels}
for layer, columns in extractor.feature_slices_.items():
    candidates[layer] = features[:, columns]

sizes = [30, 60, 120, 240]
curves = {name: np.empty((len(sizes), 5)) for name in candidates}
for i, n in enumerate(sizes):
    for seed in range(5):
        train, test = train_test_split(
            np.arange(len(labels)), train_size=n, stratify=labels, random_state=seed
        )
        for name, X in candidates.items():
            score = head.fit(X[train], labels[train]).score(X[test], labels[test])
            curves[name][i, seed] = score

fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, style in zip(candidates, ("s:", "o-", "v--"), strict=True):
    ax.plot(sizes, curves[name].mean(axis=1), style, label=name)
    ax.fill_between(sizes, curves[name].min(axis=1), curves[name].max(axis=1), alpha=0.15)
    print(name, curves[name].mean(axis=1).round(3))
ax.set_xscale("log")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.set_xlabel("labelled digits")
ax.set_ylabel("accuracy on the others")
ax.set_title("mean of five draws, and their range")
ax.legend()
ax.grid(alpha=0.3)

# %%
# The same network is better than pixels or much worse, depending on the layer. Search over it, or
# let ``layer="auto"`` choose.
