"""
Who is speaking? Series of unequal length
=========================================

Nine men say the vowel "ae". Each utterance is a series of 7 to 29 steps with twelve channels. An
LSTM that was trained only on synthetic series - sines, squares, random walks - turns each into a
vector.
"""

# %%
# The data set is JapaneseVowels, which comes with aeon: 270 utterances for training, 370 for
# testing. X is a list of arrays of unequal length.

import matplotlib.pyplot as plt
import numpy as np
from aeon.datasets import load_japanese_vowels
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer import RNNSequenceFeatures
from sktransfer.inspection import EmbeddingDisplay

train, y_train = load_japanese_vowels(split="train")
test, y_test = load_japanese_vowels(split="test")
train, test = [x.T for x in train], [x.T for x in test]  # (steps, channels)

fig, axes = plt.subplots(3, 6, figsize=(9, 3.6), sharey=True, layout="constrained")
for column, speaker in zip(axes.T, ["1", "2", "3", "4", "5", "6"], strict=True):
    for ax, i in zip(column, np.flatnonzero(y_train == speaker), strict=False):
        ax.imshow(train[i].T, aspect="auto", cmap="RdBu_r", vmin=-1.5, vmax=1.5)
        ax.set_xlim(-0.5, 28.5)
        ax.set_xticks([])
        ax.set_yticks([])
    column[0].set_title(f"speaker {speaker}", fontsize=9)
fig.supxlabel("step", fontsize=9)
fig.supylabel("channel", fontsize=9)

# %%
# We compare three representations, each with a ridge classifier: series padded with zeros; mean
# and standard deviation of each channel, which an expert would try first; and the features of the
# recurrent network.


def padded(series):
    return np.array([np.pad(x, ((0, 29 - len(x)), (0, 0))).ravel() for x in series])


def summarised(series):
    return np.array([np.append(x.mean(axis=0), x.std(axis=0)) for x in series])


tables = {
    "padded with zeros": FunctionTransformer(padded),
    "means and deviations": FunctionTransformer(summarised),
    "recurrent features": RNNSequenceFeatures(),
}
ridge = RidgeClassifierCV(np.logspace(-3, 5, 9))
sizes = [18, 45, 90, 180, 270]
y_all = np.array(y_train)
fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for (name, table), marker in zip(tables.items(), "sdo", strict=True):
    A, B = table.fit_transform(train), table.transform(test)
    means = []
    for n in sizes:
        splits = StratifiedShuffleSplit(5, train_size=n, random_state=0) if n < 270 else None
        draws = [rows for rows, _ in splits.split(A, y_all)] if splits else [np.arange(270)]
        models = [make_pipeline(StandardScaler(), ridge).fit(A[r], y_all[r]) for r in draws]
        means.append(np.mean([model.score(B, y_test) for model in models]))
    ax.plot(sizes, means, marker=marker, label=f"{name} ({A.shape[1]:,})")
    print(f"{name:<21}", np.round(means, 3))
ax.set_xscale("log")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.set_xlabel("utterances with a label")
ax.set_ylabel("accuracy on 370 others")
ax.legend(title="(number of features)")
ax.grid(alpha=0.3)

# %%
# The features of the test utterances on a plane. The network was never trained on a voice:

features = RNNSequenceFeatures().fit(train)
EmbeddingDisplay.from_estimator(features, test, y_test, method="tsne", random_state=0)

# %%
# All three are good when all utterances have labels, since means over time tell much about a
# voice. The fewer labels there are, the larger the advantage of the recurrent features. They are
# many, which a ridge classifier copes with.
