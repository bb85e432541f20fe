"""
Transfer that fails
===================

The source is digits, white on black. The target is the same kind of digits, black on white. Only
the sign has changed, and every method that uses pixels fails, mostly without a warning.
"""

# %%
# Half of scikit-learn's digits are the source. The other half is inverted, and has no labels.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedCNNFeatures
from sktransfer.adaptation import (
    CORAL,
    AdaptedClassifier,
    KernelMeanMatching,
    LabelPropagationClassifier,
    OptimalTransportMap,
    stack_domains,
)

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8) / 16
source, target = images[:900], 1 - images[900:]
y_source, y_target = labels[:900], labels[900:]

fig, axes = plt.subplots(2, 12, figsize=(9, 1.8), layout="constrained")
for row, (name, pictures) in zip(axes, (("source", source), ("target", target)), strict=True):
    for ax, picture in zip(row, pictures, strict=False):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
        ax.set_xticks([])
        ax.set_yticks([])
    row[0].set_ylabel(name)

# %%
# We predict the target in five ways: without adaptation, with weights, with two maps, and along a
# graph. First on pixels, then on features of a network that was trained on photographs. Target
# labels serve only for the scores.

extractor = PretrainedCNNFeatures(layer="blocks.3", image_size=32)
spaces = {
    "pixels": (source.reshape(900, 64), target.reshape(-1, 64)),
    "network features": (extractor.fit_transform(source), extractor.transform(target)),
}
head = LogisticRegression(C=0.1, max_iter=5000)
methods = {
    "source only": AdaptedClassifier(head, "source-only"),
    "kernel mean matching": AdaptedClassifier(head, KernelMeanMatching(bound=5)),
    "CORAL": AdaptedClassifier(head, CORAL()),
    "optimal transport": AdaptedClassifier(head, OptimalTransportMap("linear")),
    "label propagation": LabelPropagationClassifier(),
}
accuracy = {space: [] for space in spaces}
for space, (X_source, X_target) in spaces.items():
    scaler = StandardScaler().fit(X_source)
    X_source, X_target = scaler.transform(X_source), scaler.transform(X_target)
    X, y, sample_domain = stack_domains(X_source, X_target, y_source)
    for name, method in methods.items():
        method.fit(X, y, sample_domain=sample_domain)
        accuracy[space].append(method.score(X_target, y_target))
        print(f"{space:<17} {name:<21} {accuracy[space][-1]:.3f}")

# %%
# The same numbers as a plot:

fig, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
places = np.arange(len(methods))
for shift, (space, scores) in zip((-0.2, 0.2), accuracy.items(), strict=True):
    bars = ax.bar(places + shift, scores, 0.38, label=space)
    ax.bar_label(bars, fmt="%.2f", fontsize=8)
ax.axhline(0.1, color="0.3", linestyle="--", linewidth=1, label="chance")
ax.set_xticks(places, [name.replace(" ", "\n", 1) for name in methods])
ax.set_ylabel("accuracy on the target")
ax.set_ylim(0, 1.2)
ax.legend(loc="upper center", ncols=3)

# %%
# On pixels nothing works. Three methods are about at chance; the two maps do worse, and recognise
# hardly any digit. They match means and covariances, as they should - but of the wrong classes,
# which unlabelled rows cannot reveal.
#
# Other *features* help. The network responds to strokes of any colour, and without adaptation a
# classifier recognises most digits. Now that classes are near the right positions, maps and label
# propagation improve the result. Weights do harm: few source rows resemble target rows, and these
# are no better to learn from.
#
# So begin with a good representation, and keep a few target labels to measure with.
