"""
Weights for rows that were not drawn at random
==============================================

Patients of one clinic are rarely a random sample of all patients. If admission depends on what
was measured, but the diagnosis given the measurements does not, this is covariate shift, and
weighting rows is the textbook remedy. When does it help?
"""

# %%
# The data are five measurements of Wisconsin's breast cancer data. Half of the patients, drawn at
# random, are for testing. In the other half, the smaller the tumour, the more likely a patient is
# admitted.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import root_mean_squared_error
from sklearn.preprocessing import StandardScaler

from sktransfer.adaptation import (
    KLIEP,
    ULSIF,
    AdaptedClassifier,
    AdaptedRegressor,
    KernelMeanMatching,
    stack_domains,
)

cancer = load_breast_cancer()
names = ["mean radius", "mean texture", "mean smoothness", "mean symmetry", "mean compactness"]
columns = [list(cancer.feature_names).index(name) for name in names]
X_all = StandardScaler().fit_transform(np.log(cancer.data[:, columns]))
y_all = cancer.target


def draw(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y_all))
    target, pool = order[:284], order[284:]
    chance = 1 / (1 + np.exp(2 * X_all[pool, 0]))
    return pool[rng.random(len(pool)) < chance], target


# %%
# We begin with a wrong model: a straight line from radius to area, which grows with the square of
# the radius. The best line for the small tumours that were admitted is not the best for all
# patients. Weights make the source resemble the target.

source, target = draw(0)
radius, area = cancer.data[:, :1], cancer.data[:, 3]
X, y, sample_domain = stack_domains(radius[source], radius[target], area[source])
lines = {
    "source only": AdaptedRegressor(LinearRegression(), "source-only"),
    "weights by KLIEP": AdaptedRegressor(LinearRegression(), KLIEP(random_state=0)),
}
fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
ax.scatter(radius[target, 0], area[target], s=10, color="0.75", label="target, unknown")
grid = np.array([[7.0], [25.0]])
for (name, line), colour in zip(lines.items(), ("tab:red", "tab:blue"), strict=True):
    line.fit(X, y, sample_domain=sample_domain)
    error = root_mean_squared_error(area[target], line.predict(radius[target]))
    print(f"{name:<17} error on the target {error:6.1f}")
    ax.plot(grid, line.predict(grid), color=colour, label=f"{name}: error {error:.0f}")
best = LinearRegression().fit(radius[target], area[target])
error = root_mean_squared_error(area[target], best.predict(radius[target]))
print(f"{'best line':<17} error on the target {error:6.1f}")
ax.plot(grid, best.predict(grid), "k:", label=f"best line for the target: {error:.0f}")
weights = lines["weights by KLIEP"].method_.sample_weight_[: len(source)]
ax.scatter(radius[source, 0], area[source], s=15 * weights, color="tab:blue", alpha=0.6)
ax.set_xlabel("mean radius")
ax.set_ylabel("mean area")
ax.set_title("the area of a blue point is its weight", fontsize=10)
ax.legend(loc="upper left")

# %%
# Now we take a model that is about right: a logistic regression for the diagnosis from five
# measurements. In thirty draws, we compare its results with and without weights.

methods = {
    "kernel mean matching": KernelMeanMatching(bound=10),
    "KLIEP": KLIEP(random_state=0),
    "uLSIF": ULSIF(random_state=0),
}
gains = {name: [] for name in methods}
plain = []
for seed in range(30):
    source, target = draw(seed)
    X, y, sample_domain = stack_domains(X_all[source], X_all[target], y_all[source])
    base = AdaptedClassifier(LogisticRegression(), "source-only")
    base = base.fit(X, y, sample_domain=sample_domain).score(X_all[target], y_all[target])
    plain.append(base)
    for name, method in methods.items():
        model = AdaptedClassifier(LogisticRegression(), method)
        model.fit(X, y, sample_domain=sample_domain)
        gains[name].append(model.score(X_all[target], y_all[target]) - base)
print(f"accuracy without weights: {np.mean(plain):.3f}")
for name, gain in gains.items():
    print(f"{name:<21} {np.mean(gain):+.4f}, better in {np.sum(np.array(gain) > 0)} of 30 draws")

fig, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
ax.boxplot(list(gains.values()), orientation="horizontal", tick_labels=list(gains), widths=0.5)
ax.axvline(0, color="tab:red", linestyle=":")
ax.set_xlabel("gain in accuracy over no weights, 30 draws")

# %%
# If the model is wrong, weights move its errors away from the target, which helps much. If it is
# about right everywhere, weights help very little on average and do harm in many draws, since
# they leave fewer rows to learn from. Kernel mean matching, the least smooth of the three, is
# worse than no weights. Check ``effective_sample_size_`` before you trust weights.
